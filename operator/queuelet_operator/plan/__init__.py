"""Decisions of the operator, as pure functions: no I/O, no clock.

Start with `reconcile.py`, which returns the next step for one object. `deletion.py` returns the steps for an object
that is being deleted, `conditions.py` decides the status, and `events.py` the Events. They work on a `Situation`
(`situation.py`), and `model.py` defines the types that they share. `resources.py`, `status.py`, `observed.py` and
`declared.py` convert Queues, statuses and queues of the server.
"""

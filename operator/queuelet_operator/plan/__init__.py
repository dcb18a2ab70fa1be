"""Decisions of the operator, as pure functions: no I/O, no clock.

Begin with `reconcile.py`: the next step for one object. `deletion.py` has the steps of an object that goes,
`conditions.py` what its status says, `events.py` what is reported as Events, and `model.py` the words of them all.
`resources.py`, `status.py`, `observed.py` and `declared.py` read and write Queues, statuses and the server's queues.
"""

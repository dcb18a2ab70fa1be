"""The operator: makes the queues of a server match `Queue` objects, through `queuelet.client` like any other client.

`plan/` decides, the rest acts. `operator.py` is the process with its `settings.py`, `health.py` and `metrics.py`.
`leader.py` waits for the Lease, `class_keeper.py` keeps the queue class by its `class_claim.py`, `watch.py` reads
objects by kopf, and `packed_tags.py` keeps their tags small. `controller.py` takes keys from `workqueue.py` and does
the next step of each by `actions.py`: on the server (`server_link.py`), on objects (`kubernetes_api.py`) and as
Events (`event_recorder.py`, bounded by `token_buckets.py`). `deletion_context.py` finds what a deletion waits for.
"""

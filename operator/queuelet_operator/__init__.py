"""The operator: makes the queues of a server match `Queue` objects. It uses `queuelet.client` like any other client.

`plan/` decides, and the other modules act. `operator.py` is the process, with `settings.py`, `health.py` and
`metrics.py`. `leader.py` acquires the Lease, `class_keeper.py` holds the queue class (`class_claim.py`), `watch.py`
feeds objects from kopf to the controller, and `packed_tags.py` stores their tags compactly. `controller.py` takes keys
from `workqueue.py` and executes the next step of each with `actions.py`: on the server (`server_link.py`, which fills
`queue_cache.py`), on objects (`kubernetes_api.py`) and as Events (`event_recorder.py`, rate-limited by
`token_buckets.py`). `entry.py` is what both know of an object. `deletion_context.py` looks up whether a deletion may
give up on the server. `credentials.py` reports when the certificates for the server expire.
"""

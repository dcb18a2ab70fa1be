"""The handlers: one short function per RPC, from request bytes to response bytes.

`service.py` has the tables that list them. `adding.py` has the RPCs that add messages, `messages.py` those that remove
or show the first ones. `queues.py`, `leases.py`, `browse.py`, `purge.py`, `history.py`, `redrive.py`, `tail.py` and
`watch.py` have the RPCs of those names; `consume.py` has the Consume stream, with its `heartbeat.py`, and
`consumers.py` lists consumers. `long_poll.py` waits for a message, and gives a retried call its first response
(`ResponseCache.take_once`). `durability.py` waits for a commit.
"""

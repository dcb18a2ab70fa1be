"""Forwarding: several servers share the queues of a database, and each serves any queue by calling its owner.

`table.py` decides for each method who serves it. `unary.py` and `streams.py` forward calls that name one queue.
`declaring.py` splits calls that name several, and `listing.py`, `stats.py` and `watching.py` are about all queues; they
call all owners by `fan_in.py`, and `stores.py` joins what these report of the store. `places.py` finds the shard of a
queue, and waits while it has no owner. `owned.py` has the queues of this server by shard. `peers.py` calls other
servers, and `origin.py` has what such a call carries about the client that it came from.
"""

"""The rules of queues, without a clock, a network or a disk.

Begin with `queue.py`: a queue and the order of its calls. `states.py` has the states of a message and the ways
between them, `order.py` the order in which messages leave, `expiry.py`, `delays.py` and `leases.py` the times at
which states change, all on the heap of `deadlines.py`. `waiting.py` has calls that wait, `consumers.py` exclusive
consumers, and `request_ids.py` the responses that are stored for retries. `manager.py` has the queues of a server,
and `alarms.py` their next due times. `stored_form.py` encodes a message once, `plain_batch.py` many at once, and
`message.py` has what is known of one beside its bytes. `storage.py` is what a store must do. `budget.py` counts
memory, `tokens.py` numbers that only grow, `refusals.py` has error texts, and `browsing.py` reads messages in any
state.
"""

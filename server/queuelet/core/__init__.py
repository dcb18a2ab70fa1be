"""The rules of queues. Nothing here reads a clock or does I/O.

Start with `queue.py`: a queue and the order of its calls. `intake.py` adds messages, and has the Adds that wait for
room. `states.py` has the states of a message and the transitions between them, including the end of a lease, `order.py`
the order in which messages are delivered, and `expiry.py`, `delays.py` and `leases.py` the times at which states
change, all with the heap of `deadlines.py`. `waiting.py` has the lines of calls that wait, `waiters.py` their maximum,
`consumers.py` the exclusive consumer, and `request_ids.py` the responses that are stored for retries. `host.py` says
what these parts know of their queue. `manager.py` has the queues of a server, `declarations.py` decides who may declare
and remove them, `alarms.py` their next due times, and `removed_owners.py` the owners whose queues were removed
recently. `stored_form.py` encodes one message and the history of its failed tries, of which it keeps the last 20
(`HISTORY`), `plain_batch.py` encodes many at once, and `message.py` has the metadata of messages. `storage.py` is the
interface of stores. `budget.py` counts memory and refuses Adds above the watermark, `tokens.py` hands out increasing
numbers, `refusals.py` has error texts, `browsing.py` reads messages in any state, and `tailing.py` samples what happens
to them. `history.py` has the numbers of queues over time.
"""

"""What durable stores share: all except the database.

Writing is a group commit. The queue runs on the event loop's thread: a call on `DurableMessages` (`messages.py`)
changes memory at once and records the change in the open `Group` (`groups.py`). The `CommitLoop` (`commits.py`) has the
`Backend` (`backend.py`) write a group as one transaction, and then completes every call that waits for that group.
While a group is being written the next one fills, so under load many calls share a transaction. `schedule.py` has the
states of the backend, and decides when to commit, checkpoint, reclaim space or reopen. Messages are read through a
`Reader` (`reader.py`), so a backlog takes no memory except for a window of messages at the head of the queue
(`window.py`).

`store.py` has the queues of a store and its life. A transaction's rows are in a `Batch` (`batch.py`); `rows.py`
converts between rows and values, and `checksums.py` computes their checksums. `places.py` has the keys of messages,
`loaded.py` what a store loads when it is opened. `damage.py` stands for a message whose row is damaged, and
`histograms.py` has the statistics of transactions.
"""

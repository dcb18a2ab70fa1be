"""What durable stores share: group commit, the window of a queue, and the rows that they store.

`groups.py` gathers the changes of many calls in a group, which is written as one transaction: a `Batch` (`batch.py`) of
rows that `rows.py` converts from values, with the checksums of `checksums.py`. `places.py` has the keys of messages.
`window.py` has the messages at the head of a queue that are held in memory. `schedule.py` decides when to commit,
checkpoint, reclaim space or reopen. `loaded.py` has what a store loads when it is opened, `damage.py` stands for a
message whose row is damaged, and `histograms.py` has the statistics of transactions.
"""

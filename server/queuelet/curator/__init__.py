"""Queues that Apache Curator keeps in ZooKeeper, and their way into a queue of ours.

`items.py` and `names.py` know Curator's formats, `messages.py` makes messages of what they say, `transfer.py` moves
it all, and `zookeeper.py` is the only module that talks to ZooKeeper, by kazoo. The first four neither wait nor know
a socket.

Formats and order are those of Curator's own sources: ItemSerializer, DistributedQueue, DistributedPriorityQueue,
DistributedDelayQueue, DistributedIdQueue and SimpleDistributedQueue in `org.apache.curator.framework.recipes.queue`.
"""

"""Imports the queues that Apache Curator stores in ZooKeeper.

`items.py` and `names.py` parse Curator's formats, `messages.py` converts nodes to messages, `transfer.py` moves them,
and `zookeeper.py` is the only module that talks to ZooKeeper, through kazoo. The first four do no I/O.

Formats and order follow Curator's own sources: ItemSerializer, DistributedQueue, DistributedPriorityQueue,
DistributedDelayQueue, DistributedIdQueue and SimpleDistributedQueue in `org.apache.curator.framework.recipes.queue`.
"""

"""The table of all RPCs."""

from __future__ import annotations

from queuelet.compat import q_pb2
from queuelet.core.history import Histories
from queuelet.core.manager import Manager
from queuelet.errors import ServerDraining
from queuelet.server.directory import Directory
from queuelet.server.endpoint import Method
from queuelet.server.handlers.adding import AddRpcs
from queuelet.server.handlers.browse import BrowseRpcs
from queuelet.server.handlers.consume import ConsumeRpcs
from queuelet.server.handlers.consumers import ConsumersRpcs
from queuelet.server.handlers.history import HistoryRpcs
from queuelet.server.handlers.leases import LeaseRpcs
from queuelet.server.handlers.long_poll import LongPoll
from queuelet.server.handlers.messages import MessageRpcs
from queuelet.server.handlers.purge import PurgeRpcs
from queuelet.server.handlers.queues import QueueRpcs
from queuelet.server.handlers.redrive import RedriveRpcs
from queuelet.server.handlers.tail import TailRpcs
from queuelet.server.handlers.watch import WatchRpcs
from queuelet.server.lifecycle import Lifecycle
from queuelet.wire.errors import NEGZ_SERVICE, SERVICE

_NEGZ_METHODS = frozenset(q_pb2.DESCRIPTOR.services_by_name["Q"].methods_by_name)


class Service:
    """The RPCs over the queues of a manager."""

    def __init__(
        self, manager: Manager, lifecycle: Lifecycle, *, started: int, directory: Directory | None = None
    ) -> None:
        """Make the handlers.

        Args:
            manager: the queues.
            lifecycle: the server's lifecycle.
            started: when the server started, in nanoseconds since 1970.
            directory: the servers that share the queues; None if this server shares them with none.
        """
        self._manager = manager
        self._lifecycle = lifecycle
        self._queues = QueueRpcs(manager, started=started, directory=directory)
        long_poll = LongPoll(lifecycle)
        self._adding = AddRpcs(manager, lifecycle)
        self._messages = MessageRpcs(manager, long_poll)
        self._leases = LeaseRpcs(manager, long_poll)
        self._consume = ConsumeRpcs(manager)
        self._browse = BrowseRpcs(manager)
        self._purge = PurgeRpcs(manager)
        self._redrive = RedriveRpcs(manager)
        self._watch = WatchRpcs(manager)
        self._consumers = ConsumersRpcs(manager)
        self._tail = TailRpcs(manager)
        self.histories = Histories(manager.bounds.history_bytes, manager.budget)
        """The histories of the queues, which `HistorySampler` records."""
        self._history = HistoryRpcs(manager, self.histories)

    def tables(self) -> dict[str, list[Method]]:
        """Return the methods by service: Queuelet's has all of them, and negz/q's those of its .proto file."""
        queues, adding, messages, leases = self._queues, self._adding, self._messages, self._leases
        methods = [
            Method(name="ListQueues", event="list queues", unary=queues.list_queues),
            Method(name="NewQueue", event="add queue", unary=queues.new_queue),
            Method(name="GetQueue", event="get queue", unary=queues.get_queue),
            Method(name="DeleteQueue", event="delete queue", unary=queues.delete_queue),
            Method(name="AddQueueTag", event="add queue tag", unary=queues.add_queue_tag),
            Method(name="DeleteQueueTag", event="delete queue tag", unary=queues.delete_queue_tag),
            Method(name="Add", event="add", unary=adding.add),
            Method(name="Pop", event="pop", unary=messages.pop),
            Method(name="Peek", event="peek", unary=messages.peek),
            Method(name="AddBatch", event="add batch", unary=adding.add_batch),
            Method(name="PopBatch", event="pop batch", unary=messages.pop_batch),
            Method(name="PeekBatch", event="peek batch", unary=messages.peek_batch),
            Method(name="Receive", event="receive", unary=leases.receive),
            Method(name="Ack", event="ack", unary=leases.ack),
            Method(name="Nack", event="nack", unary=leases.nack),
            Method(name="Extend", event="extend", unary=leases.extend),
            Method(name="Consume", event="consume", stream=self._consume.consume),
            Method(name="Redrive", event="redrive", stream=self._redrive.redrive),
            Method(name="Browse", event="browse", unary=self._browse.browse),
            Method(name="Purge", event="purge", unary=self._purge.purge),
            Method(name="DeclareQueues", event="declare queues", unary=queues.declare_queues),
            Method(name="RemoveQueues", event="remove queues", unary=queues.remove_queues),
            Method(name="WatchQueues", event="watch queues", stream=self._watch.watch_queues),
            Method(name="GetStats", event="get stats", unary=queues.get_stats),
            Method(name="ListConsumers", event="list consumers", unary=self._consumers.list_consumers),
            Method(name="GetHistory", event="get history", unary=self._history.get_history),
            Method(name="Tail", event="tail", stream=self._tail.tail),
        ]
        return {SERVICE: methods, NEGZ_SERVICE: [method for method in methods if method.name in _NEGZ_METHODS]}

    def stop(self) -> None:
        """Refuse calls from now on, and end every waiting call and every stream with UNAVAILABLE."""
        self._lifecycle.stop()
        self._manager.end_waiting(ServerDraining())

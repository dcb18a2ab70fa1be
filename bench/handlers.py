"""The handlers of our server without a transport, from request bytes to response bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from queuelet.bounds import Bounds
from queuelet.core.budget import MemoryBudget
from queuelet.core.manager import Manager
from queuelet.core.tokens import Tokens
from queuelet.definition import StoreKind
from queuelet.server.endpoint import Endpoint
from queuelet.server.handlers.service import Service
from queuelet.server.latency import Latencies
from queuelet.server.lifecycle import Lifecycle
from queuelet.stores.memory import MemoryStore
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE

Handler = Callable[[bytes], object]
Handlers = Mapping[str, Handler]


class FakeCall:
    """A call without a deadline."""

    service = SERVICE
    peer = "bench"
    peer_host = "bench"
    owner = ""
    seconds_left = None
    metadata: Mapping[str, str] = {}


def our_handlers() -> tuple[Handlers, str]:
    """Return our server's methods as functions from request bytes to response bytes, and the ID of a queue."""
    budget = MemoryBudget(1 << 50)
    stores = {StoreKind.MEMORY: MemoryStore(budget)}
    manager = Manager(stores, bounds=Bounds(), budget=budget, tokens=Tokens(1))
    lifecycle, latencies = Lifecycle(), Latencies()
    call = FakeCall()

    def bound(endpoint: Endpoint) -> Handler:
        unary = endpoint.unary
        return lambda request: unary(request, call)

    table = Service(manager, lifecycle, started=0).tables()[SERVICE]
    endpoints = [Endpoint(SERVICE, method, lifecycle=lifecycle, latencies=latencies) for method in table]
    handlers = {endpoint.method.name: bound(endpoint) for endpoint in endpoints}
    response = handlers["NewQueue"](pb.NewQueueRequest(store=pb.Queue.MEMORY, limit=1_000_000_000).SerializeToString())
    assert isinstance(response, bytes)
    return handlers, pb.NewQueueResponse.FromString(response).queue.meta.id

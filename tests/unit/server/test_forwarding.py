"""Two servers, each with some shards, over real gRPC. A fixed directory stands for the one in a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message

from queuelet.bounds import Bounds
from queuelet.core.budget import MemoryBudget
from queuelet.core.manager import Manager
from queuelet.core.queue import Queue
from queuelet.core.tokens import Tokens
from queuelet.definition import StoreKind
from queuelet.errors import InvalidArgument, ShardMoved
from queuelet.server.directory import HERE, ServerEntry, ShardEntry, shard_of
from queuelet.server.endpoint import Endpoint
from queuelet.server.forwarding.listing import key_from_token, merged, token_of
from queuelet.server.forwarding.peers import Peers, PeerSettings
from queuelet.server.forwarding.table import Forwarding
from queuelet.server.grpc_transport import GrpcTransport
from queuelet.server.handlers.service import Service
from queuelet.server.incoming import IncomingLimit
from queuelet.server.latency import Latencies
from queuelet.server.lifecycle import Lifecycle
from queuelet.stores.memory import MemoryStore
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import NEGZ_SERVICE, SERVICE, STATUS_DETAILS, error_of
from queuelet.wire.forwarding import FORWARDED, OWNER

SHARDS = 4

Metadata = tuple[tuple[str, str], ...]


class _Directory:
    """Which of the servers owns which shard, as a test says."""

    def __init__(self) -> None:
        self.owners: dict[int, str | None] = {}
        self._changed = asyncio.Event()
        self.ids: dict[str, int] = {}

    @property
    def count(self) -> int:
        return SHARDS

    def shard_of_name(self, name: str) -> int:
        return shard_of(name, SHARDS)

    async def shard_of_id(self, queue_id: str) -> int | None:
        await asyncio.sleep(0)
        return self.ids.get(queue_id)

    def owner(self, shard: int) -> str | None:
        return self.owners.get(shard)

    def move(self, shard: int, owner: str | None) -> None:
        self.owners[shard] = owner
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        await self._changed.wait()

    def servers(self) -> Sequence[ServerEntry]:
        return ()

    def shards(self) -> Sequence[ShardEntry]:
        return [ShardEntry(shard=shard, owner=owner, epoch=1) for shard, owner in self.owners.items()]


class _Server:
    """One server with queues in memory, which it takes for those of its shards."""

    def __init__(self) -> None:
        bounds, budget = Bounds(), MemoryBudget(1 << 40)
        self.manager = Manager(
            {StoreKind.MEMORY: MemoryStore(budget)}, bounds=bounds, budget=budget, tokens=Tokens(1), now=1
        )
        self.directory = _Directory()
        self.lifecycle = Lifecycle()
        service = Service(self.manager, self.lifecycle, started=1)
        self.peers = Peers(PeerSettings(), self.directory.changed)
        forwarding = Forwarding(self.directory, self.peers, self.manager, self._shard)
        endpoints = [
            Endpoint(name, method, lifecycle=self.lifecycle, latencies=Latencies())
            for name, methods in forwarding.forwarded(service.tables()).items()
            for method in methods
        ]
        self.transport = GrpcTransport(endpoints, bounds, IncomingLimit(budget, 1 << 40, 1_000))
        self.address = f"127.0.0.1:{self.transport.listen('127.0.0.1:0', None)}"

    def _shard(self, queue: Queue) -> int | None:
        found = self.directory.ids.get(queue.id)
        return shard_of(queue.definition.name, SHARDS) if queue.definition.name else found


class _Pair:
    """Two servers, and a channel to each."""

    def __init__(self) -> None:
        self.first, self.second = self.servers = (_Server(), _Server())
        self.channels = [grpc.aio.insecure_channel(server.address) for server in self.servers]
        for shard in range(SHARDS):
            self.own(shard, shard % 2)

    def own(self, shard: int, owner: int | None) -> None:
        """Let one of the servers own a shard, or none."""
        for number, server in enumerate(self.servers):
            address = None if owner is None else HERE if owner == number else self.servers[owner].address
            server.directory.move(shard, address)

    def stream(self, at: int, method: str, metadata: Metadata = ()) -> Any:  # noqa: ANN401  # gRPC's types are of no use
        """Start a stream at one of the servers."""
        start: Any = self.channels[at].stream_stream(f"/{SERVICE}/{method}")
        return start(metadata=metadata)

    async def watch(self, metadata: Metadata = ()) -> Any:  # noqa: ANN401  # as above
        """Watch the queues at the first server."""
        call = self.stream(0, "WatchQueues", metadata)
        await call.write(b"")
        await call.done_writing()
        return call

    def call(self, at: int, method: str, request: Message, service: str = SERVICE, metadata: Metadata = ()) -> Any:  # noqa: ANN401  # gRPC's types are of no use
        """Start a call at one of the servers."""
        start: Any = self.channels[at].unary_unary(f"/{service}/{method}")
        return start(request.SerializeToString(), timeout=20, metadata=metadata)

    async def new(self, at: int, name: str) -> pb.Queue:
        """Create a queue."""
        request = pb.NewQueueRequest(name=name, limit=-1, store=pb.Queue.MEMORY)
        queue = pb.NewQueueResponse.FromString(await self.call(at, "NewQueue", request)).queue
        for server in self.servers:
            server.directory.ids[queue.meta.id] = shard_of(name, SHARDS)
        return queue


@asynccontextmanager
async def pair() -> AsyncIterator[_Pair]:
    made = _Pair()
    for server in made.servers:
        await server.transport.start()
    try:
        yield made
    finally:
        for channel in made.channels:
            await channel.close()
        for server in made.servers:
            server.lifecycle.stop()
            server.manager.end_waiting(ShardMoved())
            await server.peers.close()
            await server.transport.stop(1)


async def _until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0.01)


def name_in(shard: int, number: int = 0) -> str:
    """Return a name of a queue in a shard."""
    return [each for each in map("queue-{}".format, range(1_000)) if shard_of(each, SHARDS) == shard][number]


async def test_a_call_about_a_queue_is_served_by_its_owner_whichever_server_is_called() -> None:
    async with pair() as servers:
        name = name_in(1)
        queue = await servers.new(0, name)
        assert [len(server.manager) for server in servers.servers] == [0, 1]
        for reference in (name, queue.meta.id):
            for at in (0, 1):
                request = pb.AddRequest(queue_id=reference, message=pb.NewMessage(payload=b"x"))
                call = servers.call(at, "Add", request)
                assert pb.AddResponse.FromString(await call).message.meta.id
                hint = dict(await call.trailing_metadata()).get(OWNER)
                assert hint == (servers.second.address if at == 0 else None), "only another owner is named"
        count = pb.GetQueueResponse.FromString(
            await servers.call(0, "GetQueue", pb.GetQueueRequest(queue_id=name))
        ).queue.messages.ready
        assert count == 4


async def test_a_refusal_of_the_owner_arrives_with_its_details_and_for_clients_of_negz_q_with_its_text() -> None:
    async with pair() as servers:
        missing = "6f9c0000-0000-4000-8000-000000000001"
        servers.first.directory.ids[missing] = 1
        for service, has_details in ((SERVICE, True), (NEGZ_SERVICE, False)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await servers.call(0, "Peek", pb.PeekRequest(queue_id=missing), service)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            details = dict(cast("Any", refused.value.trailing_metadata())).get(STATUS_DETAILS)
            assert (details is not None) is has_details
        assert "cannot find queue with id" in str(refused.value.details())


async def test_a_call_is_forwarded_once_only() -> None:
    """Each server takes the other one for the owner, as it may happen while a shard moves."""
    async with pair() as servers:
        servers.first.directory.move(1, servers.second.address)
        servers.second.directory.move(1, servers.first.address)
        call = servers.call(0, "GetQueue", pb.GetQueueRequest(queue_id=name_in(1)))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        details = dict(cast("Any", refused.value.trailing_metadata()))[STATUS_DETAILS]
        assert isinstance(error_of(14, "", details), ShardMoved)
        assert servers.second.peers.calls == 0, "the second server asked no other one"


async def test_a_call_waits_for_an_owner_for_a_moment_and_is_then_refused_as_one_without_effect() -> None:
    async with pair() as servers:
        name = name_in(2)
        await servers.new(1, name)
        servers.own(2, None)
        call = servers.call(1, "Pop", pb.PopRequest(queue_id=name))
        await asyncio.sleep(0.2)
        servers.own(2, 0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND, "the queue is empty"
        servers.own(2, None)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await servers.call(1, "Pop", pb.PopRequest(queue_id=name))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        details = dict(cast("Any", refused.value.trailing_metadata()))[STATUS_DETAILS]
        assert isinstance(error_of(14, "", details), ShardMoved)


async def test_a_cancelled_call_is_cancelled_at_the_owner_too() -> None:
    async with pair() as servers:
        name = name_in(1)
        await servers.new(0, name)
        request = pb.PopRequest(queue_id=name)
        request.wait.FromSeconds(20)
        call = servers.call(0, "Pop", request)
        queue = servers.second.manager.get(name)
        await _until(lambda: bool(queue.waiters))
        call.cancel()
        await _until(lambda: not queue.waiters)


async def test_the_owner_sees_the_client_of_a_forwarded_call() -> None:
    async with pair() as servers:
        name = name_in(1)
        await servers.new(0, name)
        metadata = ((FORWARDED, "10.1.2.3 ipv4:10.1.2.3:45"),)
        for at, sent in ((0, ()), (1, metadata)):
            call = servers.stream(at, "Consume", sent)
            await call.write(pb.ConsumeRequest(start=pb.ConsumeStart(queue_id=name)).SerializeToString())
        consumers: Sequence[pb.Consumer] = ()
        while len(consumers) < 2:
            listed = await servers.call(0, "ListConsumers", pb.ListConsumersRequest(queue_id=name))
            consumers = pb.ListConsumersResponse.FromString(listed).consumers
        assert "10.1.2.3:45" in {each.peer for each in consumers}
        assert len({each.peer for each in consumers}) == 2


async def test_a_consume_stream_passes_both_ways_and_its_end_is_the_clients() -> None:
    async with pair() as servers:
        name = name_in(3)
        await servers.new(0, name)
        call = servers.stream(0, "Consume")
        start = pb.ConsumeStart(queue_id=name)
        await call.write(pb.ConsumeRequest(start=start, credit=10).SerializeToString())
        for number in range(5):
            add = pb.AddRequest(queue_id=name, message=pb.NewMessage(payload=b"%d" % number))
            await servers.call(1, "Add", add)
            response = pb.ConsumeResponse.FromString(cast("bytes", await call.read()))
            assert [each.message.payload for each in response.deliveries] == [b"%d" % number]
            tokens = [each.token for each in response.deliveries]
            await call.write(pb.ConsumeRequest(ack=tokens).SerializeToString())
            assert list(pb.ConsumeResponse.FromString(cast("bytes", await call.read())).settled) == tokens
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert not servers.second.manager.get(name).depth


async def test_pages_have_all_queues_in_order_of_creation() -> None:
    async with pair() as servers:
        made = [await servers.new(number % 2, name_in(number % SHARDS, number // SHARDS)) for number in range(12)]
        for at in (0, 1):
            for size in (0, 1, 5, 12):
                names: list[str] = []
                request = pb.ListQueuesRequest(page_size=size)
                while True:
                    page = pb.ListQueuesResponse.FromString(await servers.call(at, "ListQueues", request))
                    assert len(page.queues) <= (size or 12)
                    names += [queue.name for queue in page.queues]
                    if not page.next_page_token:
                        break
                    request.page_token = page.next_page_token
                assert names == [queue.name for queue in made]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await servers.call(0, "ListQueues", pb.ListQueuesRequest(page_token="7"))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_declarations_and_removals_are_split_by_owner_with_the_results_in_order() -> None:
    async with pair() as servers:
        names = [name_in(number % SHARDS, number // SHARDS) for number in range(10)]
        declarations = [pb.QueueDeclaration(name=name, limit=-1, store=pb.Queue.MEMORY) for name in names]
        declarations[3].limit = -7
        request = pb.DeclareQueuesRequest(queues=declarations)
        results = pb.DeclareQueuesResponse.FromString(await servers.call(1, "DeclareQueues", request)).results
        created, refused = pb.DeclareResult.OUTCOME_CREATED, pb.DeclareResult.OUTCOME_REFUSED
        assert [each.outcome for each in results] == [created] * 3 + [refused] + [created] * 6
        assert [each.queue.name for each in results if each.HasField("queue")] == [*names[:3], *names[4:]]
        servers.own(1, None)
        servers.own(3, None)
        removal = pb.RemoveQueuesRequest(queues=[pb.QueueRemoval(queue_id=name) for name in names])
        removed = pb.RemoveQueuesResponse.FromString(await servers.call(1, "RemoveQueues", removal)).results
        gone, kept = pb.RemoveResult.OUTCOME_REMOVED, pb.RemoveResult.OUTCOME_REFUSED
        assert [each.outcome for each in removed] == [gone, kept] * 5
        assert {each.error.reason for each in removed if each.outcome == kept} == {"SHARD_MOVED"}


async def test_a_watch_has_the_queues_of_all_shards_and_reports_a_move_as_no_removal() -> None:
    async with pair() as servers:
        names = {name_in(number % SHARDS, number // SHARDS) for number in range(8)}
        for name in names:
            await servers.new(0, name)
        for metadata in ((), ((FORWARDED, " ipv4:127.0.0.1:1"),)):
            call = await servers.watch(metadata)
            seen: set[str] = set()
            async for data in call:
                response = pb.WatchQueuesResponse.FromString(data)
                assert not response.removed
                seen |= {queue.name for queue in response.queues}
                if response.snapshot_complete:
                    break
            assert seen == names
            call.cancel()
        call = await servers.watch()
        iterator = aiter(call)
        while not pb.WatchQueuesResponse.FromString(await anext(iterator)).snapshot_complete:
            pass
        # The other server has none of its queues, so they count as removed once that has sent its snapshot.
        servers.own(0, 1)
        removed: set[str] = set()
        while len(removed) < 2:
            response = pb.WatchQueuesResponse.FromString(await anext(iterator))
            removed |= {each.name for each in response.removed}
        assert removed == {name for name in names if shard_of(name, SHARDS) == 0}
        new = name_in(0, 7)
        await servers.new(0, new)
        while new not in {queue.name for queue in response.queues}:
            response = pb.WatchQueuesResponse.FromString(await anext(iterator))
        call.cancel()


async def test_statistics_are_those_of_all_servers() -> None:
    async with pair() as servers:
        for shard in range(SHARDS):
            name = name_in(shard)
            await servers.new(0, name)
            await servers.call(0, "Add", pb.AddRequest(queue_id=name, message=pb.NewMessage(payload=b"x")))
        for at in (0, 1):
            stats = pb.GetStatsResponse.FromString(await servers.call(at, "GetStats", pb.GetStatsRequest())).server
            assert (stats.queues, stats.messages.ready) == (SHARDS, SHARDS)
        of_queue = pb.GetStatsResponse.FromString(
            await servers.call(0, "GetStats", pb.GetStatsRequest(queue_id=name_in(1)))
        )
        assert of_queue.queue.enqueued == 1


def test_a_page_ends_where_the_page_of_a_server_ends() -> None:
    """What comes after it from another server may have queues before it."""
    queues = [pb.Queue(meta=pb.Metadata(id=f"6f9c0000-0000-4000-8000-00000000000{number}")) for number in range(6)]
    for number, queue in enumerate(queues):
        queue.meta.created.FromNanoseconds(number + 1)
    first = pb.ListQueuesResponse(queues=queues[:2], next_page_token=token_of((2, queues[1].meta.id)))
    second = pb.ListQueuesResponse(queues=queues[3:])
    page = merged([first, second], 10, 1 << 20)
    assert [queue.meta.id for queue in page.queues] == [queue.meta.id for queue in queues[:2]]
    assert key_from_token(page.next_page_token) == (2, queues[1].meta.id)
    rest = merged([pb.ListQueuesResponse(queues=queues[2:3]), second], 10, 1 << 20)
    assert (len(rest.queues), rest.next_page_token) == (4, "")
    for token in ("x", "1", "1.x", "." + queues[0].meta.id, "9" * 30 + "." + queues[0].meta.id):
        with pytest.raises(InvalidArgument):
            key_from_token(token)

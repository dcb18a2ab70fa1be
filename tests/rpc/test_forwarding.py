"""Three real servers that share the queues of one real PostgreSQL: any of them serves any queue, whichever owns it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import trustme

from queuelet.client import Client, Connection
from queuelet.compat import q_pb2 as q
from queuelet.server.directory import shard_of
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.forwarding import FORWARDED, OWNER
from support.counts import soaked
from support.ordered import QUEUE, Holder, Ledger, Producer, made
from support.patience import patient
from support.rest import Rest
from support.rpc import Refused, Rpc, eventually, unique_name
from support.three_servers import ThreeServers

KILLS = soaked(4, 1_000)


@pytest.fixture(scope="module")
def many() -> Iterator[ThreeServers]:
    """Three servers with four shards, none of which a test may stop."""
    with ThreeServers(lease=30) as servers:
        yield servers
        for server in servers.servers:
            assert [line for line in server.log() if "exception" in line] == [], "the servers logged no defect"


@pytest.fixture(scope="module")
def rpcs(many: ThreeServers) -> Iterator[list[Rpc]]:
    """A client of each server."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Rpc(address))) for address in many.addresses]


def queue_in(rpc: Rpc, name: str = "", limit: int = -1) -> pb.Queue:
    """Create a queue."""
    request = pb.NewQueueRequest(name=name, limit=limit, store=pb.Queue.POSTGRES)
    return rpc.call("NewQueue", request, pb.NewQueueResponse).queue


def name_in(shard: int, count: int) -> str:
    """Return a new name of a queue in a shard."""
    while True:
        name = unique_name()
        if shard_of(name, count) == shard:
            return name


def test_any_server_serves_any_queue_by_name_and_by_id(many: ThreeServers, rpcs: list[Rpc]) -> None:
    names = [name_in(shard, many.shards) for shard in range(many.shards)]
    queues = [queue_in(rpcs[shard % 3], name) for shard, name in enumerate(names)] + [queue_in(rpcs[0])]
    for queue in queues:
        references = [queue.meta.id, queue.name] if queue.name else [queue.meta.id]
        for rpc in rpcs:
            for reference in references:
                sent = rpc.add(reference, b"one").meta.id
                assert [each.id for each in rpc.add_batch(reference, [b"two", b"three"])]
                assert rpc.call("Peek", pb.PeekRequest(queue_id=reference), pb.PeekResponse).message.meta.id == sent
                assert [each.payload for each in rpc.browse_all(reference)] == [b"one", b"two", b"three"]
                (leased,) = rpc.receive(reference, 1, lease=60)
                assert rpc.extend(reference, leased.token) == rpc.ack(reference, leased.token) == [""]
                assert [each.payload for each in rpc.pop_all(reference)] == [b"two", b"three"]
                assert rpc.stats(reference).queue.meta.id == queue.meta.id
    for rpc in rpcs:
        listed = rpc.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse).queues
        assert [each.meta.id for each in listed if each in queues] == [each.meta.id for each in queues]
        with pytest.raises(Refused) as unknown:
            rpc.pop("6f9c0000-0000-4000-8000-00000000abcd")
        assert unknown.value.reason == "QUEUE_NOT_FOUND"
        with pytest.raises(Refused) as refused:
            rpc.new_queue("in-memory")
        assert refused.value.reason == "STORE_UNAVAILABLE", "a queue in memory would exist in one server only"
    for queue in queues:
        rpcs[1].delete_queue(queue.meta.id)
        for rpc in rpcs:
            with pytest.raises(Refused) as gone:
                rpc.pop(queue.meta.id)
            assert gone.value.reason == "QUEUE_NOT_FOUND", "although each server knows in which shard it was"
            removal = pb.RemoveQueuesRequest(queues=[pb.QueueRemoval(queue_id=queue.meta.id)])
            (result,) = rpc.call("RemoveQueues", removal, pb.RemoveQueuesResponse).results
            assert result.outcome == pb.RemoveResult.OUTCOME_ABSENT


def test_a_client_of_negz_q_uses_any_server(many: ThreeServers) -> None:
    for made_at in many.addresses:
        with grpc.insecure_channel(made_at) as channel:
            new = _negz(channel, "NewQueue", q.NewQueueResponse)(
                q.NewQueueRequest(store=cast("Any", 3), limit=2)
            )  # PostgreSQL
        queue = new.queue.meta.id
        for address in many.addresses:
            with grpc.insecure_channel(address) as channel:
                add, pop = _negz(channel, "Add", q.AddResponse), _negz(channel, "Pop", q.PopResponse)
                message = q.NewMessage(payload=b"x")
                assert add(q.AddRequest(queue_id=queue, message=message)).message.meta.id
                assert pop(q.PopRequest(queue_id=queue)).message.payload == b"x"
                with pytest.raises(grpc.RpcError) as empty:
                    pop(q.PopRequest(queue_id=queue))
                assert empty.value.details() == f"cannot pop message from queue: queue {queue} is empty"
                listed = _negz(channel, "ListQueues", q.ListQueuesResponse)(q.ListQueuesRequest()).queues
                assert queue in {each.meta.id for each in listed}


def _negz(channel: grpc.Channel, method: str, response: Any) -> Any:  # noqa: ANN401  # as generated code does it
    make: Any = channel.unary_unary
    return make(
        f"/proto.Q/{method}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=response.FromString,
    )


def test_the_rest_api_of_any_server_serves_any_queue(many: ThreeServers, rpcs: list[Rpc]) -> None:
    for shard in range(many.shards):
        name = name_in(shard, many.shards)
        for number, server in enumerate(many.servers):
            rest = Rest(server.rest_url)
            if not number:
                assert rest.new_queue(name=name, store="POSTGRES", limit=-1)["name"] == name
            rest.post(f"/v1/queues/{name}", {"payload": "eA=="})
            assert rest.post(f"/v1/queues/{name}/messages:pop", {})["message"]["payload"] == "eA=="
            assert name in {each.get("name") for each in rest.get("/v1/queues")["queues"]}
        rpcs[0].delete_queue(name)


def test_a_consume_stream_and_a_tail_pass_through_any_server(many: ThreeServers, rpcs: list[Rpc]) -> None:
    name = name_in(1, many.shards)
    queue_in(rpcs[0], name)
    for rpc in rpcs:
        tail = rpc.stream("Tail", pb.TailRequest(queue_id=name, per_second=1_000).SerializeToString())
        next(tail)
        consumer = rpc.consume(name, credit=100)
        for number in range(20):
            rpcs[number % 3].add(name, b"%d" % number)
        consumer.until(lambda each: len(each.deliveries) == 20)
        assert consumer.payloads == [b"%d" % number for number in range(20)]
        consumer.say(ack=consumer.tokens)
        consumer.until(lambda each: len(each.settled) == 20)
        events = 0
        while events < 60:
            events += len(pb.TailResponse.FromString(next(tail)).events)
        tail.cancel()
        consumer.cancel()
    eventually(lambda: not sum(_counts(rpcs[0], name)), "all messages are gone")
    rpcs[0].delete_queue(name)


def _counts(rpc: Rpc, name: str) -> tuple[int, int, int, int]:
    messages = rpc.get_queue(name).messages
    return messages.ready, messages.delayed, messages.leased, messages.dead


def test_a_forwarded_call_is_refused_where_its_queue_is_not_so_that_there_are_no_loops(
    many: ThreeServers, rpcs: list[Rpc]
) -> None:
    owners = many.owners()
    for shard, owner in enumerate(owners):
        request = pb.PopRequest(queue_id=name_in(shard, many.shards)).SerializeToString()
        for address, rpc in zip(many.addresses, rpcs, strict=True):
            with pytest.raises(Refused) as refused:
                rpc.raw("Pop", request, metadata=((FORWARDED, "127.0.0.1 ipv4:127.0.0.1:1"),))
            assert refused.value.reason == ("QUEUE_NOT_FOUND" if address == owner else "SHARD_MOVED")


def test_a_response_of_another_server_names_the_owner(many: ThreeServers, rpcs: list[Rpc]) -> None:
    for shard, owner in enumerate(many.owners()):
        name = name_in(shard, many.shards)
        queue_in(rpcs[0], name)
        for address, rpc in zip(many.addresses, rpcs, strict=True):
            get: Any = rpc.channel.unary_unary("/queuelet.v1.QueueService/GetQueue")
            _, call = get.with_call(pb.GetQueueRequest(queue_id=name).SerializeToString(), timeout=30)
            assert dict(call.trailing_metadata()).get(OWNER) == (None if address == owner else owner)
        rpcs[0].delete_queue(name)


def test_a_watch_of_any_server_has_all_queues_under_one_epoch(many: ThreeServers, rpcs: list[Rpc]) -> None:
    names = {name_in(shard, many.shards) for shard in range(many.shards)}
    for name in names:
        queue_in(rpcs[0], name)
    for rpc in rpcs:
        watch = rpc.watch(counts_apart=True)
        batches = watch.snapshot()
        assert names <= {queue.name for batch in batches for queue in batch.queues}
        (epoch,) = {store.epoch for batch in batches for store in batch.stores}
        assert {queue.epoch for batch in batches for queue in batch.queues} == {epoch}
        late = name_in(2, many.shards)
        queue_in(rpcs[1], late)
        watch.until(lambda batch: late in {queue.name for queue in batch.queues})  # noqa: B023  # at once
        rpcs[2].delete_queue(late)
        watch.until(lambda batch: late in {gone.name for gone in batch.removed})  # noqa: B023  # at once
        watch.cancel()
    declared = [pb.QueueDeclaration(name=name, limit=5, store=pb.Queue.POSTGRES) for name in sorted(names)]
    request = pb.DeclareQueuesRequest(queues=declared)
    results = rpcs[1].call("DeclareQueues", request, pb.DeclareQueuesResponse).results
    assert [each.queue.name for each in results] == sorted(names)
    assert {each.queue.limit for each in results} == {5}
    removals = pb.RemoveQueuesRequest(queues=[pb.QueueRemoval(queue_id=name) for name in names])
    removed = rpcs[2].call("RemoveQueues", removals, pb.RemoveQueuesResponse).results
    assert {each.outcome for each in removed} == {pb.RemoveResult.OUTCOME_REMOVED}


async def test_the_client_calls_the_owner_directly_once_it_knows_it(many: ThreeServers) -> None:
    """Its own server is frozen then, and it goes on with the queues of the others."""
    for shard, owner in enumerate(many.owners()):
        at = next(number for number, address in enumerate(many.addresses) if address != owner)
        name = name_in(shard, many.shards)
        async with Client(Connection(server=many.addresses[at], timeout=patient(10))) as client:
            await client.new_queue(name=name, store="POSTGRES")
            await client.connect_directly(name)
            many.servers[at].process.send_signal(signal.SIGSTOP)
            try:
                await client.add(name, b"x")
                assert (await client.pop(name)).payload == b"x"
            finally:
                many.servers[at].process.send_signal(signal.SIGCONT)
            await client.delete_queue(name)


def test_an_owner_that_is_killed_under_load_loses_nothing_and_breaks_no_order() -> None:
    """An exclusive consumer and a producer use a server that is not killed, while the owners of their queue are."""
    chance, ledger = random.Random(17), Ledger()
    with ThreeServers(3, 3, lease=1) as many:
        shard = shard_of(QUEUE, many.shards)
        with closing(Rpc(many.addresses[0])) as rpc:
            new = pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name=QUEUE, delivery={"max_deliveries": 1_000})
            eventually(lambda: made(rpc, new), "the servers serve")
        producer = Producer(many.addresses[0], ledger)
        holder = Holder(many.addresses[0], chance.getrandbits(32), ledger)
        longest = 0.0
        try:
            for _ in range(KILLS):
                assert holder.holds.wait(patient(60))
                time.sleep(chance.uniform(0, 0.8))
                owner = many.owners()[shard]
                if owner in many.addresses[1:]:
                    number = many.addresses.index(owner)
                    added, began = ledger.added, time.monotonic()
                    many.servers[number].kill()
                    eventually(lambda: ledger.added > added, "another server owns the queue")  # noqa: B023  # at once
                    longest = max(longest, time.monotonic() - began)
                    many.launch(number)
                else:
                    # The server that is called owns the queue: it hands its shards over and comes back.
                    many.servers[0].stop()
                    many.launch(0)
                assert not ledger.wrong, ledger.wrong[:20]
            producer.end()
            holder.kill()
            holder.join()
            with closing(Rpc(many.addresses[0])) as rpc:
                while rpc.get_queue(QUEUE).messages != pb.MessageCounts():
                    at = time.monotonic()
                    leased = rpc.receive(QUEUE, 1_000, wait=1, lease=60)
                    for each in leased:
                        ledger.got(int(each.message.payload), each.token, at)
                        ledger.acking.add(int(each.message.payload))
                    if leased:
                        assert set(rpc.ack(QUEUE, *(each.token for each in leased))) == {""}
        finally:
            producer.end()
            holder.kill()
            holder.join()
    assert not ledger.wrong, ledger.wrong[:20]
    assert set(range(ledger.added)) <= ledger.acking | ledger.acked.keys()
    print(f"\n{ledger.added:,} messages in order; longest gap after a kill {longest:.1f} s")  # noqa: T201  # for the log


async def test_a_drained_owner_hands_over_and_no_call_of_the_client_fails() -> None:
    with ThreeServers(3, 3) as many:
        shard = 1
        name = name_in(shard, many.shards)
        number = many.addresses.index(many.owners()[shard])
        other = many.addresses[(number + 1) % 3]
        stopped = asyncio.Event()
        gaps = [0.0]

        async def load(client: Client) -> int:
            count, last = 0, time.monotonic()
            while not stopped.is_set():
                await client.add(name, b"%d" % count)
                gaps[0] = max(gaps[0], time.monotonic() - last)
                count, last = count + 1, time.monotonic()
            return count

        async with Client(other) as client:
            await client.new_queue(name=name, store="POSTGRES")
            loading = asyncio.create_task(load(client))
            await asyncio.sleep(1)
            assert await asyncio.to_thread(many.servers[number].stop) == 0
            await asyncio.sleep(0.5)
            stopped.set()
            added = await loading
            queue = await client.get_queue(name)
            assert queue.messages.ready == added
        print(f"\n{added:,} added, longest gap {gaps[0]:.2f} s")  # noqa: T201  # for the log


def test_servers_trust_each_other_by_their_certificates_and_their_token(tmp_path: Path) -> None:
    """Clients need a certificate and the token, and so do the servers among themselves."""
    authority = trustme.CA()
    issued = authority.issue_cert("queues.example")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    (tmp_path / "cert").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (tmp_path / "token").write_text("a-token-of-all")
    files = {name: str(tmp_path / name) for name in ("ca", "key", "cert", "token")}
    flags = (
        "--tls-cert", files["cert"], "--tls-key", files["key"], "--tls-client-ca", files["ca"],
        "--token-file", files["token"], "--peer-tls-ca", files["ca"], "--peer-tls-name", "queues.example",
    )  # fmt: skip
    content = {name: Path(file).read_bytes() for name, file in files.items()}
    credentials = grpc.ssl_channel_credentials(content["ca"], content["key"], content["cert"])
    options = (("grpc.ssl_target_name_override", "queues.example"),)
    with ThreeServers(2, 2, *flags) as many:
        metadata = (("authorization", "Bearer a-token-of-all"),)
        for address in many.addresses:
            rpc = Rpc(address, credentials=credentials, metadata=metadata, options=options)
            with closing(rpc):
                for shard in range(2):
                    name = name_in(shard, 2)
                    queue_in(rpc, name)
                    rpc.add(name, b"x")
                    assert rpc.pop(name).payload == b"x"
                assert rpc.watch().snapshot()
        stranger = Rpc(many.addresses[0], credentials=credentials, options=options)
        with closing(stranger), pytest.raises(Refused) as refused:
            stranger.get_queue(name)
        assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED

"""Servers that share the shards of one database: who owns what, hand-overs, and take-overs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import pytest

from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.forwarding import FORWARDED
from support.commands import Cli
from support.counts import soaked
from support.many_servers import LEASE, Load, ManyServers
from support.patience import patient
from support.postgres_server import new_schema, own_schema, shared_postgres
from support.rpc import Refused, Rpc, eventually, outcome
from support.server_process import ServerProcess

NOT_AGAIN = ((FORWARDED, "127.0.0.1 ipv4:127.0.0.1:1"),)
"""Metadata of a call that another server has forwarded. It is not forwarded to the owner, which would serve it."""


@pytest.fixture
def servers() -> Iterator[ManyServers]:
    """Servers of four shards, of which none runs yet."""
    with ManyServers(shards=4) as servers:
        yield servers


def test_one_server_owns_all_shards_and_a_second_one_gets_half_of_them(servers: ManyServers) -> None:
    servers.start()
    servers.until_parts(4)
    servers.start()
    servers.until_parts(2, 2)


def test_each_server_has_its_part_when_a_third_one_joins_and_no_message_is_lost(servers: ManyServers) -> None:
    servers.start()
    servers.start()
    servers.until_parts(2, 2)
    with Load(servers, servers.make_queues()) as load:
        load.until_added()
        servers.start()
        servers.until_parts(1, 1, 2)
        load.until_added()
    load.check()


def test_a_server_that_drains_hands_its_shards_over_without_loss(servers: ManyServers) -> None:
    leaving, staying = servers.start(), servers.start()
    servers.until_parts(2, 2)
    with Load(servers, servers.make_queues()) as load:
        load.until_added()
        servers.stop(leaving)
        servers.until_parts(4)
        load.until_added()
    load.check()
    given = {line["shard"]: line["ts"] for line in leaving.log("shard given up")[-2:]}
    taken = {line["shard"]: line["ts"] for line in staying.log("shard taken")}
    assert max(taken[shard] - given[shard] for shard in given) < patient(1)
    assert not staying.log("shard failed")


def test_the_others_take_over_the_shards_of_a_killed_server_after_the_lease(servers: ManyServers) -> None:
    killed = servers.start()
    servers.start()
    servers.until_parts(2, 2)
    with Load(servers, servers.make_queues()) as load:
        load.until_added()
        servers.kill(killed)
        servers.until_parts(4)
        load.until_added()
    load.check()
    assert max(load.longest.values()) < patient(LEASE + 1) + 1


def test_a_drained_server_waits_for_no_lease_even_if_it_is_the_last_one(servers: ManyServers) -> None:
    first = servers.start()
    queues = servers.make_queues()
    with Load(servers, queues) as load:
        load.until_added()
    servers.stop(first)
    assert servers.owners() == {}
    servers.start()
    servers.until_parts(4)
    load.check()


@pytest.mark.parametrize("attempt", range(soaked(5, 50)))
def test_servers_that_start_at_once_on_an_empty_database_share_its_shards(attempt: int) -> None:
    with ManyServers(shards=3) as servers:
        starting = [threading.Thread(target=servers.start) for _ in range(2)]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        assert len(servers.running) == 2
        servers.until_parts(1, 2)
        assert not [line for server in servers.running for line in server.log() if line["level"] == "error"]


def test_a_server_that_was_frozen_for_three_leases_writes_nothing_and_joins_again(servers: ManyServers) -> None:
    frozen, other = servers.start(), servers.start()
    servers.until_parts(2, 2)
    queues = servers.make_queues()
    owners = servers.owners()
    (moved, *_) = [shard for shard, owner in owners.items() if owner == frozen.address]
    queue = queues[moved]
    with closing(Rpc(frozen.address, metadata=NOT_AGAIN)) as rpc, closing(Rpc(other.address)) as late:
        rpc.add_batch(queue, [b"a", b"b"])
        (before,) = rpc.receive(queue, 1, lease=600)
        frozen.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            other.wait_for_log("shard taken", lambda line: line["shard"] == moved)
            deliveries = late.receive(queue, 2, lease=600)
            late.add(queue, b"c")
            eventually(lambda: time.monotonic() > began + 3 * LEASE, "three leases have passed")
            calls = [
                rpc.start("Add", pb.AddRequest(queue_id=queue, message=pb.NewMessage(payload=b"late"))),
                rpc.start("Ack", pb.AckRequest(queue_id=queue, tokens=[before.token])),
                rpc.start("Receive", pb.ReceiveRequest(queue_id=queue, max=2)),
            ]
        finally:
            frozen.signal(signal.SIGCONT)
        for call in calls:
            late_outcome = outcome(call, pb.AckResponse)
            assert isinstance(late_outcome, Refused)
            assert late_outcome.reason in {"STORE_FAILED", "SHARD_MOVED"}
        assert all(each.token > before.token for each in deliveries)
        servers.until_parts(2, 2)
        with servers.calls() as calls_to_owner:
            tokens = [each.token for each in deliveries]
            left = {each.message.payload for each in deliveries}
            for token in tokens:
                assert calls_to_owner.ack(queue, token) in {"", "LEASE_LOST"}
            assert b"late" not in {*calls_to_owner.pop_all(queue), *left}


def test_a_server_of_another_number_of_shards_does_not_start(servers: ManyServers) -> None:
    servers.start()
    flags = list(servers.flags)
    flags[flags.index("--shards") + 1] = "3"
    refused = Cli("")("server", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--http", "", *flags)
    assert refused.code != 0
    assert "--shards: 3 is not possible" in refused.err
    assert "start the server with --shards 4" in refused.err


def test_a_server_alone_does_not_serve_tables_with_several_shards(servers: ManyServers) -> None:
    servers.start()
    with ServerProcess(*servers.flags[:6]) as alone, closing(Rpc(alone.address)) as rpc:
        (store,) = (each for each in rpc.server_stats().stores if each.store == pb.Queue.POSTGRES)
        assert "start the server with --shards 4" in store.problem


def test_memory_and_disk_queues_are_refused_where_servers_share_the_queues(servers: ManyServers) -> None:
    server = servers.start()
    with closing(Rpc(server.address)) as rpc:
        for store in (pb.Queue.MEMORY, pb.Queue.DISK):
            with pytest.raises(Refused) as refused:
                rpc.call("NewQueue", pb.NewQueueRequest(store=store, limit=-1, name="a"), pb.NewQueueResponse)
            assert refused.value.reason == "STORE_UNAVAILABLE"
            assert "several servers share the queues" in refused.value.text
        assert [each.store for each in rpc.server_stats().stores] == [pb.Queue.POSTGRES]


def test_a_data_folder_and_a_missing_database_are_refused_with_several_servers(tmp_path: object) -> None:
    with own_schema() as flags:
        for wrong in (("--shards", "2"), ("--advertise", "a:1", "--data-dir", str(tmp_path), *flags)):
            refused = Cli("")("server", *wrong)
            assert refused.code == 2
            assert "several servers can share only the queues in PostgreSQL" in refused.err
        refused = Cli("")("server", "--advertise", ":1", *flags)
        assert "has no host" in refused.err


def test_a_call_for_a_queue_of_another_server_is_refused_as_one_to_retry(servers: ManyServers) -> None:
    here, there = servers.start(), servers.start()
    servers.until_parts(2, 2)
    names = servers.make_queues()
    owners = servers.owners()
    (shard, *_) = [shard for shard, owner in owners.items() if owner == there.address]
    with closing(Rpc(there.address)) as owner:
        queue_id = owner.get_queue(names[shard]).meta.id
    with closing(Rpc(here.address, metadata=NOT_AGAIN)) as rpc:
        for reference in (names[shard], queue_id):
            with pytest.raises(Refused) as refused:
                rpc.add(reference)
            assert refused.value.reason == "SHARD_MOVED"
        (own, *_) = [name for name, owner in zip(names, owners.values(), strict=True) if owner == here.address]
        own_id = rpc.get_queue(own).meta.id
        rpc.delete_queue(own)
        for reference in (own, own_id):
            with pytest.raises(Refused) as refused:
                rpc.add(reference)
            assert refused.value.reason == "QUEUE_NOT_FOUND"
        eventually(lambda: _reason_of_add(rpc, str(uuid4())) == "SHARD_MOVED", "an unknown ID may be elsewhere")
        unknown = str(uuid4())
        eventually(lambda: _reason_of_add(rpc, unknown) == "QUEUE_NOT_FOUND", "the ID is found to be unknown")


def _reason_of_add(rpc: Rpc, queue: str) -> str:
    with pytest.raises(Refused) as refused:
        rpc.add(queue)
    return refused.value.reason


def test_a_standby_of_one_shard_serves_it_once_the_owner_has_ended() -> None:
    schema = new_schema()
    flags = ("--postgres", shared_postgres().url, "--postgres-schema", schema, "--advertise", "127.0.0.1:0")
    try:
        with ServerProcess(*flags) as first, ServerProcess(*flags) as second:
            with closing(Rpc(first.address)) as rpc:
                rpc.call(
                    "NewQueue", pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=-1, name="a"), pb.NewQueueResponse
                )
                rpc.add("a", b"1")
            assert not second.log("shard taken")
            assert first.stop() == 0
            second.wait_for_log("shard taken")
            with closing(Rpc(second.address)) as rpc:
                assert rpc.pop("a").payload == b"1"
    finally:
        shared_postgres().drop(schema)

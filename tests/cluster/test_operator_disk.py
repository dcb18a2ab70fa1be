"""Queues on disk: declaration and status, and the behaviour that users see when the disk or the server fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.apart import Apart, server_in_place_of
from support.counts import soaked
from support.kube_queues import History, KubeQueues, Writes, condition, is_ready, reason_of
from support.operator_process import OperatorProcess
from support.pages import samples
from support.queue_objects import Object
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import ControlPlane

TESTS = Path(__file__).parents[1]
SOON = ("--outage-after", "1.5", "--counts-every", "0.2")
"""Flags with which the operator reports an outage early, so that tests do not wait for ten seconds."""

DELIVERY = {"leaseSeconds": 60, "maxDeliveries": 1, "messageTTLSeconds": 3600}


class DiskServer:
    """A server with a data directory that a test may stop and restart. The disk of a faulty one fails on demand."""

    def __init__(self, folder: Path, *, is_faulty: bool = False) -> None:
        """Use a directory for all files of the server."""
        self.folder = folder / "data"
        self._faults = folder / "faults"
        program = [sys.executable, "-m", "support.faulty_disk", str(self._faults), "server"] if is_faulty else None
        self.process = ServerProcess(*self._flags, program=program, env={"PYTHONPATH": str(TESTS)})

    def __enter__(self) -> Self:
        """Start the server."""
        self.process.start()
        self.rpc = Rpc(self.process.address)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.rpc.close()
        self.process.kill()

    def kill(self) -> None:
        """Kill the server."""
        self.process.kill()

    def start_again(self) -> None:
        """Start another server with the same files, on a disk without faults."""
        self.rpc.close()
        self.process = server_in_place_of(self.process, *self._flags).start()
        self.rpc = Rpc(self.process.address)

    @property
    def _flags(self) -> tuple[str, str]:
        return ("--data-dir", str(self.folder))

    def _add_for_ever(self, queue: str) -> None:
        while True:
            self.rpc.add(queue, bytes(100_000))

    # The disk

    def fill(self, queue: str) -> None:
        """Leave little space on the disk, and fill it with messages of a queue."""
        used = sum(each.stat().st_size for each in self.folder.iterdir())
        self._faults.write_text(f"capacity={used + 1_000_000}")
        with pytest.raises(Refused, match="full"):
            self._add_for_ever(queue)

    def fail(self, queue: str) -> None:
        """Make syncs and reads fail, and let the server notice. It cannot reopen its store as long as they fail."""
        self._faults.write_text("sync read")
        with pytest.raises(Refused, match="fail"):
            self.rpc.add(queue, b"of unknown fate")

    def heal(self) -> None:
        """End all faults."""
        self._faults.write_text("")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskServer]:
    """A server with a data directory."""
    with DiskServer(tmp_path) as started:
        yield started


@pytest.fixture
def faulty_disk(tmp_path: Path) -> Iterator[DiskServer]:
    """A server whose disk fails on demand."""
    with DiskServer(tmp_path, is_faulty=True) as started:
        yield started


def messages_of(body: Object) -> dict[str, int]:
    """Return the counts in a Queue's status, without those that are 0."""
    counts: dict[str, int] = body["status"].get("messages", {})
    return {state: count for state, count in counts.items() if count and state != "total"}


def waits_with(body: Object, reason: str) -> bool:
    """Return whether a Queue is Reconciling for this reason."""
    reconciling = condition(body, "Reconciling")
    return (
        reason_of(body) == reason
        and reconciling is not None
        and reconciling["reason"] == reason
        and condition(body, "Stalled") is None
        and not is_ready(body)
    )


def settled(operator: OperatorProcess) -> None:
    """Wait until the operator has nothing to do."""
    url = f"{operator.metrics_url}/metrics"
    eventually(lambda: not sum(samples(url, "queuelet_operator_work_queue_length").values()), "nothing waits")


# Declaration and status


def test_a_queue_on_disk_is_what_its_object_says(apart: Apart, kube: KubeQueues, disk: DiskServer) -> None:
    server = disk.rpc
    with apart.operator(disk.process):
        made = kube.create(store="Disk", limit=10, delivery=DELIVERY)
        status = kube.wait_ready()["status"]
        effective = status["effective"]
        assert effective.pop("tagsHash")
        assert effective == {"store": "Disk", "limit": 10, "tagCount": 0, "delivery": DELIVERY}
        queue = server.get_queue(kube.server_name("orders"))
        assert (queue.meta.id, queue.store) == (status["queueID"], pb.Queue.DISK)
        assert status["queueID"] == made["metadata"]["uid"]
        assert status["epoch"] == queue.epoch

        kube.change(delivery={"leaseSeconds": 5, "maxDeliveries": 3, "messageTTLSeconds": None})
        changed = kube.wait_ready()["status"]["effective"]["delivery"]
        assert changed == {"leaseSeconds": 5, "maxDeliveries": 3}
        delivery = server.get_queue(kube.server_name("orders")).delivery
        assert (delivery.lease_seconds, delivery.max_deliveries) == (5, 3)
        assert not delivery.HasField("message_ttl_seconds")


@pytest.mark.parametrize("store", ["Disk", "Memory"])
def test_every_state_of_its_messages_is_counted(apart: Apart, kube: KubeQueues, disk: DiskServer, store: str) -> None:
    with apart.operator(disk.process, *SOON):
        kube.create(store=store, delivery=DELIVERY)
        kube.wait_ready()
        fill(disk.rpc, kube.server_name("orders"))
        kube.wait("orders", lambda each: messages_of(each) == FILLED, "counted")
        assert kube.status()["messages"]["total"] == 10


FILLED = {"ready": 4, "delayed": 3, "leased": 2, "dead": 1}


def fill(server: Rpc, queue: str) -> list[int]:
    """Put messages in every state into a queue that delivers each once; return the tokens of the leases."""
    server.add_batch(queue, [b"kept"] * 7)
    (doomed,) = server.receive(queue, 1)
    assert server.nack(queue, doomed.token) == [""]
    leased = server.receive(queue, 2)
    late = pb.NewMessage(payload=b"late")
    late.delay.FromSeconds(3600)
    server.call("AddBatch", pb.AddBatchRequest(queue_id=queue, messages=[late] * 3), pb.AddBatchResponse)
    return [each.token for each in leased]


def test_a_server_without_a_folder_says_so_until_it_has_one(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess, tmp_path: Path
) -> None:
    with apart.operator(own_server):
        kube.create(store="Disk")
        seen = kube.wait_reason("StoreUnavailable")
        assert condition(seen, "Stalled")
        own_server.kill()
        with server_in_place_of(own_server, "--data-dir", str(tmp_path / "data")):
            kube.wait_ready()


# Restarts and crashes


def test_a_server_that_was_killed_comes_back_without_a_word_in_any_status(
    apart: Apart, kube: KubeQueues, disk: DiskServer
) -> None:
    with apart.operator(disk.process, "--counts-every", "0.2") as operator:
        kube.create(store="Disk", delivery=DELIVERY)
        kube.wait_ready()
        tokens = fill(disk.rpc, kube.server_name("orders"))
        before = kube.wait("orders", lambda each: messages_of(each) == FILLED, "counted")
        settled(operator)
        # Leases are committed with the next write, or a moment later.
        disk.rpc.add(kube.server_name("orders"), b"more")
        writes = Writes(kube.api)
        disk.kill()
        disk.start_again()
        connected(operator)
        settled(operator)
        server = disk.rpc
        queue = server.get_queue(kube.server_name("orders"))
        assert writes.so_far() == 0
        assert (queue.meta.id, queue.epoch) == (before["status"]["queueID"], before["status"]["epoch"])
        counts = queue.messages
        assert (counts.ready, counts.delayed, counts.leased, counts.dead) == (5, 3, 2, 1)
        assert server.ack(kube.server_name("orders"), *tokens) == ["", ""], "leases go on"
    assert not kube.events()


def connected(operator: OperatorProcess) -> None:
    """Wait until the operator has lost the server and reconnected to it."""
    eventually(lambda: len(operator.log("connected to the server")) == 2, "the server is back")


def test_an_outage_takes_one_write_and_its_end_another(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues, disk: DiskServer
) -> None:
    count = soaked(20, 200)
    names = [f"orders-{number}" for number in range(count)]
    with apart.operator(disk.process, *SOON) as operator:
        for name in names:
            kube.create(name, store="Disk")
        kube.wait_all_ready(count)
        settled(operator)
        with History(control_plane, kube) as history:
            writes = Writes(kube.api)
            disk.kill()
            history.wait(names, ["ServerUnavailable"])
            disk.start_again()
            history.wait(names, ["ServerUnavailable", "Ready"])
            settled(operator)
            assert writes.so_far() == 2 * count


def test_an_operator_that_starts_finds_all_as_it_left_it(apart: Apart, kube: KubeQueues, disk: DiskServer) -> None:
    count = soaked(200, 1_000)
    with apart.operator(disk.process) as operator:
        for number in range(count):
            kube.create(f"orders-{number}", store="Disk", delivery=DELIVERY, deletionPolicy="Retain")
        kube.wait_all_ready(count)
        assert operator.stop() == 0
    writes = Writes(kube.api)
    with apart.operator(disk.process) as operator:
        operator.wait_for_log("connected to the server")
        url = f"{operator.metrics_url}/metrics"
        eventually(lambda: sum(samples(url, "queuelet_operator_queues").values()) == count, "all are seen")
        settled(operator)
        assert writes.so_far() == 0
        assert not samples(url, "queuelet_operator_declarations_total")


# Other stores, other objects


@pytest.mark.parametrize(("first", "then"), [("Memory", "Disk"), ("Disk", "Memory")])
def test_a_queue_that_is_left_cannot_be_had_in_another_store(
    apart: Apart, kube: KubeQueues, disk: DiskServer, first: str, then: str
) -> None:
    with apart.operator(disk.process):
        kube.create(store=first, deletionPolicy="Retain")
        kube.wait_ready()
        kube.delete()
        kube.wait_gone()
        kube.create(store=then, deletionPolicy="Retain")
        seen = kube.wait_reason("StoreMismatch")
        assert f"is in store {first} and cannot move to {then}" in seen["status"]["conditions"][0]["message"]
        assert condition(seen, "Stalled")
        kube.delete()
        kube.wait_gone()
        kube.create(store=first, deletionPolicy="Retain")
        kube.wait_ready()


def test_a_queue_that_is_left_is_taken_over_with_its_messages(apart: Apart, kube: KubeQueues, disk: DiskServer) -> None:
    with apart.operator(disk.process, *SOON):
        first = kube.create(store="Disk", delivery=DELIVERY, deletionPolicy="Retain")
        kube.wait_ready()
        fill(disk.rpc, kube.server_name("orders"))
        kube.delete()
        kube.wait_gone()
        kube.create(store="Disk", delivery=DELIVERY, deletionPolicy="Retain")
        seen = kube.wait_ready()
        assert seen["metadata"]["uid"] != first["metadata"]["uid"]
        assert messages_of(seen) == FILLED
        kube.wait_event("QueueTakenOver")


# Drain


def test_a_drain_waits_for_every_message_that_may_still_be_delivered(
    apart: Apart, kube: KubeQueues, disk: DiskServer
) -> None:
    server, queue = disk.rpc, kube.server_name("orders")
    with apart.operator(disk.process, *SOON):
        kube.create(store="Disk", delivery=DELIVERY, deletionPolicy="Drain")
        kube.wait_ready()
        tokens = fill(server, queue)
        kube.delete()
        kube.wait("orders", lambda each: reason_of(each) == "WaitingForDrain", "draining")
        with pytest.raises(Refused, match="drain"):
            server.add(queue, b"late")
        for _ in range(4):
            server.pop(queue)
        kube.wait("orders", lambda each: "ready" not in messages_of(each), "without ready messages")
        assert server.ack(queue, *tokens) == ["", ""]
        purge(server, queue, pb.MESSAGE_STATE_DELAYED)
        kube.wait("orders", lambda each: messages_of(each) == {"dead": 1}, "left with a dead message")
        assert kube.is_there(), "a user may want to redrive it"
        purge(server, queue, pb.MESSAGE_STATE_DEAD)
        kube.wait_gone()


def test_dead_messages_hold_a_drain_until_its_deadline(apart: Apart, kube: KubeQueues, disk: DiskServer) -> None:
    server, queue = disk.rpc, kube.server_name("orders")
    with apart.operator(disk.process, *SOON):
        kube.create(store="Disk", delivery=DELIVERY, deletionPolicy="Drain", drainSeconds=4)
        kube.wait_ready()
        server.add(queue, b"doomed")
        (doomed,) = server.receive(queue, 1)
        assert server.nack(queue, doomed.token) == [""]
        kube.delete()
        kube.wait("orders", lambda each: reason_of(each) == "WaitingForDrain", "draining")
        kube.wait_gone()
        assert "1 dead" in kube.wait_event("MessagesDropped")["message"]


def purge(server: Rpc, queue: str, state: pb.MessageState) -> None:
    """Remove the messages in a state."""
    server.call("Purge", pb.PurgeRequest(queue_id=queue, all=True, states=[state]), pb.PurgeResponse)


# Lost stores and restored backups


def test_a_folder_that_was_lost_is_reported_and_queues_are_made_again(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues, disk: DiskServer
) -> None:
    with apart.operator(disk.process, "--counts-every", "0.2"):
        kube.create(store="Disk")
        kube.wait_ready()
        disk.rpc.add_batch(kube.server_name("orders"), [b""] * 7)
        before = kube.wait("orders", lambda each: messages_of(each) == {"ready": 7}, "counted")
        with History(control_plane, kube) as history:
            writes = Writes(kube.api)
            disk.kill()
            shutil.rmtree(disk.folder)
            disk.start_again()
            history.wait(["orders"], ["ServerStateLost", "Ready"])
            assert writes.so_far() == 2
            after = kube.get()
        # Events are posted in the background, so an operator that stops at once may not have posted all.
        assert "held 7 ready" in kube.wait_event("ServerStateLost")["message"]
    assert after["status"]["queueID"] == before["status"]["queueID"]
    assert after["status"]["epoch"] != before["status"]["epoch"]


def test_a_database_that_is_damaged_at_the_start_is_reported_and_can_be_restored_meanwhile(
    apart: Apart, kube: KubeQueues, disk: DiskServer
) -> None:
    with apart.operator(disk.process, *SOON):
        before = make(kube)
        queue = kube.server_name("orders")
        disk.rpc.add(queue, b"saved")
        backup = disk.folder.parent / "backup"
        queuelet("backup", "--data-dir", str(disk.folder), str(backup))
        kube.create("deleted", store="Disk")
        kube.wait_ready("deleted")
        disk.kill()
        (disk.folder / "queuelet.db").write_bytes(bytes(100_000))
        (disk.folder / "queuelet.db-wal").unlink(missing_ok=True)
        disk.start_again()
        seen = kube.wait("orders", lambda each: waits_with(each, "StoreFailed"), "reported")
        assert "restart the server" in str(condition(seen, "Reconciling"))
        assert seen["status"]["queueID"] == before["status"]["queueID"], "it is not taken for lost"
        kube.create("in-memory")
        kube.wait_ready("in-memory")
        kube.delete("deleted")
        kube.wait("deleted", lambda each: "deletionTimestamp" in each["metadata"], "being deleted")
        queuelet("restore", "--data-dir", str(disk.folder), "--force", str(backup))
        assert kube.get("deleted"), "it is not taken for removed"
        disk.process.stop()
        disk.start_again()
        kube.wait("orders", lambda each: is_ready(each) and messages_of(each) == {"ready": 1}, "as it was")
        kube.wait_gone("deleted")
        assert disk.rpc.pop(queue).payload == b"saved"


def test_a_backup_that_was_restored_is_reported_with_what_is_in_it(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues, disk: DiskServer
) -> None:
    with apart.operator(disk.process, "--counts-every", "0.2") as operator:
        kube.create(store="Disk", limit=100)
        kube.wait_ready()
        server, queue = disk.rpc, kube.server_name("orders")
        server.add_batch(queue, [b""] * 7)
        backup = disk.folder.parent / "backup"
        queuelet("backup", "--data-dir", str(disk.folder), str(backup))
        server.add_batch(queue, [b""] * 20)
        kube.change(limit=50)
        kube.wait("orders", lambda each: messages_of(each) == {"ready": 27}, "counted")
        kube.wait_ready()
        settled(operator)
        with History(control_plane, kube) as history:
            disk.kill()
            queuelet("restore", "--data-dir", str(disk.folder), "--force", str(backup))
            disk.start_again()
            history.wait(["orders"], ["ServerStateLost", "Ready"])
            seen = kube.wait("orders", lambda each: messages_of(each) == {"ready": 7}, "as it was")
            restored = disk.rpc.get_queue(queue)
        kube.wait_event("ServerStateLost")  # an Event of a drift would be posted before it
        assert (restored.limit, seen["status"]["effective"]["limit"]) == (50, 50), "it is as declared, not as it was"
        assert {each["reason"] for each in kube.events()} == {"ServerStateLost"}, "no client edited it"
        message = kube.wait_event("ServerStateLost")["message"]
        assert "held 27 ready" in message
        assert "now holds 7 ready" in message


def queuelet(*arguments: str) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "queuelet", *arguments], check=True, capture_output=True)


# A disk that is full or fails


def test_a_full_disk_is_reported_and_passes(
    control_plane: ControlPlane,
    apart: Apart,
    kube: KubeQueues,
    faulty_disk: DiskServer,
) -> None:
    server = faulty_disk.rpc
    count = soaked(5, 100)
    names = [f"orders-{number}" for number in range(count)]
    with apart.operator(faulty_disk.process, "--outage-after", "1.5", "--counts-every", "3600") as operator:
        for name in names:
            kube.create(name, store="Disk")
        kube.create("in-memory")
        kube.wait_all_ready(count + 1)
        with History(control_plane, kube) as history:
            writes = Writes(kube.api)
            queue = kube.server_name("orders-0")
            faulty_disk.fill(queue)
            history.wait(names, ["StoreFull"])
            settled(operator)
            # The counts of the queue that filled the disk are in the same write, or in an earlier one.
            assert writes.so_far() in {count, count + 1}
            assert all(waits_with(kube.get(name), "StoreFull") for name in names)
            assert problems(operator) == {'reason="StoreFull",store="Disk"': 1.0}
            assert server.pop(queue).payload, "it can be emptied"
            server.add(kube.server_name("in-memory"), b"as ever")
            kube.create("made-meanwhile", store="Disk")
            kube.wait_reason("StoreFull", "made-meanwhile")
            settled(operator)  # the API server counts a write after its response, which is after its watch event
            writes = Writes(kube.api)
            faulty_disk.heal()
            history.wait(names, ["StoreFull", "Ready"])
            kube.wait_ready("made-meanwhile")
            settled(operator)
            assert writes.so_far() == count + 1
            assert not history.reasons("in-memory")
            assert not problems(operator)
        server.add(queue, b"there is room")


def problems(operator: OperatorProcess) -> dict[str, float]:
    """Return the operator's metrics of stores."""
    return samples(f"{operator.metrics_url}/metrics", "queuelet_operator_store_problem")


def test_a_disk_that_fails_for_a_moment_is_no_news(apart: Apart, kube: KubeQueues, faulty_disk: DiskServer) -> None:
    server, queue = faulty_disk.rpc, kube.server_name("orders")
    with apart.operator(faulty_disk.process, "--counts-every", "3600") as operator:
        before = make(kube)
        settled(operator)
        writes = Writes(kube.api)
        faulty_disk.fail(queue)
        eventually(lambda: bool(problems(operator)), "the operator knows")
        faulty_disk.heal()
        eventually(lambda: not problems(operator), "the problem has ended")
        settled(operator)
        assert writes.so_far() == 0
        assert server.get_queue(queue).meta.id == before["status"]["queueID"]
    assert not kube.events()


def test_a_disk_that_keeps_failing_is_reported_and_passes(
    control_plane: ControlPlane,
    apart: Apart,
    kube: KubeQueues,
    faulty_disk: DiskServer,
) -> None:
    server, queue = faulty_disk.rpc, kube.server_name("orders")
    with apart.operator(faulty_disk.process, *SOON) as operator:
        before = make(kube)
        server.add(queue, b"kept")
        kube.wait("orders", lambda each: messages_of(each) == {"ready": 1}, "counted")
        settled(operator)
        with History(control_plane, kube) as history:
            writes = Writes(kube.api)
            faulty_disk.fail(queue)
            kube.wait("orders", lambda each: waits_with(each, "StoreFailed"), "reported")
            settled(operator)
            assert writes.so_far() == 1
            assert problems(operator) == {'reason="StoreFailed",store="Disk"': 1.0}
            kube.create("made-meanwhile", store="Disk")
            kube.wait("made-meanwhile", lambda each: waits_with(each, "StoreFailed"), "reported")
            faulty_disk.heal()
            history.wait(["orders"], ["StoreFailed", "Ready"])
            kube.wait_ready("made-meanwhile")
        after = kube.get()
    assert (after["status"]["queueID"], after["status"]["epoch"]) == (
        before["status"]["queueID"],
        before["status"]["epoch"],
    )
    assert server.pop(queue).payload == b"kept"
    assert not kube.events()


def test_what_is_deleted_while_the_disk_fails_goes_when_it_is_well_again(
    apart: Apart, kube: KubeQueues, faulty_disk: DiskServer
) -> None:
    server, queue = faulty_disk.rpc, kube.server_name("orders")
    with apart.operator(faulty_disk.process, *SOON):
        make(kube)
        faulty_disk.fail(queue)
        kube.delete()
        kube.wait("orders", lambda each: waits_with(each, "StoreFailed"), "reported")
        faulty_disk.heal()
        kube.wait_gone()
    with pytest.raises(Refused, match="there is no queue"):
        server.get_queue(queue)
    assert not kube.events(), "nothing was left behind"


def make(kube: KubeQueues) -> Object:
    """Create a Queue on disk, and wait until it is Ready."""
    kube.create(store="Disk")
    return kube.wait_ready()

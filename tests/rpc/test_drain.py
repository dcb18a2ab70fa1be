"""Draining: nothing acknowledged is lost, and every call ends with a response or a status."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2

from queuelet.v1 import queue_pb2 as pb
from support.pages import fetch
from support.patience import patient
from support.rpc import SERVICE, Refused, Rpc, add_request, eventually, outcome, pop_request
from support.server_process import ServerProcess

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Load:
    """Clients that add, pop, wait and watch, each until its first refusal."""

    def __init__(self, server: ServerProcess) -> None:
        """Use a server, and create the queues."""
        self._server = server
        self._lock = threading.Lock()
        self.acknowledged: list[bytes] = []
        self.popped: list[bytes] = []
        self.ends: list[Refused] = []
        with closing(Rpc(server.address)) as rpc:
            self.busy = rpc.new_queue("busy").meta.id
            self.empty = rpc.new_queue("empty").meta.id
            self.full = rpc.new_queue("full", limit=1).meta.id
            rpc.add(self.full, b"full")
        self.acknowledged.append(b"full")
        work = [self._add] * 3 + [self._add_batches] + [self._pop] * 2
        work += [self._long_poll] * 3 + [self._wait_for_room] * 3 + [self._watch] * 2
        self.threads = [
            threading.Thread(target=self._until_refused, args=(do, number)) for number, do in enumerate(work)
        ]

    def start(self) -> None:
        """Start the clients."""
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        """Wait until every client has its last response."""
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads), "every call got a response"

    def _until_refused(self, work: Callable[[Rpc, int], None], number: int) -> None:
        with closing(Rpc(self._server.address)) as rpc:
            try:
                work(rpc, number)
            except Refused as refused:
                with self._lock:
                    self.ends.append(refused)

    def _add(self, rpc: Rpc, number: int) -> None:
        for count in range(1_000_000):
            payload = f"{number} {count}".encode()
            rpc.add(self.busy, payload)
            with self._lock:
                self.acknowledged.append(payload)

    def _add_batches(self, rpc: Rpc, number: int) -> None:
        for count in range(1_000_000):
            payloads = [f"{number} {count} {place}".encode() for place in range(10)]
            results = rpc.add_batch(self.busy, payloads)
            assert all(result.id for result in results)
            with self._lock:
                self.acknowledged += payloads

    def _pop(self, rpc: Rpc, number: int) -> None:
        while True:
            response = rpc.call("Pop", pop_request(self.busy, 60), pb.PopResponse)
            with self._lock:
                self.popped.append(response.message.payload)

    def _long_poll(self, rpc: Rpc, number: int) -> None:
        rpc.call("Pop", pop_request(self.empty, 600), pb.PopResponse, timeout=600)

    def _wait_for_room(self, rpc: Rpc, number: int) -> None:
        rpc.call("Add", add_request(self.full, b"no room", wait=True), pb.AddResponse, timeout=600)

    def _watch(self, rpc: Rpc, number: int) -> None:
        for _ in rpc.watch(timeout=600):
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_under_load_ends_every_call_with_a_response_and_loses_nothing(number: signal.Signals) -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        load = Load(server)
        load.start()
        eventually(lambda: len(load.acknowledged) > 500 and len(load.popped) > 50, "the load is on")
        eventually(lambda: rpc.stats(load.empty).waiting_calls == 3, "the long polls wait")
        eventually(lambda: rpc.stats(load.full).waiting_calls == 3, "the adds wait")
        server.signal(number)
        assert server.wait() == 0
        load.join()
        assert [end.code for end in load.ends] == [UNAVAILABLE] * len(load.threads), load.ends
        last = server.log()[-1]
        assert last["msg"] == "stopped"
        assert set(load.popped) <= set(load.acknowledged) | {b""}
        assert len(set(load.popped)) == len(load.popped)
        assert last["messages_lost"] == len(load.acknowledged) - len(load.popped)
        assert last["queues"] == {"busy": last["messages_lost"] - 1, "full": 1}
        assert [line["msg"] for line in server.log()][-3:] == ["shutdown requested", "draining", "stopped"]
        assert server.log("shutdown requested")[0]["signal"] == number.name


def test_calls_that_wait_end_with_the_reason() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        empty, full = rpc.new_queue().meta.id, rpc.new_queue(limit=1).meta.id
        rpc.add(full)
        pop = rpc.start("Pop", pop_request(empty, 600), timeout=600)
        add = rpc.start("Add", add_request(full, b"x", wait=True), timeout=600)
        batch = pb.AddBatchRequest(queue_id=full, messages=[pb.NewMessage()] * 3, wait=True)
        adds = rpc.start("AddBatch", batch, timeout=600)
        watch = rpc.watch(timeout=600)
        watch.snapshot()
        eventually(lambda: rpc.stats(empty).waiting_calls + rpc.stats(full).waiting_calls == 3, "all wait")
        server.signal(signal.SIGTERM)
        ends = [outcome(pop, pb.PopResponse), outcome(add, pb.AddResponse), outcome(adds, pb.AddBatchResponse)]
        with pytest.raises(Refused) as caught:
            watch.until(lambda _: False)
        for end in (*ends, caught.value):
            assert isinstance(end, Refused)
            assert (end.code, end.reason) == (UNAVAILABLE, "SERVER_DRAINING")
        assert server.wait() == 0


def test_a_batch_that_was_added_in_part_reports_which_part() -> None:
    """The added part was acknowledged, so it counts as lost."""
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        queue = rpc.new_queue("part", limit=2).meta.id
        batch = pb.AddBatchRequest(queue_id=queue, messages=[pb.NewMessage()] * 5, wait=True)
        call = rpc.start("AddBatch", batch, timeout=600)
        eventually(lambda: rpc.stats(queue).waiting_calls == 1, "the rest waits")
        assert server.stop() == 0
        response = outcome(call, pb.AddBatchResponse)
        assert isinstance(response, pb.AddBatchResponse)
        assert [bool(result.id) for result in response.results] == [True, True, False, False, False]
        assert {result.error.reason for result in response.results[2:]} == {"SERVER_DRAINING"}
        assert server.log("stopped")[0]["queues"] == {"part": 2}


# While it drains


@contextmanager
def draining(*flags: str) -> Iterator[tuple[ServerProcess, Rpc]]:
    """A server that is draining and cannot stop yet, because the request of a call never arrives."""
    release = threading.Event()

    def no_request() -> Iterator[bytes]:
        release.wait()
        yield from ()

    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.new_queue("held")
        call = cast("Any", rpc.channel.stream_unary)(f"/{SERVICE}/Add").future(no_request(), timeout=600)
        rpc.get_queue("held")
        try:
            yield server, rpc
        finally:
            release.set()
            call.cancel()


def test_a_draining_server_is_alive_and_not_ready() -> None:
    with draining("--grace", "60") as (server, rpc):
        watch = rpc.stream("grpc.health.v1.Health/Watch", b"", timeout=600)
        read = health_pb2.HealthCheckResponse.FromString
        assert read(next(watch)).status == health_pb2.HealthCheckResponse.SERVING
        assert fetch(f"{server.metrics_url}/readyz").status == 200
        server.signal(signal.SIGTERM)
        assert read(next(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert fetch(f"{server.metrics_url}/readyz").status == 503
        assert fetch(f"{server.metrics_url}/healthz").status == 200
        assert fetch(f"{server.metrics_url}/metrics").status == 200


def test_a_draining_server_takes_no_new_calls() -> None:
    with draining("--grace", "60") as (server, rpc):
        server.signal(signal.SIGTERM)
        eventually(lambda: bool(server.log("draining")), "it drains")
        with closing(Rpc(server.address)) as late, pytest.raises(Refused) as caught:
            late.add("held", b"late")
        assert caught.value.code is UNAVAILABLE
        with pytest.raises(Refused) as caught:
            rpc.add("held", b"late")
        assert caught.value.code is UNAVAILABLE


def test_what_does_not_end_within_the_grace_is_cut_off() -> None:
    with draining("--grace", "0.5") as (server, rpc):
        rpc.add("held", b"x")
        assert server.stop() == 0
        assert server.log("stopped")[0]["messages_lost"] == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_signal_ends_it_at_once(second: signal.Signals) -> None:
    with draining("--grace", "600") as (server, _):
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining")
        server.signal(second)
        assert server.wait() == 128 + second
        assert server.log()[-1]["msg"] == "stopped immediately by a second signal"


def test_a_health_watch_does_not_hold_up_the_end() -> None:
    """All streams end with UNAVAILABLE. The grace period is longer than the test may take, so they do not end by it."""
    with ServerProcess("--grace", "600") as server, closing(Rpc(server.address)) as rpc:
        watch = rpc.stream("grpc.health.v1.Health/Watch", b"", timeout=600)
        next(watch)
        assert server.stop(timeout=20) == 0


def test_a_stream_without_a_request_does_not_hold_up_the_end() -> None:
    """And it ends with UNAVAILABLE like any other, and not as bad input."""
    with ServerProcess("--grace", "600") as server, grpc.insecure_channel(server.address) as channel:
        silent = threading.Event()

        def requests() -> Iterator[bytes]:
            silent.wait(patient(60))
            yield from ()

        stream = cast("Any", channel.stream_stream("/queuelet.v1.QueueService/WatchQueues"))(requests())
        with closing(Rpc(server.address)) as rpc:
            rpc.server_stats()
        assert server.stop(timeout=20) == 0
        assert stream.code() is UNAVAILABLE
        silent.set()
        assert not [line for line in server.log() if line["level"] == "error"]


def test_a_watcher_that_does_not_read_is_cut_off_after_the_grace() -> None:
    """Its responses fill the flow-control window of the connection."""
    with ServerProcess("--grace", "1") as server, closing(Rpc(server.address)) as rpc:
        tags = [(f"k{number}", "v" * 4_000) for number in range(60)]
        for _ in range(100):
            rpc.new_queue(tags=tags)
        reader = Rpc(server.address, options=[("grpc.max_receive_message_length", -1)])
        with closing(reader):
            watch = reader.watch(timeout=600)
            next(watch)
            eventually(lambda: rpc.server_stats().queues == 100, "calls are served meanwhile")
            assert server.stop(timeout=20) == 0


def test_a_scraper_that_does_not_read_does_not_hold_up_the_end() -> None:
    with ServerProcess("--grace", "1") as server, closing(Rpc(server.address)) as rpc:
        tags = [(f"k{number}", "v" * 4_000) for number in range(60)]
        for _ in range(100):
            rpc.new_queue(tags=tags)
        with socket.create_connection(("127.0.0.1", server.metrics_port)) as scraper:
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: q\r\n\r\n")
            assert scraper.recv(9) == b"HTTP/1.1 "
            assert server.stop(timeout=20) == 0


def test_a_server_that_never_served_a_call_ends_with_0() -> None:
    with ServerProcess() as server:
        assert server.stop() == 0
        assert server.log()[-1]["messages_lost"] == 0


# By HTTP


def own_address() -> str:
    """Return an address of this machine that is not loopback; skip if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; it only selects the interface
        except OSError:
            pytest.skip("this machine has no address but loopback's, so no other client can be distinguished from it")
        address = cast("str", probe.getsockname()[0])
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback's, so no other client can be distinguished from it")
    return address


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_quitquitquit_ends_it_with_0(method: str) -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        rpc.add(rpc.new_queue("left").meta.id)
        assert fetch(f"{server.metrics_url}/quitquitquit", method).text == "shutting down\n"
        assert server.wait() == 0
        assert server.log("shutdown requested")[0]["remote"] == "127.0.0.1"
        assert server.log("stopped")[0]["queues"] == {"left": 1}


def test_quitquitquit_is_closed_to_others() -> None:
    address = own_address()
    with ServerProcess("--metrics", "0.0.0.0:0") as server:
        refused = fetch(f"http://{address}:{server.metrics_port}/quitquitquit")
        assert refused.status == 403
        assert "--quit-from-anywhere" in refused.text
        assert server.is_running
        assert fetch(f"http://{address}:{server.metrics_port}/readyz").status == 200
        assert not server.log("shutdown requested")
        assert server.stop() == 0


def test_quitquitquit_is_opened_to_others_by_a_flag() -> None:
    address = own_address()
    with ServerProcess("--metrics", "0.0.0.0:0", "--quit-from-anywhere") as server:
        assert fetch(f"http://{address}:{server.metrics_port}/quitquitquit").status == 200
        assert server.wait() == 0
        assert server.log("shutdown requested")[0]["remote"] == address

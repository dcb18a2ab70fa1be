"""Metrics, health and reflection of a server, and every method by grpcurl.

The names and texts of negz/q's own counters are tested in test_negz_q.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from queuelet.v1 import queue_pb2 as pb
from support.pages import fetch
from support.patience import patient
from support.rpc import NEGZ_SERVICE, SERVICE, Refused, Rpc, eventually, pop_request, unique_name
from support.server_process import ServerProcess

SERVING = health_pb2.HealthCheckResponse.SERVING


def scrape(server: ServerProcess) -> dict[str, Metric]:
    """Return all families by name."""
    families = list(text_string_to_metric_families(fetch(f"{server.metrics_url}/metrics").text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "each family comes once"
    return {family.name: family for family in families}


def samples(server: ServerProcess, family: str, **labels: str) -> list[dict[str, str]]:
    """Return the labels of a family's samples that have these labels."""
    found = scrape(server).get(family)
    return [sample.labels for sample in (found.samples if found else ()) if labels.items() <= sample.labels.items()]


def value(server: ServerProcess, family: str, **labels: str) -> float | None:
    """Return the one sample with these labels, None if there is none."""
    found = scrape(server).get(family)
    values = [sample.value for sample in (found.samples if found else ()) if labels.items() <= sample.labels.items()]
    assert len(values) <= 1
    return values[0] if values else None


# Metrics


def test_metrics_are_text_that_prometheus_reads(server: ServerProcess, queue: pb.Queue) -> None:
    status, kind, text = fetch(f"{server.metrics_url}/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert text.endswith("\n")
    assert "_created" not in text
    assert scrape(server)


def test_gauges_show_the_queue_as_it_is(server: ServerProcess, rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=7).meta.id
    assert value(server, "queuelet_queue_limit", queue=queue) == 7
    assert value(server, "queuelet_queue_messages", queue=queue, state="ready") == 0
    assert value(server, "queuelet_queue_oldest_ready_age_seconds", queue=queue) is None
    for payload in (b"one", b"two"):
        rpc.add(queue, payload)
    states = scrape(server)["queuelet_queue_messages"].samples
    counts = {sample.labels["state"]: sample.value for sample in states if sample.labels["queue"] == queue}
    assert counts == {"ready": 2, "delayed": 0, "leased": 0, "dead": 0}
    age = value(server, "queuelet_queue_oldest_ready_age_seconds", queue=queue)
    assert age is not None
    assert 0 <= age < 3600
    assert value(server, "queuelet_queue_stored_bytes", queue=queue) == rpc.stats(queue).stored_bytes > 0
    rpc.pop_all(queue)
    assert value(server, "queuelet_queue_stored_bytes", queue=queue) == 0
    assert value(server, "queuelet_queue_oldest_ready_age_seconds", queue=queue) is None
    rpc.delete_queue(queue)


def test_waiting_calls_and_purged_messages_are_counted(server: ServerProcess, rpc: Rpc, queue: pb.Queue) -> None:
    queue_id = queue.meta.id
    call = rpc.start("Pop", pop_request(queue_id, 60))
    eventually(lambda: value(server, "queuelet_queue_waiting_calls", queue=queue_id) == 1, "the call is counted")
    call.cancel()
    eventually(lambda: value(server, "queuelet_queue_waiting_calls", queue=queue_id) == 0, "it has gone")
    assert value(server, "queuelet_queue_messages_purged", queue=queue_id) is None
    rpc.add_batch(queue_id, [b""] * 5)
    rpc.call("Purge", pb.PurgeRequest(queue_id=queue_id, all=True), pb.PurgeResponse)
    assert value(server, "queuelet_queue_messages_purged", queue=queue_id) == 5


def test_info_joins_id_name_namespace_and_store(server: ServerProcess, rpc: Rpc, queue: pb.Queue) -> None:
    assert samples(server, "queuelet_queue_info", queue=queue.meta.id) == [
        {"queue": queue.meta.id, "name": "", "namespace": "", "store": "Memory"}
    ]
    name = unique_name("shop.orders")
    owner = pb.Owner(name="queuelet/default/shop/orders", uid=unique_name("uid"))
    declared = pb.QueueDeclaration(name=name, store=pb.Queue.MEMORY, limit=-1, owner=owner)
    request = pb.DeclareQueuesRequest(queues=[declared])
    (result,) = rpc.call("DeclareQueues", request, pb.DeclareQueuesResponse).results
    assert samples(server, "queuelet_queue_info", name=name) == [
        {"queue": result.queue.meta.id, "name": name, "namespace": "shop", "store": "Memory"}
    ]


NASTY = ['quote"', "back\\slash", "line\nend", "return\r# HELP", "\r\n", "é☃", "{}=,", " ", "\u2028", "\x0b\x0c\x1c"]


def asked_for(*keys: str) -> list[str]:
    """Return the flags for series of tags with these keys."""
    return [word for key in keys for word in ("--metrics-tag", key)]


def test_tags_are_one_series_each_whatever_is_in_them() -> None:
    """Also those of queues after the first chunk."""
    tags = [("team", "a"), ("team", "b"), *((f"k {text}", f"v {text}") for text in NASTY)]
    with ServerProcess(*asked_for(*dict(tags))) as server, closing(Rpc(server.address)) as rpc:
        queues = [rpc.new_queue(tags=tags).meta.id]
        for _ in range(200):
            rpc.new_queue()
        queues.append(rpc.new_queue(tags=tags).meta.id)
        for queue in queues:
            series = samples(server, "queuelet_queue_tag_info", queue=queue)
            assert {(labels["key"], labels["value"]) for labels in series} == set(tags)


def test_tags_have_series_only_for_keys_that_were_asked_for_and_long_values_are_cut() -> None:
    same = "x" * 127 + "\N{SNOWMAN}"
    with (
        ServerProcess(env={"QUEUELET_SERVER_METRICS_TAG": "team tier"}) as server,
        closing(Rpc(server.address)) as rpc,
    ):
        rpc.new_queue(tags=[("team", "a"), ("other", "b"), ("tier", f"{same}1"), ("tier", f"{same}2")])
        series = samples(server, "queuelet_queue_tag_info")
        assert {(labels["key"], labels["value"]) for labels in series} == {("team", "a"), ("tier", "x" * 127)}
        assert len(series) == 2, "values that are the same once cut are one series"


def test_queues_at_the_bounds_do_not_make_metrics_large(server: ServerProcess, rpc: Rpc) -> None:
    """Here 10 queues with 64 tags of 4 KB each; each queue adds some KB to a scrape."""
    before = len(fetch(f"{server.metrics_url}/metrics").text)
    tags = [(f"key{number}", "v" * 4_096) for number in range(64)]
    queues = [rpc.new_queue(tags=tags).meta.id for _ in range(10)]
    after = len(fetch(f"{server.metrics_url}/metrics").text)
    assert after - before < 10 * 4_096
    for queue in queues:
        rpc.delete_queue(queue)


def test_every_series_of_a_deleted_queue_goes(server: ServerProcess, rpc: Rpc) -> None:
    queue = rpc.new_queue(limit=1, tags=[("k", "v")]).meta.id
    rpc.add(queue)
    with pytest.raises(Refused):
        rpc.add(queue)
    rpc.pop(queue)
    with pytest.raises(Refused):
        rpc.pop(queue)
    families = {
        family.name for family in scrape(server).values() for s in family.samples if s.labels.get("queue") == queue
    }
    assert {
        "queue_messages_enqueued",
        "queue_messages_consumed",
        "queue_errors",
        "queuelet_queue_messages",
        "queuelet_queue_limit",
        "queuelet_queue_info",
    } <= families
    rpc.delete_queue(queue)
    assert queue not in fetch(f"{server.metrics_url}/metrics").text


def test_calls_are_counted_and_timed_by_service_method_and_code() -> None:
    with ServerProcess() as server, closing(Rpc(server.address)) as rpc:
        queue = rpc.new_queue().meta.id
        for _ in range(5):
            rpc.add(queue)
            rpc.call(f"{NEGZ_SERVICE}/Pop", pb.PopRequest(queue_id=queue), pb.PopResponse)
        for _ in range(3):
            with pytest.raises(Refused):
                rpc.pop(queue)
        families = scrape(server)
        calls = {
            (sample.labels["service"], sample.labels["method"], sample.labels["code"]): sample.value
            for sample in families["queuelet_rpc_calls"].samples
        }
        assert calls[SERVICE, "Add", "OK"] == 5
        assert calls[NEGZ_SERVICE, "Pop", "OK"] == 5
        assert calls[SERVICE, "Pop", "NOT_FOUND"] == 3
        assert not calls.get((SERVICE, "Pop", "OK"))
        durations: dict[tuple[str, str], dict[str, float]] = {}
        for sample in families["queuelet_rpc_duration_seconds"].samples:
            key = (sample.labels["service"], sample.labels["method"])
            name = sample.labels.get("le") or sample.name.rpartition("_")[2]
            durations.setdefault(key, {})[name] = sample.value
        assert {(SERVICE, "Add"), (SERVICE, "Pop"), (NEGZ_SERVICE, "Pop")} <= durations.keys()
        add = durations[SERVICE, "Add"]
        assert add["count"] == add["+Inf"] == 5
        assert 0 < add["sum"] < 60
        bounds = [number for le, number in add.items() if le not in {"count", "sum"}]
        assert bounds == sorted(bounds), "buckets add up"


def test_the_server_reports_its_version_memory_and_process(server: ServerProcess, rpc: Rpc) -> None:
    families = scrape(server)
    (build,) = families["queuelet_build_info"].samples
    assert build.labels["version"] == rpc.server_stats().version
    used, watermark = (value(server, f"queuelet_memory_{name}_bytes") for name in ("accounted", "watermark"))
    assert used is not None
    assert watermark is not None
    assert 0 < used < watermark
    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= families.keys()


def test_a_scrape_of_many_queues_while_calls_run() -> None:
    """10,000 queues. The longest latency is printed; only counts are asserted."""
    with ServerProcess(*asked_for("k")) as server, closing(Rpc(server.address)) as rpc:
        for start in range(0, 10_000, 5_000):
            declared = [
                pb.QueueDeclaration(
                    name=f"q{number}", store=pb.Queue.MEMORY, limit=-1, tags=[pb.Tag(key="k", value="v")]
                )
                for number in range(start, start + 5_000)
            ]
            results = rpc.call(
                "DeclareQueues", pb.DeclareQueuesRequest(queues=declared), pb.DeclareQueuesResponse
            ).results
            assert len(results) == 5_000
        scraped: list[str] = []
        scraper = threading.Thread(
            target=lambda: scraped.extend(fetch(f"{server.metrics_url}/metrics").text for _ in range(2))
        )
        idle = [_timed(lambda: rpc.add("q1")) for _ in range(200)]
        scraper.start()
        busy = []
        while scraper.is_alive():
            busy.append(_timed(lambda: rpc.add("q1")))
        scraper.join()
        print(  # noqa: T201  # a figure for developers
            f"longest call: {max(idle) * 1e3:.1f} ms idle, {max(busy) * 1e3:.1f} ms of {len(busy)} "
            "while 10,000 queues were scraped twice"
        )
        for text in scraped:
            assert text.count("\nqueuelet_queue_info{") == 10_000
            assert text.count("\nqueuelet_queue_tag_info{") == 10_000
            assert text.count("\nqueuelet_queue_messages{") == 40_000
            assert text.count("# TYPE queuelet_queue_messages gauge\n") == 1
        assert len(busy) > 1, "calls were served meanwhile"
        assert rpc.stats("q1").enqueued == len(idle) + len(busy)


def _timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


# The other endpoints


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_server_that_serves_is_alive_and_ready(server: ServerProcess, path: str) -> None:
    assert fetch(f"{server.metrics_url}{path}").status == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics/../etc/passwd", "/healthz/x"])
def test_other_pages_are_not_there(server: ServerProcess, path: str) -> None:
    assert fetch(f"{server.metrics_url}{path}").status == 404


# Health by gRPC


@pytest.mark.parametrize("service", ["", SERVICE, NEGZ_SERVICE])
def test_health_of_each_service_is_serving(rpc: Rpc, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    response = rpc.call("grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)
    assert response.status == SERVING
    watch = rpc.stream("grpc.health.v1.Health/Watch", request.SerializeToString())
    assert health_pb2.HealthCheckResponse.FromString(next(watch)).status == SERVING
    watch.cancel()


def test_health_of_an_unknown_service_is_not_found(rpc: Rpc) -> None:
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    with pytest.raises(Refused) as caught:
        rpc.call("grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_one_connection_can_have_ten_streams_of_health_and_reflection(server: ServerProcess) -> None:
    """They need no token, and 20,000 of them made other calls wait for a second."""
    path, request = "grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest().SerializeToString()
    with closing(Rpc(server.address, options=[("grpc.use_local_subchannel_pool", 1)])) as rpc:
        watches = [rpc.stream(path, request) for _ in range(10)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as caught:
            next(rpc.stream(path, request))
        assert cast("grpc.Call", caught.value).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watches[0].cancel()
        eventually(lambda: _can_watch(rpc, path, request), "a watch has ended, so that another may begin")


def _can_watch(rpc: Rpc, path: str, request: bytes) -> bool:
    try:
        watch = rpc.stream(path, request)
        next(watch)
        watch.cancel()
    except grpc.RpcError:
        return False
    return True


# Reflection

METHODS = {
    SERVICE: [method.name for method in pb.DESCRIPTOR.services_by_name["QueueService"].methods],
    NEGZ_SERVICE: [
        "ListQueues",
        "NewQueue",
        "GetQueue",
        "DeleteQueue",
        "AddQueueTag",
        "DeleteQueueTag",
        "Add",
        "Pop",
        "Peek",
    ],
}


def reflect(rpc: Rpc, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
    """Send reflection requests."""
    data = request.SerializeToString()
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    responses = cast("Any", rpc.channel.stream_stream)(path)(iter([data]), timeout=30)
    return reflection_pb2.ServerReflectionResponse.FromString(next(iter(responses)))


def test_reflection_lists_both_services(rpc: Rpc) -> None:
    listed = {
        service.name
        for service in reflect(
            rpc, reflection_pb2.ServerReflectionRequest(list_services="")
        ).list_services_response.service
    }
    assert {SERVICE, NEGZ_SERVICE, "grpc.health.v1.Health"} <= listed


@pytest.mark.parametrize("service", [SERVICE, NEGZ_SERVICE])
def test_reflection_describes_each_service(rpc: Rpc, service: str) -> None:
    response = reflect(rpc, reflection_pb2.ServerReflectionRequest(file_containing_symbol=service))
    file = FileDescriptorProto.FromString(response.file_descriptor_response.file_descriptor_proto[0])
    (described,) = file.service
    assert [method.name for method in described.method] == METHODS[service]
    assert file.name == ("q.proto" if service == NEGZ_SERVICE else "queuelet/v1/queue.proto")


# grpcurl


@pytest.fixture(scope="session")
def grpcurl() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run grpcurl in plain text; skip if it was not built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = Path(os.environ.get("QUEUELET_GRPCURL") or cache / "queuelet/bin/grpcurl-v1.9.4")
    if not binary.exists():
        pytest.skip(f"no grpcurl at {binary}: `make test` builds it, or point QUEUELET_GRPCURL at one")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(binary), "-plaintext", "-max-time", "30", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=patient(60), check=False)

    return run


def _requests(queue: str, message_id: str) -> dict[str, dict[str, object]]:
    """Return a valid request of each method, for a queue with messages in it."""
    tag = {"key": "team", "value": "checkout"}
    new = {"payload": "aGVsbG8=", "tags": [tag]}
    return {
        "ListQueues": {},
        "NewQueue": {"store": "MEMORY", "limit": "10", "tags": [tag]},
        "GetQueue": {"queue_id": queue},
        "DeleteQueue": {"queue_id": "6f9c0000-1111-4222-8333-444455556666"},
        "AddQueueTag": {"queue_id": queue, "tag": tag},
        "DeleteQueueTag": {"queue_id": queue, "tag": tag},
        "Add": {"queue_id": queue, "message": new},
        "Pop": {"queue_id": queue},
        "Peek": {"queue_id": queue},
        "AddBatch": {"queue_id": queue, "messages": [new, new], "wait": True},
        "PopBatch": {"queue_id": queue, "max": 1, "wait": "0.5s"},
        "PeekBatch": {"queue_id": queue, "max": 2},
        "Receive": {"queue_id": queue, "max": 1, "wait": "0.5s", "lease": "60s", "consumer": "grpcurl"},
        "Ack": {"queue_id": queue, "tokens": ["1"]},
        "Nack": {"queue_id": queue, "tokens": ["1"], "delay": "0.5s", "reason": "busy"},
        "Extend": {"queue_id": queue, "tokens": ["1"], "lease": "60s"},
        "Consume": {"start": {"queue_id": queue}, "ack": ["1"]},
        "Redrive": {"queue_id": queue, "all": True, "dry_run": True},
        "Browse": {"queue_id": queue, "states": ["MESSAGE_STATE_READY"], "page_size": 1},
        "Purge": {"queue_id": queue, "ids": [message_id]},
        "DeclareQueues": {"queues": [{"name": unique_name(), "store": "MEMORY", "limit": "-1"}]},
        "RemoveQueues": {"queues": [{"queue_id": "absent"}]},
        "WatchQueues": {"selector": "never=there"},
        "GetStats": {"queue_id": queue},
        "ListConsumers": {"queue_id": queue},
        "GetHistory": {"queue_id": queue},
        "Tail": {"queue_id": queue},
    }


def test_grpcurl_lists_every_method(
    server: ServerProcess, grpcurl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    listed = grpcurl(server.address, "list").stdout.split()
    assert {SERVICE, NEGZ_SERVICE} <= set(listed)
    for service, methods in METHODS.items():
        names = grpcurl(server.address, "list", service).stdout.split()
        assert sorted(names) == sorted(f"{service}.{method}" for method in methods)


@pytest.fixture
def filled(rpc: Rpc) -> Iterator[tuple[str, str]]:
    """A queue with three messages, and the ID of the last."""
    queue = rpc.new_queue().meta.id
    ids = [result.id for result in rpc.add_batch(queue, [b"one", b"two", b"three"])]
    yield queue, ids[-1]
    rpc.delete_queue(queue)


@pytest.mark.parametrize("service", [SERVICE, NEGZ_SERVICE])
def test_grpcurl_calls_every_method(
    server: ServerProcess,
    filled: tuple[str, str],
    grpcurl: Callable[..., subprocess.CompletedProcess[str]],
    service: str,
) -> None:
    requests = _requests(*filled)
    described = [name.rpartition(".")[2] for name in grpcurl(server.address, "list", service).stdout.split()]
    assert described
    for method in described:
        limit = ("-max-time", "2") if method in {"Tail", "WatchQueues"} else ()
        ran = grpcurl(*limit, "-d", json.dumps(requests[method]), server.address, f"{service}/{method}")
        if method == "WatchQueues":
            assert '"snapshot_complete": true' in ran.stdout, ran.stderr
        elif method == "Tail":
            assert json.loads(ran.stdout) == {}, ran.stderr
        else:
            assert ran.returncode == 0, (method, ran.stderr)
            json.loads(ran.stdout)


def test_grpcurl_shows_a_refusal_with_its_reason(
    server: ServerProcess, queue: pb.Queue, grpcurl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    ran = grpcurl("-d", json.dumps({"queue_id": queue.meta.id}), server.address, f"{SERVICE}/Pop")
    assert ran.returncode != 0
    assert "Code: NotFound" in ran.stderr
    assert "has no message that is ready" in ran.stderr
    assert "QUEUE_EMPTY" in ran.stderr


def test_store_2_is_printed_as_disk() -> None:
    """BOLTDB is its alias, for clients of negz/q."""
    assert pb.Queue.Store.Name(pb.Queue.BOLTDB) == "DISK"
    assert str(pb.Queue(store=pb.Queue.BOLTDB)) == "store: DISK\n"


def test_large_responses_are_whole(rpc: Rpc, queue: pb.Queue) -> None:
    """More than one HTTP/2 window of messages in one response, and the rest in the next."""
    payload = bytes(1024)
    for _ in range(3):
        rpc.add_batch(queue.meta.id, [payload] * 3_000)
    request = pb.PopBatchRequest(queue_id=queue.meta.id)
    first = rpc.call("PopBatch", request, pb.PopBatchResponse).messages
    assert 3_000 < len(first) < 9_000
    assert len(rpc.pop_all(queue.meta.id)) == 9_000 - len(first)

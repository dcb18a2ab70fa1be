"""The statuses and Events that users see during an outage of the server, and after it restarted without its memory."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from queuelet.v1 import queue_pb2 as pb
from support.apart import Apart, server_in_place_of
from support.counts import soaked
from support.kube_queues import History, KubeQueues, Writes, condition, is_ready, reason_of
from support.operator_process import OperatorProcess
from support.pages import samples
from support.rpc import Rpc, eventually, unique_name
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane

CRDS = Path(__file__).parents[2] / "crds" / "queues.yaml"

SOON = ("--outage-after", "1.5")
"""Flags with which the operator reports an outage early, so that tests do not wait for ten seconds."""


def names(address: str) -> set[str]:
    """Return the names of the queues on a server."""
    client = Rpc(address)
    try:
        listed = client.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse).queues
    finally:
        client.close()
    return {queue.name for queue in listed}


def is_unavailable(body: dict[str, object]) -> bool:
    """Return whether the status of a Queue reports that the server is unreachable."""
    ready = condition(body)
    return ready is not None and ready["reason"] == "ServerUnavailable"


def test_a_queue_applied_while_the_server_is_down_says_so_and_is_made_when_it_comes(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    own_server.kill()
    with apart.operator(own_server, *SOON):
        kube.create()
        seen = kube.wait("orders", is_unavailable, "unavailable")
        reconciling = condition(seen, "Reconciling")
        assert reconciling
        assert "has not responded since" in reconciling["message"]
        assert condition(seen, "Stalled") is None, "it helps itself"
        with server_in_place_of(own_server) as server:
            kube.wait_ready()
            assert names(server.address) == {kube.server_name("orders")}


def test_a_queue_changed_while_the_server_is_down_is_changed_when_it_comes(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server):
        kube.create(limit=1)
        kube.wait_ready()
        own_server.kill()
        kube.change(limit=2)
        with server_in_place_of(own_server) as server:
            kube.wait("orders", lambda each: is_ready(each) and each["status"]["effective"]["limit"] == 2, "changed")
            client = Rpc(server.address)
            assert client.get_queue(kube.server_name("orders")).limit == 2
            client.close()


def test_a_queue_deleted_while_the_server_is_down_waits_for_it(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server, *SOON):
        kube.create()
        kube.wait_ready()
        own_server.kill()
        kube.delete()
        kube.wait("orders", is_unavailable, "unavailable")
        with server_in_place_of(own_server):
            kube.wait_gone()


def test_a_deletion_leaves_a_server_that_is_down_for_good(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server, *SOON, "--release-after", "3"):
        kube.create()
        kube.wait_ready()
        own_server.kill()
        kube.delete()
        kube.wait_gone()
        left = kube.wait_event("QueueLeft")
        assert kube.server_name("orders") in left["message"]
        assert "has not responded since" in left["message"]


def test_a_deletion_does_not_wait_once_the_service_of_the_server_is_gone(
    api: Api, apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    services = f"/api/v1/namespaces/{kube.namespace}/services"
    api.create(services, {"metadata": {"name": "server"}, "spec": {"ports": [{"port": 10002}]}})
    with apart.operator(own_server, "--server-service", f"{kube.namespace}/server"):
        kube.create()
        kube.wait_ready()
        own_server.kill()
        kube.delete()
        kube.create("other")
        assert kube.is_there(), "the Service is there, so the server may come back"
        api.delete(f"{services}/server")
        kube.wait_gone()
        assert "Service of the server was deleted" in kube.wait_event("QueueLeft")["message"]


def test_a_namespace_can_be_deleted_without_a_server(
    api: Api, apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    count = soaked(20, 100)
    namespace = unique_name("doomed")
    api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    doomed = KubeQueues(api, namespace)
    with apart.operator(own_server, "--namespace", namespace):
        for number in range(count):
            doomed.create(f"orders-{number}", deletionPolicy="Drain" if number % 2 else "Delete")
        doomed.wait_all_ready(count)
        own_server.kill()
        api.delete(f"/api/v1/namespaces/{namespace}")
        eventually(lambda: not api.is_there(f"/api/v1/namespaces/{namespace}"), "the namespace is gone", timeout=50.0)


def test_a_drain_does_not_keep_a_namespace_from_being_deleted(
    api: Api, apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    namespace = unique_name("doomed")
    api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    doomed = KubeQueues(api, namespace)
    client = Rpc(own_server.address)
    with apart.operator(own_server, "--namespace", namespace):
        doomed.create(deletionPolicy="Drain")
        doomed.wait_ready()
        client.add(doomed.server_name("orders"), b"kept")
        api.delete(f"/api/v1/namespaces/{namespace}")
        eventually(lambda: not api.is_there(f"/api/v1/namespaces/{namespace}"), "the namespace is gone", timeout=50.0)
    left = client.get_queue(doomed.server_name("orders"))
    client.close()
    assert (left.draining, left.messages.ready) == (True, 1), "it is left closed, with its messages"


@pytest.mark.timeout(180)
def test_a_server_that_comes_back_empty_has_its_queues_again_and_every_status_reports_the_loss(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    count = soaked(100, 1_000)
    with apart.operator(own_server):
        for number in range(count):
            kube.create(f"orders-{number}", limit=number + 1)
        before = {each["metadata"]["name"]: each["status"] for each in kube.wait_all_ready(count)}
        with History(control_plane, kube) as history:
            writes = Writes(kube.api)
            own_server.kill()
            with server_in_place_of(own_server) as server:
                eventually(lambda: len(names(server.address)) == count, "the queues are back")
                history.wait(before, ["ServerStateLost", "Ready"])
                assert writes.so_far() == 2 * count, "one to say that it was lost, one to say that it is back"
        for name, status in before.items():
            states = history.states[name]
            assert states[0]["status"]["epoch"] == status["epoch"] != states[-1]["status"]["epoch"]
            assert states[-1]["status"]["queueID"] == status["queueID"]
            assert condition(states[0], "Reconciling")


def test_a_short_outage_is_not_written_down_before_it_is_one(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server, "--outage-after", "3"):
        kube.create()
        kube.wait_ready()
        with History(control_plane, kube) as history:
            writes = Writes(kube.api)
            own_server.kill()
            kube.wait("orders", is_unavailable, "unavailable")
            assert writes.so_far() == 1
            with server_in_place_of(own_server):
                kube.wait_ready()
            assert writes.so_far() == 3
        assert history.reasons("orders") == ["ServerUnavailable", "ServerStateLost", "Ready"]


def test_lost_messages_are_reported_as_they_were_last_counted(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server, "--counts-every", "0.2"):
        kube.create()
        kube.wait_ready()
        client = Rpc(own_server.address)
        client.add_batch(kube.server_name("orders"), [b""] * 7)
        client.close()
        kube.wait("orders", lambda each: each["status"]["messages"]["ready"] == 7, "counted")
        own_server.kill()
        with server_in_place_of(own_server):
            event = kube.wait_event("ServerStateLost")
            assert "7 ready" in event["message"]
            kube.wait_ready()


# Several operators on one server


def test_two_instances_that_want_one_name_do_not_fight(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    """Two clusters use one server at the same time: the first owns the queue, and the second reports that."""
    flags = ("--server", own_server.address, "--namespace", kube.namespace, "--instance", "second")
    with ControlPlane() as other:
        other.api.define(CRDS)
        other.api.create("/api/v1/namespaces", {"metadata": {"name": kube.namespace}})
        there = KubeQueues(other.api, kube.namespace)
        with (
            apart.operator(own_server, "--instance", "first"),
            OperatorProcess(*flags, env=other.environment),
            closing(Rpc(own_server.address)) as client,
        ):
            kube.create(limit=1)
            kube.wait_ready()
            there.create(limit=2)
            seen = there.wait_reason("NotOwner")
            assert f"first/{kube.namespace}/orders" in seen["status"]["conditions"][0]["message"]
            before = client.get_queue(kube.server_name("orders"))
            assert (before.owner.name, before.limit) == (f"first/{kube.namespace}/orders", 1)
            there.change(limit=3)
            there.wait("orders", lambda each: each["status"]["observedGeneration"] == 2, "the second has seen it")
            assert reason_of(there.get()) == "NotOwner"
            assert client.get_queue(kube.server_name("orders")) == before, "not even its revision is another"
            kube.change(limit=4)
            assert kube.wait_ready()["status"]["effective"]["limit"] == 4
            assert client.get_queue(kube.server_name("orders")).revision == before.revision + 1


def test_a_paused_queue_reports_an_outage_and_that_its_messages_are_lost(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with apart.operator(own_server, *SOON, "--counts-every", "0.2"):
        kube.create()
        kube.wait_ready()
        with closing(Rpc(own_server.address)) as client:
            client.add_batch(kube.server_name("orders"), [b""] * 5)
        kube.wait("orders", lambda each: each["status"]["messages"]["ready"] == 5, "counted")
        kube.annotate(paused="true")
        kube.wait("orders", lambda each: reason_of(each) == "Paused", "paused")
        own_server.kill()
        assert not is_ready(kube.wait("orders", is_unavailable, "unavailable"))
        with server_in_place_of(own_server) as server:
            lost = kube.wait_reason("ServerStateLost")
            assert not is_ready(lost)
            assert "messages" not in lost["status"]
            assert "5 ready" in kube.wait_event("ServerStateLost")["message"]
            assert not names(server.address), "nothing is created again"
            kube.annotate(paused=None)
            assert kube.wait_ready()["status"]["messages"]["total"] == 0


def test_two_classes_are_served_by_two_operators_side_by_side(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    with (
        ServerProcess() as fast_server,
        apart.operator(own_server),
        apart.operator(fast_server, "--queue-class", "fast", "--lease-name", "fast"),
    ):
        kube.create("slow-orders")
        kube.create("fast-orders", queueClassName="fast")
        kube.create("no-orders", queueClassName="none")
        assert kube.wait_ready("slow-orders")["status"]["address"] == own_server.address
        assert kube.wait_ready("fast-orders")["status"]["address"] == fast_server.address
        assert names(own_server.address) == {kube.server_name("slow-orders")}
        assert names(fast_server.address) == {kube.server_name("fast-orders")}
        assert kube.status("no-orders") == {"observedGeneration": -1}, "no operator serves it"


def test_a_server_that_hangs_is_noticed(apart: Apart, kube: KubeQueues, own_server: ServerProcess) -> None:
    with apart.operator(own_server, *SOON):
        kube.create()
        kube.wait_ready()
        own_server.signal(signal.SIGSTOP)
        try:
            kube.wait("orders", is_unavailable, "unavailable", timeout=40.0)
        finally:
            own_server.signal(signal.SIGCONT)
        kube.wait_ready()


def test_a_refusal_that_may_pass_is_tried_again(apart: Apart, kube: KubeQueues) -> None:
    with ServerProcess("--max-queues", "1") as server, apart.operator(server):
        client = Rpc(server.address)
        other = client.new_queue("in-the-way")
        kube.create()
        seen = kube.wait_reason("DeclarationRefused")
        assert condition(seen, "Reconciling")
        assert "queues, the maximum" in seen["status"]["conditions"][0]["message"]
        client.delete_queue(other.meta.id)
        kube.wait_ready()
        client.close()


def test_a_server_with_tls_and_a_token_is_reached(apart: Apart, kube: KubeQueues, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("right", "token"):
        (tmp_path / name).write_text(name)
    right, token = tmp_path / "right", tmp_path / "token"
    pem = str(tmp_path / "server.pem")
    with ServerProcess("--tls-cert", pem, "--tls-key", pem, "--token-file", str(right)) as server:
        flags = ("--server-tls-ca", str(tmp_path / "ca.pem"), "--server-token-file", str(token))
        with apart.operator(f"localhost:{server.port}", *SOON, *flags):
            kube.create()
            seen = kube.wait("orders", is_unavailable, "unavailable")
            assert "token" in seen["status"]["conditions"][0]["message"]
            token.write_text("right")
            kube.wait_ready()


def test_an_emptied_token_of_the_operator_shows_in_its_metrics_and_log_while_it_goes_on(
    apart: Apart, kube: KubeQueues, tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_text("open sesame")
    ours.write_text("open sesame")
    with (
        ServerProcess("--token-file", str(theirs)) as server,
        apart.operator(server.address, *SOON, "--server-token-file", str(ours)) as operator,
    ):

        def stale() -> dict[str, float]:
            return samples(f"{operator.metrics_url}/metrics", "queuelet_operator_credentials_stale")

        kube.create("before")
        kube.wait_ready("before")
        labels = f'file="{ours}",role="token"'
        assert stale() == {labels: 0}
        for spoil in (lambda: ours.write_text(""), ours.unlink):
            spoil()
            assert stale() == {labels: 1}
        kube.create()
        kube.wait_ready()
        says = "cannot read a file; using its last good content: "
        eventually(lambda: any(line["msg"].startswith(says) for line in operator.log()), "the log says so")
        ours.write_text("open sesame")
        assert stale() == {labels: 0}


def test_the_message_follows_the_cause_of_an_outage(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess, tmp_path: Path
) -> None:
    with apart.operator(own_server, *SOON):
        kube.create()
        kube.wait_ready()
        own_server.kill()
        seen = kube.wait("orders", is_unavailable, "unavailable")
        first = condition(seen)
        token = tmp_path / "token"
        token.write_text("secret")
        with server_in_place_of(own_server, "--token-file", str(token)):
            seen = kube.wait("orders", lambda each: "token" in str(condition(each)), "refused for its token")
        ready = condition(seen)
        assert first
        assert ready
        assert ready["reason"] == "ServerUnavailable"
        assert ready["lastTransitionTime"] == first["lastTransitionTime"]
        with server_in_place_of(own_server):
            kube.wait_ready()

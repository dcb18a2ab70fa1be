"""The chart installed for real: its Pods run from our images, and keep working through every disturbance.

Most tests share one release and one client. Each leaves both intact, so that tests run in any order.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from support.helm import INSTANCE, Object
from support.kube_queues import FINALIZER, History, KubeQueues, is_ready, reason_of
from support.node_release import RESTRICTED, WITHIN, Release, Shop, kill, new_namespace
from support.queue_objects import queue_object
from support.rpc import eventually, unique_name
from tools.control_plane import Api
from tools.control_plane.api import DEFINITIONS
from tools.node import Node

LOAD = Path(__file__).parents[1] / "support" / "node_load.py"

TAKEOVER = 60.0
"""Seconds within which another operator acts: the Lease expires after 15, and machines are slow."""


WITH_VOLUME: Object = {"server": {"persistence": {"enabled": True, "size": "1Gi"}}}
"""Values with the Disk store."""


@pytest.fixture(scope="module")
def installed(node: Node, images: Mapping[str, str]) -> Iterator[Release]:
    """A release in a namespace that admits only restricted Pods."""
    with new_namespace(node.api, "queuelet", **{RESTRICTED: "restricted"}) as namespace:
        release = Release(node, images, namespace, WITH_VOLUME)
        release.install("--take-ownership")
        yield release
        release.uninstall()


@pytest.fixture(scope="module")
def opened(node: Node, images: Mapping[str, str], installed: Release) -> Iterator[Shop]:
    """A namespace whose Queues the release manages, with a client."""
    with new_namespace(node.api, "shop") as namespace:
        shop = Shop(node, namespace)
        shop.open(images["server"])
        yield shop
        shop.close()


@pytest.fixture
def release(installed: Release) -> Release:
    """The shared release, with all its Pods ready."""
    installed.wait_rolled_out()
    return installed


@pytest.fixture
def shop(opened: Shop) -> Shop:
    """The shared namespace of users."""
    return opened


def queuelet(release: Release, *arguments: str) -> list[str]:
    """Return a command line of the client, for the server's Service."""
    return ["queuelet", f"--server={release.address}", *arguments]


def apply(shop: Shop, name: str, **spec: object) -> str:
    """Apply a Queue, wait until it is ready, and return the name of its queue in the server."""
    shop.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(queue_object(name, limit=100_000, **spec)))
    shop.kubectl("wait", "--for=condition=Ready", f"queue/{name}", f"--timeout={WITHIN:.0f}s")
    return shop.queues.server_name(name)


ON_DISK: Object = {"store": "Disk", "delivery": {"leaseSeconds": 3600, "maxDeliveries": 1}}


def fill(release: Release, queue: str) -> Object:
    """Put a ready, a leased and a dead message into a queue that delivers each once; return its statistics."""
    client = f"queuelet --server={release.address}"
    commands = (
        f"printf 'dead\nleased\n' | {client} add {queue} --lines",
        f"{client} nack {queue} $({client} receive {queue} | {TOKEN})",
        f"{client} receive {queue}",
        f"echo ready | {client} add {queue}",
        "sleep 1",  # until the lease is committed
    )
    within(release, release.server(), "sh", "-ec", "\n".join(commands))
    return stats(release, queue)


TOKEN = """python -c 'import json, sys; print(json.load(sys.stdin)["token"])'"""
"""Prints the token of a received message."""


def stats(release: Release, queue: str) -> Object:
    """Return the server's statistics of a queue."""
    printed = within(release, release.server(), "queuelet", f"--server={release.address}", "stats", queue)
    response: Object = json.loads(printed)["queue"]["queue"]
    return response


def is_reached(release: Release) -> bool:
    """Return whether the Service reaches the server."""
    try:
        within(release, release.server(), "queuelet", f"--server={release.address}", "stats")
    except AssertionError:
        return False
    return True


def within(release: Release, pod: Object, *command: str) -> str:
    """Run a command in a Pod of the release, and return its output."""
    return release.kubectl("exec", str(pod["metadata"]["name"]), "--", *command)


# Pods


def test_pods_run_without_root_and_can_change_nothing(release: Release) -> None:
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        release.kubectl("run", "careless", "--image=any")
    pods = release.pods()
    assert len(pods) == 3
    for pod in pods:
        assert within(release, pod, "id").startswith("uid=65532 gid=65532")
        status = dict(re.findall(r"^(\w+):\s*(.*)$", within(release, pod, "cat", "/proc/1/status"), re.MULTILINE))
        assert (status["CapBnd"], status["CapEff"]) == ("0" * 16, "0" * 16)
        # Mode 2 is a filter of system calls.
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        with pytest.raises(AssertionError, match="Read-only file system"):
            within(release, pod, "touch", "/tmp/file")  # noqa: S108  # the folder is in the container


def test_no_service_sets_what_looks_like_a_flag(release: Release) -> None:
    spec = {each["spec"]["containers"][0]["name"]: each["spec"]["containers"][0]["env"] for each in release.pods()}
    for pod in release.pods():
        wanted = {each["name"] for each in spec[pod["spec"]["containers"][0]["name"]]}
        lines = within(release, pod, "env").splitlines()
        assert {name for line in lines if (name := line.partition("=")[0]).startswith("QUEUELET")} == wanted


def test_every_pod_serves_its_health_and_metrics_where_a_service_finds_it(release: Release, shop: Shop) -> None:
    eventually(lambda: release.leader() in names(release.pods("operator")), "an existing Pod acts", TAKEOVER)
    program = """
import socket, sys, urllib.request
for address in sorted({found[4][0] for found in socket.getaddrinfo(sys.argv[1], None)}):
    for path in ("healthz", "readyz", "metrics"):
        response = urllib.request.urlopen(f"http://{address}:{sys.argv[2]}/{path}")
        print(response.status, address, path, response.read().decode())
"""
    # DNS lists new Pods a moment after they are ready, and caches entries for five seconds. The operator connects a
    # moment after the server is ready.
    for service, port, pods, sign in (
        ("queuelet-server-headless", "10003", 1, 'queuelet_build_info{version="'),
        ("queuelet-operator", "10004", 2, "queuelet_operator_server_connected 1.0"),
    ):
        where = f"{service}.{release.namespace}.svc"
        there = {pod["status"]["podIP"] for pod in release.pods(service.split("-")[1])}
        printed = ""

        def look(where: str = where, port: str = port, there: set[str] = there, sign: str = sign) -> bool:
            nonlocal printed
            try:
                printed = shop.run("python", "-c", program, where, port)
            except AssertionError:
                return False
            return sign in printed and set(re.findall(r"^200 (\S+) healthz ok$", printed, re.MULTILINE)) == there

        eventually(look, f"{where} leads to {there}", WITHIN)
        assert len(re.findall(r"^200 \S+ readyz ok$", printed, re.MULTILINE)) == pods
        assert len(re.findall(r"^200 \S+ metrics # HELP", printed, re.MULTILINE)) == pods
        if service == "queuelet-operator":
            assert sorted(re.findall(r"^queuelet_operator_leader (\S+)$", printed, re.MULTILINE)) == ["0.0", "1.0"]


def names(pods: list[Object]) -> set[str]:
    """Return the names of Pods."""
    return {str(each["metadata"]["name"]) for each in pods}


# Queues and messages


def test_an_applied_queue_becomes_ready_and_is_listed(release: Release, shop: Shop) -> None:
    name = unique_name()
    queue = apply(shop, name)
    header, *rows = shop.kubectl("get", "queues", name, "--output=wide").splitlines()
    columns = "NAME READY STORE LIMIT MESSAGES DEAD AGE DURABILITY QUEUE ADDRESS REASON MESSAGE"
    assert header.split() == columns.split()
    (row,) = (row.split() for row in rows)
    assert row[:6] == [name, "True", "Memory", "100000", "0", "0"]
    assert row[7:11] == ["Memory", queue, release.address, "Ready"]
    assert " ".join(row[11:]) == "the queue exists as declared"


def test_a_message_passes_by_the_name_of_the_service(release: Release, shop: Shop) -> None:
    queue = apply(shop, unique_name())
    assert shop.kubectl("get", "queues", "--output=jsonpath={.items[*].status.address}").split()[0] == release.address
    shop.run(*queuelet(release, "add", queue), stdin="hello")
    assert shop.run(*queuelet(release, "pop", queue, "--raw")) == "hello"


# Kills and restarts


@pytest.mark.parametrize("what", ["process", "pod"])
def test_queues_are_back_after_the_server_was_killed_and_those_on_disk_with_their_messages(
    release: Release, shop: Shop, what: str
) -> None:
    name, kept = unique_name(), unique_name("kept")
    queue = apply(shop, name)
    shop.run(*queuelet(release, "add", queue), stdin="lost")
    filled = fill(release, apply(shop, kept, **ON_DISK))
    before = release.server()
    with History(release.node.control_plane, shop.queues) as history:
        if what == "process":
            kill(before)
        else:
            release.kubectl("delete", "pod", before["metadata"]["name"], "--grace-period=0", "--force")
        # If the machine takes more than ten seconds to start the server, an outage is reported too.
        eventually(
            lambda: (
                [each for each in history.reasons(name) if each != "ServerUnavailable"] == ["ServerStateLost", "Ready"]
            ),
            "the queue was lost and is ready",
            WITHIN,
        )
    shop.run(*queuelet(release, "add", queue), stdin="kept")
    assert shop.run(*queuelet(release, "pop", queue, "--count=9", "--raw")) == "kept\n"
    check_kept(release, filled)
    assert not history.reasons(kept) or set(history.reasons(kept)) == {"ServerUnavailable", "Ready"}, "nothing was lost"
    after = release.server()
    assert (after["metadata"]["uid"] == before["metadata"]["uid"]) == (what == "process")
    (was,), (is_now,) = (each["status"]["containerStatuses"] for each in (before, after))
    assert is_now["restartCount"] == (was["restartCount"] + 1 if what == "process" else 0)


def check_kept(release: Release, before: Object) -> None:
    """Expect a queue to be unchanged, with a message in each of the states that `fill` creates."""
    # The node updates the Service a moment after the rollout.
    eventually(lambda: is_reached(release), "the Service leads to the server", WITHIN)
    after = stats(release, before["name"])
    assert after == before
    assert after["messages"] == {"ready": "1", "delayed": "0", "leased": "1", "dead": "1"}


@pytest.mark.parametrize("what", ["process", "pod"])
def test_another_operator_acts_after_the_leader_was_killed(release: Release, shop: Shop, what: str) -> None:
    eventually(lambda: release.leader() in names(release.pods("operator")), "an existing Pod acts", TAKEOVER)
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{release.namespace}/leases/queuelet-operator"
    before = release.node.api.get(lease)["spec"]
    (pod,) = (each for each in release.pods("operator") if each["metadata"]["name"] == release.leader())
    if what == "process":
        kill(pod)
    else:
        release.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    name = unique_name()
    shop.queues.create(name)
    # The processes of a Pod that is deleted by force run on for a moment.
    eventually(
        lambda: release.node.api.get(lease)["spec"]["holderIdentity"] != before["holderIdentity"],
        "another operator acts",
        TAKEOVER,
    )
    shop.queues.wait_ready(name, TAKEOVER)
    release.wait_rolled_out()
    assert release.leader() in names(release.pods("operator"))


# Upgrades


def test_an_upgrade_under_load_loses_no_queue_and_reports_each_message(release: Release, shop: Shop) -> None:
    name = unique_name()
    queue = apply(shop, name)
    made: list[str] = []
    old = names(release.pods("operator"))
    with (
        History(release.node.control_plane, shop.queues) as history,
        shop.starts("python", "-c", LOAD.read_text(), release.address, queue) as load,
        release.log_of_server() as log,
        ThreadPoolExecutor(1) as thread,
    ):
        upgrade = thread.submit(release.upgrade, rolled())
        made += create_until(shop.queues, upgrade)
        upgrade.result()
        release.wait_rolled_out()
        for each in made:
            shop.queues.wait_ready(each, TAKEOVER)
        text, _ = load.communicate(timeout=WITHIN)
    assert load.returncode == 0, text
    printed = json.loads(text)

    # Each acknowledged message is in the queue, or is one that the old server reported as lost.
    (stopped,) = (line for line in log if line["msg"] == "stopped")
    lost = stopped["queues"].get(queue, 0)
    stats = json.loads(shop.run(*queuelet(release, "stats", queue)))
    held = int(stats["queue"]["enqueued"])
    unknown = sum(count for reason, count in printed["refusals"].items() if reason not in NOTHING_DONE)
    assert lost
    assert held
    assert printed["acknowledged"] <= lost + held <= printed["acknowledged"] + unknown
    assert printed["longest_gap"] < 30.0

    assert made
    assert not {reason for each in made for reason in history.reasons(each)} - PASSING
    assert not old & names(release.pods("operator"))
    assert [each["status"]["containerStatuses"][0]["restartCount"] for each in release.pods()] == [0, 0, 0]


NOTHING_DONE = {"SERVER_DRAINING", "QUEUE_NOT_FOUND", "CANCELLED"}
"""Refusals after which a message is certainly not in the queue."""

PASSING = {"Ready", "ServerStateLost", "ServerUnavailable"}
"""Reasons that Queues may have during an upgrade. All of them are temporary."""


def rolled() -> Object:
    """Return values that replace all Pods."""
    annotations = {"podAnnotations": {"tests.queuelet.dev/rolled": unique_name()}}
    return {"server": annotations, "operator": annotations}


def create_until(queues: KubeQueues, done: Future[None]) -> list[str]:
    """Create two Queues a second until an action is done; return their names."""
    made: list[str] = []
    while not done.done():
        made.append(unique_name("rolled"))
        queues.create(made[-1])
        time.sleep(0.5)
    return made


def test_a_rollback_on_failure_heals_a_server_whose_image_cannot_be_pulled(release: Release, shop: Shop) -> None:
    name = unique_name("kept")
    filled = fill(release, apply(shop, name, **ON_DISK))
    before = release.server()
    wrong: Object = {"server": {"image": {"tag": "no-such-tag"}}}
    # Long enough to include the rollback, which has the same timeout.
    said = release.try_upgrade(wrong, "--rollback-on-failure", "--timeout=60s")
    assert "has been rolled back" in said
    release.wait_rolled_out()
    after = release.server()
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert image_of(after) == image_of(before)
    check_kept(release, filled)


def image_of(pod: Object) -> str:
    """Return the image of a Pod's only container."""
    (container,) = pod["spec"]["containers"]
    return str(container["image"])


# Releases for single tests


@pytest.fixture
def own_shop(node: Node) -> Iterator[Shop]:
    """A namespace of users for a release of the test's own."""
    with new_namespace(node.api, "shop") as namespace:
        yield Shop(node, namespace)


@pytest.fixture
def own_release(node: Node, images: Mapping[str, str], own_shop: Shop) -> Iterator[Release]:
    """A release for one namespace only, not installed, whose class other operators do not serve."""
    with new_namespace(node.api, "queuelet", **{RESTRICTED: "restricted"}) as namespace:
        operator = {"namespaces": [own_shop.namespace], "queueClassName": namespace, "replicas": 1}
        yield Release(node, images, namespace, {"operator": operator, "crds": {"enabled": False}, **WITH_VOLUME})


def test_a_release_for_one_namespace_leaves_others_alone(node: Node, own_release: Release, own_shop: Shop) -> None:
    with new_namespace(node.api, "other") as elsewhere:
        other = KubeQueues(node.api, elsewhere)
        other.create(queueClassName=own_release.namespace)
        own_release.install()
        own_shop.queues.create(queueClassName=own_release.namespace)
        own_shop.queues.wait_ready(timeout=WITHIN)
        assert not reason_of(other.get()), "no operator has processed it"
    own_shop.close()
    own_release.uninstall()


def test_a_release_that_went_leaves_queues_and_comes_back_to_them(
    node: Node, own_release: Release, own_shop: Shop
) -> None:
    queues = own_shop.queues
    own_release.install()
    for name in ("kept", "deleted"):
        queues.create(name, queueClassName=own_release.namespace)
        queues.wait_ready(name, WITHIN)
    queues.create("on-disk", queueClassName=own_release.namespace, **ON_DISK)
    queues.wait_ready("on-disk", WITHIN)
    filled = fill(own_release, queues.server_name("on-disk"))

    own_release.uninstall()
    eventually(lambda: not own_release.pods(), "its Pods are gone", WITHIN)
    assert node.api.is_there(f"{DEFINITIONS}/queues.queuelet.dev")
    claim = "persistentvolumeclaims/data-queuelet-server-0"
    assert left_of(node.api, own_release) == {f"leases/{own_release.name}-operator", claim}
    queues.delete("deleted")
    assert queues.get("deleted")["metadata"]["finalizers"] == [FINALIZER]
    assert is_ready(queues.get("kept"))

    own_release.install()
    queues.wait_gone("deleted", WITHIN)
    queues.wait("kept", lambda each: reason_of(each) == "Ready", "Ready", WITHIN)
    check_kept(own_release, filled)
    own_shop.close()
    own_release.uninstall()
    paths = [f"/api/v1/namespaces/{each.namespace}" for each in (own_shop, own_release)]
    for path in paths:
        node.api.delete(path)
    eventually(lambda: not any(node.api.is_there(path) for path in paths), "the namespaces are gone", WITHIN)
    assert node.api.is_there(f"{DEFINITIONS}/queues.queuelet.dev")


def test_an_upgrade_turns_disk_off_and_on_again_and_messages_are_kept(own_release: Release, own_shop: Shop) -> None:
    queues = own_shop.queues
    own_release.install()
    queues.create("on-disk", queueClassName=own_release.namespace, **ON_DISK)
    queues.wait_ready("on-disk", WITHIN)
    filled = fill(own_release, queues.server_name("on-disk"))
    own_release.upgrade({"server": {"persistence": {"enabled": False}}})
    queues.wait("on-disk", lambda each: reason_of(each) == "StoreUnavailable", "StoreUnavailable", WITHIN)
    own_release.upgrade({"server": {"persistence": {"enabled": True}}})
    queues.wait_ready("on-disk", WITHIN)
    check_kept(own_release, filled)
    own_shop.close()
    own_release.uninstall()


def left_of(api: Api, release: Release) -> set[str]:
    """Return all objects of a release, in its namespace and cluster-wide, each as kind/name."""
    found = set()
    kinds = {
        "/api/v1": ("pods", "services", "endpoints", "secrets", "configmaps", "persistentvolumeclaims"),
        "/apis/apps/v1": ("deployments", "statefulsets", "replicasets", "controllerrevisions"),
        "/apis/coordination.k8s.io/v1": ("leases",),
        "/apis/discovery.k8s.io/v1": ("endpointslices",),
        "/apis/policy/v1": ("poddisruptionbudgets",),
        "/apis/rbac.authorization.k8s.io/v1": ("roles", "rolebindings"),
    }
    for group, plurals in kinds.items():
        for plural in plurals:
            listed = api.get(f"{group}/namespaces/{release.namespace}/{plural}")["items"]
            found |= {f"{plural}/{each['metadata']['name']}" for each in listed}
    for plural in ("clusterroles", "clusterrolebindings"):
        listed = api.get(f"/apis/rbac.authorization.k8s.io/v1/{plural}", labelSelector=f"{INSTANCE}={release.name}")
        owned = (each["metadata"]["name"] for each in listed["items"])
        found |= {f"{plural}/{each}" for each in owned if each.startswith(f"{release.namespace}:")}
    return found - {"configmaps/kube-root-ca.crt"}

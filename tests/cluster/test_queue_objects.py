"""The console's server reads the conditions of Queue objects from a real API server, with the chart's rights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.console_command import ConsoleCommand, FakeKubectl
from support.helm import Object, template
from support.kube_queues import KubeQueues, count_requests
from support.operator_process import OperatorProcess
from support.relay import Relay
from support.rest import Rest
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane, binaries

RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Account:
    """The account of the chart's server in a namespace, with or without its rights, and the files of its Pod."""

    def __init__(self, control_plane: ControlPlane, namespace: str, folder: Path) -> None:
        """Create it without rights."""
        self.folder = folder
        self._api = control_plane.api
        self._objects = template(namespace, "queuelet", {"http": {"enabled": True}, "crds": {"enabled": False}})
        (account,) = self._objects_of("ServiceAccount")
        self._api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
        name = account["metadata"]["name"]
        (folder / "token").write_text(control_plane.service_account_token(namespace, name))
        (folder / "ca.crt").write_bytes(control_plane.certificates.authority.read_bytes())
        self._port = urlsplit(control_plane.url).port

    def grant(self) -> None:
        """Create the roles of the chart's server."""
        for kind, plural in (("ClusterRole", "clusterroles"), ("ClusterRoleBinding", "clusterrolebindings")):
            (role,) = self._objects_of(kind)
            self._api.create(f"{RBAC}/{plural}", role)

    def remove(self) -> None:
        """Delete the roles, because they are not of the namespace."""
        for kind, plural in (("ClusterRole", "clusterroles"), ("ClusterRoleBinding", "clusterrolebindings")):
            (role,) = self._objects_of(kind)
            if self._api.is_there(f"{RBAC}/{plural}/{role['metadata']['name']}"):
                self._api.delete(f"{RBAC}/{plural}/{role['metadata']['name']}")

    def server(self, port: int = 0) -> ServerProcess:
        """Return a server with the account, not started; `port` is that of a relay to the API server."""
        env = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port or self._port)}
        return ServerProcess("--queue-objects", str(self.folder), env=env)

    def _objects_of(self, kind: str) -> list[Object]:
        component = "app.kubernetes.io/component"
        return [
            each
            for each in self._objects
            if each["kind"] == kind and each["metadata"]["labels"].get(component) == "server"
        ]


@pytest.fixture
def account(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Account]:
    """The account of the chart's server."""
    made = Account(control_plane, namespace, tmp_path)
    yield made
    made.remove()


class Console:
    """The board of a server, as a browser reads it."""

    def __init__(self, url: str) -> None:
        """Take the address of the console."""
        self._rest = Rest(url)

    def board(self) -> Any:  # noqa: ANN401  # JSON
        """Return the board."""
        return self._rest.get("/console/board")

    def objects(self) -> dict[str, tuple[int, int, list[list[str]]]]:
        """Return the generation, the observed one and the conditions of each object, by the names of their queues."""
        packed = self.board()["objects"]
        columns = (packed[each] for each in ("name", "generation", "observed", "conditions"))
        return {name: (made, seen, packed["states"][i]) for name, made, seen, i in zip(*columns, strict=True)}

    def wait_for(self, name: str, generation: int, *conditions: tuple[str, str, str]) -> None:
        """Wait until an object is seen in this generation with these types, statuses and reasons."""
        found: Any = None

        def look() -> bool:
            nonlocal found
            found = self.objects().get(name)
            return found is not None and found[:2] == (generation, generation) and seen(found[2]) == set(conditions)

        def seen(all_of_them: list[list[str]]) -> set[tuple[str, ...]]:
            return {tuple(each[:3]) for each in all_of_them}

        try:
            eventually(look, f"{name} has {conditions}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it has {found}") from None


READY = ("Ready", "True", "Ready")


def test_conditions_follow_the_object(account: Account, kube: KubeQueues, operator: OperatorProcess) -> None:
    account.grant()
    with account.server() as process:
        console = Console(process.rest_url)
        assert console.board()["kubernetes"] is not None
        kube.create("orders", limit=10)
        name = kube.server_name("orders")
        console.wait_for(name, 1, READY)
        kube.change("orders", limit=20)
        console.wait_for(name, 2, READY)
        kube.delete("orders")
        eventually(lambda: name not in console.objects(), "the object is gone")
        assert process.stop() == 0


def test_an_object_that_cannot_have_its_queue_says_why(
    account: Account, kube: KubeQueues, operator: OperatorProcess, rpc: Rpc
) -> None:
    account.grant()
    rpc.new_queue(kube.server_name("taken"))
    kube.create("taken")
    not_owner = kube.wait_reason("NotOwner", "taken")
    types = {(each["type"], each["status"], each["reason"]) for each in not_owner["status"]["conditions"]}
    with account.server() as process:
        Console(process.rest_url).wait_for(kube.server_name("taken"), 1, *types)


def test_without_the_right_the_server_says_why_once_and_shows_objects_once_it_is_granted(
    account: Account, kube: KubeQueues
) -> None:
    kube.create("orders")
    with account.server() as process:
        console = Console(process.rest_url)
        console.board()
        refusal = process.wait_for_log("queue objects are not shown")["error"]
        assert 'cannot list resource "queues" in API group "queuelet.dev"' in refusal
        assert "let the server's ServiceAccount get, list and watch queues.queuelet.dev" in refusal
        eventually(lambda: console.board()["kubernetes"]["problem"] == refusal, "the board says why")
        account.grant()
        eventually(lambda: kube.server_name("orders") in console.objects(), "the object is seen")
        eventually(lambda: console.board()["kubernetes"]["problem"] == "", "there is no problem any more")
        assert len(process.log("queue objects are not shown")) == 1


def test_a_watch_that_was_cut_misses_nothing_and_lists_nothing_again(
    account: Account, kube: KubeQueues, api: Api, control_plane: ControlPlane
) -> None:
    account.grant()
    kube.create("orders")
    with (
        Relay(urlsplit(control_plane.url).port or 0) as relay,
        account.server(int(relay.address.split(":")[1])) as process,
    ):
        console = Console(process.rest_url)
        eventually(lambda: kube.server_name("orders") in console.objects(), "the object is seen")
        eventually(lambda: console.board()["kubernetes"]["listed"], "the watch has begun")
        lists = count_requests(api, verb="LIST", resource="queues", scope="cluster")
        for i in range(3):
            relay.cut()
            kube.create(f"more-{i}")
            kube.annotate("orders", touched=str(i))
        names = {kube.server_name(each) for each in ("orders", "more-0", "more-1", "more-2")}
        eventually(lambda: names <= console.objects().keys(), "nothing is missing")
        assert count_requests(api, verb="LIST", resource="queues", scope="cluster") == lists


def test_a_user_of_kubectl_sees_the_conditions_too(
    kube: KubeQueues, operator: OperatorProcess, server: ServerProcess, control_plane: ControlPlane, tmp_path: Path
) -> None:
    kube.create("orders")
    kube.wait_ready("orders")
    fake = FakeKubectl(tmp_path / "bin", server.address)
    env = {**fake.env, **control_plane.environment, "REAL_KUBECTL": str(binaries.get("kubectl"))}
    with ConsoleCommand("--kubectl", "--queue-namespace", kube.namespace, env=env) as console:
        Console(console.url).wait_for(kube.server_name("orders"), 1, READY)
        assert console.stop() == 0


def test_kubectl_says_what_it_lacks(control_plane: ControlPlane, namespace: str) -> None:
    """The real kubectl, which finds no Service."""
    path = f"{binaries.get('kubectl').parent}:/usr/bin:/bin"
    console = ConsoleCommand("--kubectl", "--namespace", namespace, env={**control_plane.environment, "PATH": path})
    assert console.launch().wait() == 1
    assert 'services "queuelet-server" not found' in console.output()
    assert console.output().startswith("queuelet: cannot open the console: kubectl port-forward: ")

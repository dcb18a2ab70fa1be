"""The console of a server in a Pod: it reads Queue objects with the Pod's account, and kubectl opens it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from support.console_command import ConsoleCommand
from support.node_release import RESTRICTED, WITHIN, Release, Shop, new_namespace
from support.rest import Rest
from support.rpc import eventually
from tools.control_plane import binaries
from tools.node import Node

READ_BOARD = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8080/console/board").read().decode())
"""


@pytest.fixture(scope="module")
def shop(node: Node) -> Iterator[Shop]:
    """A namespace of users."""
    with new_namespace(node.api, "shop") as namespace:
        yield Shop(node, namespace)


@pytest.fixture(scope="module")
def release(node: Node, images: Mapping[str, str], shop: Shop) -> Iterator[Release]:
    """A release with a console, for one namespace, with a class of its own."""
    with new_namespace(node.api, "queuelet", **{RESTRICTED: "restricted"}) as namespace:
        operator = {"namespaces": [shop.namespace], "queueClassName": namespace, "replicas": 1}
        values = {"http": {"enabled": True}, "operator": operator, "crds": {"enabled": False}}
        made = Release(node, images, namespace, values)
        made.install()
        shop.queues.create("orders", queueClassName=namespace)
        shop.queues.wait_ready("orders", WITHIN)
        yield made
        shop.close()
        made.uninstall()


def conditions(board: Any, queue: str) -> list[list[str]]:  # noqa: ANN401  # JSON
    """Return the conditions of an object on a board."""
    packed = board["objects"]
    if queue not in packed["name"]:
        return []
    found: list[list[str]] = packed["states"][packed["conditions"][packed["name"].index(queue)]]
    return found


def is_shown_ready(board: Any, queue: str) -> bool:  # noqa: ANN401  # JSON
    """Return whether a board has an object that is ready."""
    return ["Ready", "True", "Ready"] in [each[:3] for each in conditions(board, queue)]


def test_the_pod_reads_the_objects_of_its_namespaces_with_its_own_account(release: Release, shop: Shop) -> None:
    queue = shop.queues.server_name("orders")

    def is_shown() -> bool:
        server = str(release.server()["metadata"]["name"])
        return is_shown_ready(json.loads(release.kubectl("exec", server, "--", "python", "-c", READ_BOARD)), queue)

    eventually(is_shown, "the console of the Pod shows the object", WITHIN)


def test_kubectl_opens_the_console_and_a_new_pod_is_reached_again(release: Release, shop: Shop) -> None:
    queue = shop.queues.server_name("orders")
    path = f"{binaries.get('kubectl').parent}{os.pathsep}{os.environ['PATH']}"
    flags = ("--kubectl", "--namespace", release.namespace, "--queue-class", release.namespace)
    where = ("--queue-namespace", shop.namespace)
    with ConsoleCommand(*flags, *where, env={**release.node.environment, "PATH": path}) as console:
        rest = Rest(console.url)
        assert [each["name"] for each in rest.get("/v1/queues")["queues"]] == [queue]
        eventually(lambda: is_shown_ready(rest.get("/console/board"), queue), "the object is shown", WITHIN)

        server = str(release.server()["metadata"]["name"])
        release.kubectl("delete", "pod", server, "--grace-period=0", "--force")
        release.wait_rolled_out()
        eventually(lambda: rest.ask("GET", "/v1/queues").status == 200, "the new Pod is reached", WITHIN)
        assert "starting it again" in console.output()
        assert console.stop() == 0

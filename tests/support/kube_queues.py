"""Queue objects in one namespace of a real API server, as tests work with them."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.client import HTTPResponse
from typing import Self
from urllib.request import Request, urlopen

import yaml

from support.queue_objects import Object, queue_object
from support.rpc import eventually
from tools.control_plane import Api, ControlPlane

FINALIZER = "queuelet.dev/finalizer"
ANNOTATION = "queuelet.dev/{}"


class KubeQueues:
    """The Queues of a namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        """Take the API server and the namespace."""
        self.api = api
        self.namespace = namespace
        self.path = f"/apis/queuelet.dev/v1alpha1/namespaces/{namespace}/queues"

    def server_name(self, name: str) -> str:
        """Return the name of its queue in the server."""
        return f"{self.namespace}.{name}"

    # Writing

    def create(self, name: str = "orders", *, annotations: dict[str, str] | None = None, **spec: object) -> Object:
        """Create a Queue."""
        body = queue_object(name, **spec)
        if annotations:
            body["metadata"]["annotations"] = annotations
        return self.api.create(self.path, body)

    def change(self, name: str = "orders", **spec: object) -> Object:
        """Change fields of its spec."""
        return self.api.merge(f"{self.path}/{name}", {"spec": spec})

    def annotate(self, name: str = "orders", **annotations: str | None) -> Object:
        """Set our annotations, given by Python names; None removes one."""
        named = {ANNOTATION.format(key.replace("_", "-")): value for key, value in annotations.items()}
        return self.api.merge(f"{self.path}/{name}", {"metadata": {"annotations": named}})

    def delete(self, name: str = "orders") -> None:
        """Delete it; finalizers may delay that."""
        self.api.delete(f"{self.path}/{name}")

    # Reading

    def get(self, name: str = "orders") -> Object:
        """Return a Queue."""
        return self.api.get(f"{self.path}/{name}")

    def all(self) -> list[Object]:
        """Return all of them."""
        items: list[Object] = self.api.get(self.path)["items"]
        return items

    def status(self, name: str = "orders") -> Object:
        """Return its status."""
        status: Object = self.get(name)["status"]
        return status

    def is_there(self, name: str = "orders") -> bool:
        """Return whether there is a Queue of this name."""
        return self.api.is_there(f"{self.path}/{name}")

    def events(self, name: str = "orders") -> list[Object]:
        """Return the Events about a Queue."""
        listed = self.api.get(f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [each for each in listed if each["involvedObject"]["name"] == name]

    # Waiting

    def wait_ready(self, name: str = "orders", timeout: float = 30.0) -> Object:
        """Wait until a Queue is Ready for its current generation; return it."""
        return self.wait(name, is_ready, "Ready", timeout)

    def wait_reason(self, reason: str, name: str = "orders", timeout: float = 30.0) -> Object:
        """Wait until the condition Ready has this reason for the current generation; return the Queue."""
        return self.wait(
            name,
            lambda each: reason_of(each) == reason and each["status"]["observedGeneration"] == generation_of(each),
            reason,
            timeout,
        )

    def wait(self, name: str, holds: Callable[[Object], bool], what: str, timeout: float = 30.0) -> Object:
        """Wait until a condition holds for a Queue; return it."""
        seen: Object = {}

        def look() -> bool:
            nonlocal seen
            seen = self.get(name)
            return holds(seen)

        try:
            eventually(look, f"{name} is {what}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {seen.get('metadata')} {seen.get('status')}") from None
        return seen

    def wait_all_ready(self, count: int, timeout: float = 60.0) -> list[Object]:
        """Wait until this many Queues exist and are Ready; return them."""
        listed: list[Object] = []

        def look() -> bool:
            listed[:] = self.all()
            return sum(map(is_ready, listed)) == len(listed) == count

        eventually(look, f"{count} Queues are Ready", timeout)
        return listed

    def wait_gone(self, name: str = "orders", timeout: float = 30.0) -> None:
        """Wait until there is no Queue of this name."""
        eventually(lambda: not self.is_there(name), f"{name} is gone", timeout)

    def wait_event(self, reason: str, name: str = "orders", timeout: float = 30.0) -> Object:
        """Wait for an Event with this reason; return it."""
        eventually(lambda: any(each["reason"] == reason for each in self.events(name)), f"Event {reason}", timeout)
        return next(each for each in self.events(name) if each["reason"] == reason)


def condition(body: Object, type_: str = "Ready") -> Object | None:
    """Return a condition of a Queue."""
    conditions: list[Object] = body.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == type_), None)


def reason_of(body: Object) -> str:
    """Return the reason of the condition Ready."""
    ready = condition(body)
    return str(ready["reason"]) if ready else ""


def generation_of(body: Object) -> int:
    """Return the generation of a Queue's spec."""
    generation: int = body["metadata"]["generation"]
    return generation


def is_ready(body: Object) -> bool:
    """Return whether a Queue is Ready for its current generation."""
    ready = condition(body)
    if ready is None or body["status"]["observedGeneration"] != generation_of(body):
        return False
    return bool(ready["status"] == "True" and ready["reason"] == "Ready")


class History:
    """Every state of the Queues of a namespace, as a watch reports them, while its block runs."""

    def __init__(self, control_plane: ControlPlane, queues: KubeQueues) -> None:
        """Take the namespace to watch."""
        self._control_plane = control_plane
        self._queues = queues
        self.states: dict[str, list[Object]] = {}
        """The states of each Queue, by name, in order."""
        self._ends = False

    def __enter__(self) -> Self:
        """Start to watch events from now on."""
        version = self._queues.api.get(self._queues.path)["metadata"]["resourceVersion"]
        self._stream = self._open(version)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop. The thread ends at its next line, or with the watch."""
        self._ends = True

    def reasons(self, name: str) -> list[str]:
        """Return the reasons of Ready that a Queue had, without consecutive duplicates."""
        found: list[str] = []
        for state in self.states.get(name, []):
            reason = reason_of(state)
            if reason and found[-1:] != [reason]:
                found.append(reason)
        return found

    def wait(self, names: Iterable[str], reasons: list[str], timeout: float = 60.0) -> None:
        """Wait until each of the Queues has had these reasons, and no others."""
        left: dict[str, list[str]] = {}

        def look() -> bool:
            left.clear()
            left.update({name: had for name in names if (had := self.reasons(name)) != reasons})
            return not left

        try:
            eventually(look, f"the reasons were {reasons}", timeout)
        except AssertionError as error:
            now = {name: self._queues.status(name) for name in left}
            raise AssertionError(f"{error}; they are {left}; {now}") from None

    def _open(self, version: str) -> HTTPResponse:
        user = yaml.safe_load(self._control_plane.kubeconfig.read_text())["users"][0]["user"]
        request = Request(  # noqa: S310  # a URL of our own
            f"{self._control_plane.url}{self._queues.path}?watch=true&timeoutSeconds=300&resourceVersion={version}",
            headers={"Authorization": f"Bearer {user['token']}"},
        )
        context = ssl.create_default_context(cafile=str(self._control_plane.certificates.authority))
        opened: HTTPResponse = urlopen(request, context=context)  # noqa: S310  # a URL of our own
        return opened

    def _read(self) -> None:
        with self._stream, suppress(OSError):
            for line in self._stream:
                if self._ends:
                    return
                event = json.loads(line)
                body = event["object"]
                if event["type"] in {"ADDED", "MODIFIED"}:
                    self.states.setdefault(body["metadata"]["name"], []).append(body)


class Writes:
    """Writes to Queues since this object was created, by the API server's own counter."""

    def __init__(self, api: Api) -> None:
        """Take the API server, and start to count."""
        self._api = api
        self._before = self._count()

    def so_far(self) -> int:
        """Return how many patches and updates of Queues and of their statuses there were."""
        return self._count() - self._before

    def of_events(self) -> int:
        """Return how many Events there are in all."""
        return len(self._api.get("/api/v1/events")["items"])

    def _count(self) -> int:
        return sum(count_requests(self._api, verb=verb, resource="queues") for verb in ("PATCH", "PUT", "APPLY"))


def count_requests(api: Api, **labels: str) -> int:
    """Return how many requests with these labels the API server has counted."""
    text: str = api.request("GET", "/metrics")["text"]
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        int(float(match[2]))
        for match in re.finditer(r"^apiserver_request_total\{(.*)\} (\S+)$", text, re.MULTILINE)
        if all(label in match[1] for label in wanted)
    )

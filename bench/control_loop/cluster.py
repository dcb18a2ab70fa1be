"""The API server used by all measurements: its counters, its processes, and how to empty it."""

from __future__ import annotations

import base64
import json
import re
import ssl
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import aiohttp
import yaml

from bench.control_loop import nack
from bench.errors import Failed
from tools.control_plane import ControlPlane

NAMESPACE = "bench"

_WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}

_EMPTY_WITHIN = 60.0
"""Seconds within which the API server must notice that objects are gone from etcd."""

_REQUESTS = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_CRD = Path(__file__).parents[2] / "crds" / "queues.yaml"

Object = dict[str, Any]


class Request(NamedTuple):
    """The labels of the API server's request counter."""

    resource: str
    verb: str


class Requests(Counter[Request]):
    """Numbers of requests."""

    def since(self, before: Requests) -> Requests:
        """Return the requests after another count."""
        return Requests(self - before)

    def writes(self, *resources: str) -> int:
        """Return the number of writes to some resources and their subresources."""
        return sum(count for (resource, verb), count in self.items() if resource in resources and verb in _WRITES)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object."""

    group: str
    version: str
    name: str
    plural: str

    @property
    def path(self) -> str:
        """The path of its objects."""
        return f"/apis/{self.group}/{self.version}/namespaces/{NAMESPACE}/{self.plural}"

    def object(self, name: str) -> Object:
        """Return an object of this kind to create: a queue with a limit, in memory."""
        spec: Object = {"limit": 1_000}
        if self == STREAMS:
            # Name and subjects must be unique. The rest is as close to our queue as possible.
            spec = {"name": name, "subjects": [name], "storage": "memory", "replicas": 1, "maxMsgs": 1_000}
        api_version = f"{self.group}/{self.version}"
        return {"apiVersion": api_version, "kind": self.name, "metadata": {"name": name}, "spec": spec}


QUEUES = Kind("queuelet.dev", "v1alpha1", "Queue", "queues")
STREAMS = Kind("jetstream.nats.io", "v1beta2", "Stream", "streams")


class Cluster:
    """A running control plane, with a namespace and the measured kinds."""

    def __init__(self, plane: ControlPlane, folder: Path, *, with_nack: bool) -> None:
        """Take the control plane, a folder for files, and whether NACK is measured."""
        self.plane = plane
        self.folder = folder
        plane.api.define(_CRD)
        if with_nack:
            nack.define_kinds(plane.api, folder)
        plane.api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        users = yaml.safe_load(plane.kubeconfig.read_text())["users"]
        self._token: str = users[0]["user"]["token"]

    @property
    def environment(self) -> dict[str, str]:
        """Environment with which an operator finds the API server."""
        return {"KUBECONFIG": str(self.plane.kubeconfig)}

    def session(self, connections: int) -> aiohttp.ClientSession:
        """Return an API session like the operator's own: one connection per concurrent request."""
        tls = ssl.create_default_context(cafile=str(self.plane.certificates.authority))
        return aiohttp.ClientSession(
            base_url=self.plane.url,
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls),
            headers={"Authorization": f"Bearer {self._token}", "User-Agent": "queuelet-bench"},
            # No timeout, because a watch has no end; other calls are supervised as a whole.
            timeout=aiohttp.ClientTimeout(total=None),
            raise_for_status=_check_status,
        )

    def requests(self) -> Requests:
        """Return how many requests the API server has served, by its own counter. The counter lags a little."""
        counted = Requests()
        for labels, value in _REQUESTS.findall(str(self.plane.api.get("/metrics")["text"])):
            label = dict(_LABEL.findall(labels))
            # A refused request is not a write.
            if not label["code"].startswith("4"):
                counted[Request(label["resource"], label["verb"])] += int(float(value))
        return counted

    def empty(self, kind: Kind) -> None:
        """Remove all objects of a kind at once, in etcd, because an operator needs a minute for 10,000 finalizers."""
        prefix = f"/registry/{kind.group}/{kind.plural}/".encode()
        ends = {"key": prefix, "range_end": prefix[:-1] + bytes([prefix[-1] + 1])}
        body = json.dumps({name: base64.b64encode(end).decode() for name, end in ends.items()}).encode()
        flag = "--listen-client-urls="
        command = Path(f"/proc/{self.plane.etcd.pid}/cmdline").read_bytes().decode().split("\0")
        url = next(each.removeprefix(flag) for each in command if each.startswith(flag))
        with urllib.request.urlopen(f"{url}/v3/kv/deleterange", data=body, timeout=120) as response:  # noqa: S310  # etcd's own URL
            response.read()
        end_at = monotonic() + _EMPTY_WITHIN
        # The API server's cache processes the events one by one, although all have the same version.
        while self.plane.api.get(kind.path, limit="1")["items"]:
            if monotonic() > end_at:
                raise Failed(f"the {kind.plural} are still there after their removal from etcd")
            sleep(0.1)


async def _check_status(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise Failed(f"the API server refused a request: {response.status} {(await response.text())[:300]}")

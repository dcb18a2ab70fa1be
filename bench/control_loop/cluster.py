"""The API server used by all measurements: its counters, the resources its processes use, and how to empty it."""

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

WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}

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


Requests = Counter[Request]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, and the spec of those that are created here."""

    group: str
    version: str
    name: str
    plural: str
    finalizer: str = ""
    """The finalizer of its operator, if we write it ourselves."""

    @property
    def path(self) -> str:
        """The path of its objects."""
        return f"/apis/{self.group}/{self.version}/namespaces/{NAMESPACE}/{self.plural}"

    def object(self, name: str) -> Object:
        """Return an object of this kind to create: a queue with a limit, in memory."""
        spec: Object
        if self.plural == "streams":
            # Name and subjects must be unique. The rest is as close to our queue as possible.
            spec = {"name": name, "subjects": [name], "storage": "memory", "replicas": 1, "maxMsgs": 1_000}
        else:
            spec = {"limit": 1_000}
        return {
            "apiVersion": f"{self.group}/{self.version}",
            "kind": self.name,
            "metadata": {"name": name},
            "spec": spec,
        }


QUEUES = Kind("queuelet.dev", "v1alpha1", "Queue", "queues", "queuelet.dev/finalizer")
STREAMS = Kind("jetstream.nats.io", "v1beta2", "Stream", "streams")


class Cluster:
    """A running control plane, with a namespace and the measured kinds."""

    def __init__(self, plane: ControlPlane, folder: Path, *, with_nack: bool) -> None:
        """Take the control plane, a folder for files, and whether NACK is measured."""
        self.plane = plane
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

    @property
    def pids(self) -> dict[str, int]:
        """Its processes by their names in tables."""
        return {
            "API server": self.plane.api_server.pid,
            "etcd": self.plane.etcd.pid,
            "controllers": self.plane.controllers.pid,
        }

    def session(self, connections: int) -> aiohttp.ClientSession:
        """Return an API session like the operator's own: one connection per concurrent request."""
        tls = ssl.create_default_context(cafile=str(self.plane.certificates.authority))
        return aiohttp.ClientSession(
            base_url=self.plane.url,
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls),
            headers={"Authorization": f"Bearer {self._token}", "User-Agent": "queuelet-bench"},
            # No timeout, because a watch has no end; other calls are supervised as a whole.
            timeout=aiohttp.ClientTimeout(total=None),
        )

    def requests(self) -> Requests:
        """Return how many requests the API server has served, by its own counter. The counter lags a little."""
        counted: Requests = Counter()
        for labels, value in _REQUESTS.findall(str(self.plane.api.get("/metrics")["text"])):
            label = dict(_LABEL.findall(labels))
            # A refused request is not a write.
            if not label["code"].startswith("4"):
                counted[Request(label["resource"], label["verb"])] += int(float(value))
        return counted

    def empty(self, kind: Kind) -> None:
        """Remove all objects of a kind at once, in etcd, because an operator needs a minute for 10,000 finalizers."""
        prefix = f"/registry/{kind.group}/{kind.plural}/"
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        keys = {"key": _base64(prefix), "range_end": _base64(end)}
        with urllib.request.urlopen(  # noqa: S310  # etcd's own URL
            f"{self._etcd_url()}/v3/kv/deleterange", data=json.dumps(keys).encode(), timeout=120
        ) as response:
            response.read()
        end_at = monotonic() + _EMPTY_WITHIN
        # The API server's cache processes the events one by one, although all have the same version.
        while self.plane.api.get(kind.path, limit="1")["items"]:
            if monotonic() > end_at:
                raise Failed(f"the {kind.plural} are still there after their removal from etcd")
            sleep(0.1)

    def _etcd_url(self) -> str:
        flag = "--listen-client-urls="
        command = Path(f"/proc/{self.plane.etcd.pid}/cmdline").read_bytes().decode().split("\0")
        return next(each.removeprefix(flag) for each in command if each.startswith(flag))


def writes(before: Requests, after: Requests, *resources: str) -> int:
    """Return the number of writes to some resources and their subresources between two counts."""
    difference = after - before
    return sum(
        number for request, number in difference.items() if request.resource in resources and request.verb in WRITES
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

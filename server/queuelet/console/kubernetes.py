"""Reads Queue objects from the API server of Kubernetes, with the account of a Pod or through `kubectl proxy`.

It uses aiohttp, because the server needs two requests only and the official client would double the size of its image.
"""

from __future__ import annotations

import json
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import aiohttp

from queuelet.bearer_tokens import token_in

API = "/apis/queuelet.dev/v1alpha1"
PLURAL = "queues"

MAX_PAGE_BYTES = 8 * 1024 * 1024
"""The most bytes of a page of objects. A larger one is read again with fewer objects."""

MAX_LINE_BYTES = 4 * 1024 * 1024
"""The most bytes of one event of a watch; an object has at most 1.5 MiB, and a little more as JSON."""

PAGE = 100
"""The objects of a page, unless they are large."""

TIMEOUT = 30.0
"""Seconds within which a page has to arrive."""

WATCH_SECONDS = 300
"""Seconds after which the API server ends a watch, so that a silently broken one is replaced by then."""

# Not compressed, so that the limits on bytes are those of memory.
_HEADERS = {"User-Agent": "queuelet-console", "Accept-Encoding": "identity"}

Body = Mapping[str, Any]


class ApiProblem(Exception):  # named for what it is
    """The API server refused a request, or its response was not usable."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        """The HTTP status, or the code of an error in a watch; 0 if there was none."""

    @property
    def is_gone(self) -> bool:
        """Whether the version to continue from is too old, so that all objects have to be listed again."""
        return self.status == HTTPStatus.GONE


class PageTooLargeError(Exception):
    """The page has more bytes than are read."""


class Page(NamedTuple):
    """Some objects of a list."""

    items: list[Body]
    version: str
    """The resource version from which a watch continues."""
    following: str
    """The token of the next page; empty on the last."""


class QueueApi(ABC):
    """A way to the API server."""

    remedies: ClassVar[Mapping[int, str]] = {HTTPStatus.NOT_FOUND: "install the CustomResourceDefinition of Queue"}
    """What to do about a refusal, by its HTTP status."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """Return the headers of a request.

        Raises:
            OSError, ValueError: there are no usable credentials.
        """

    @abstractmethod
    def session(self) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        """Open connections to the API server.

        Raises:
            OSError: a file for that cannot be used.
        """

    async def page(self, session: aiohttp.ClientSession, namespace: str, *, most: int, token: str) -> Page:
        """Return a page of objects.

        Args:
            session: the connections.
            namespace: the namespace; empty for all.
            most: the most objects.
            token: that of the page before; empty for the first page.

        Raises:
            ApiProblem: the request was refused.
            PageTooLargeError: the page is too large; ask for fewer objects.
            aiohttp.ClientError, OSError, TimeoutError, ValueError: there was no usable response.
        """
        query = {"limit": str(most), **({"continue": token} if token else {})}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with session.get(_path(namespace), params=query, headers=self.headers(), timeout=timeout) as response:
            await _check(response)
            pieces, size = [], 0
            async for piece in response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > MAX_PAGE_BYTES and most > 1:
                    raise PageTooLargeError
        body = json.loads(b"".join(pieces))
        meta = body["metadata"]
        return Page(body["items"], str(meta["resourceVersion"]), str(meta.get("continue", "")))

    async def watch(
        self, session: aiohttp.ClientSession, namespace: str, version: str, opened: Callable[[], None]
    ) -> AsyncGenerator[Body]:
        """Yield the events after a resource version, until the API server ends the watch.

        Args:
            session: the connections.
            namespace: the namespace; empty for all.
            version: the version.
            opened: is called once the API server has accepted the watch.

        Raises:
            ApiProblem: the request was refused, or the version is too old.
            aiohttp.ClientError, OSError, TimeoutError, ValueError: there was no usable response.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=WATCH_SECONDS + TIMEOUT, sock_connect=TIMEOUT)
        async with session.get(_path(namespace), params=query, headers=self.headers(), timeout=timeout) as response:
            await _check(response)
            opened()
            rest = b""
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    event: Body = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiProblem(int(status.get("code", 0)), str(status.get("message", "the watch failed")))
                    yield event
                if len(rest) > MAX_LINE_BYTES:
                    raise ApiProblem(0, f"an event of the watch has more than {MAX_LINE_BYTES:,} bytes")


@dataclass(frozen=True, slots=True)
class Account(QueueApi):
    """The ServiceAccount of a Pod: where the API server is, and the folder with the token and the authority."""

    remedies: ClassVar[Mapping[int, str]] = {
        **QueueApi.remedies,
        HTTPStatus.FORBIDDEN: "let the server's ServiceAccount get, list and watch queues.queuelet.dev, as "
        "console.queueObjects of the chart does, or start the server without --queue-objects",
        HTTPStatus.UNAUTHORIZED: "check the token of the server's ServiceAccount",
    }

    folder: Path
    url: str

    @classmethod
    def of_pod(cls, folder: Path) -> Account:
        """Return the account of this Pod.

        Args:
            folder: the folder with `token` and `ca.crt`.

        Raises:
            ValueError: this process is not in a Pod.
        """
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        if not host:
            raise ValueError(
                "--queue-objects: KUBERNETES_SERVICE_HOST is not set, so this is not a Pod; leave the flag out"
            )
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        return cls(folder, f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")

    def headers(self) -> dict[str, str]:
        """Return the headers of a request. The token is read each time, because the kubelet renews it.

        Raises:
            OSError, ValueError: there is no usable token.
        """
        path = self.folder / "token"
        return {"Authorization": f"Bearer {token_in(path, path.read_bytes()).decode()}"}

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Open connections to the API server, which trust the authority as it is now.

        Raises:
            OSError: there is no usable authority.
        """
        tls = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        connector = aiohttp.TCPConnector(ssl=tls, limit=2)
        async with aiohttp.ClientSession(self.url, connector=connector, headers=_HEADERS) as session:
            yield session


@dataclass(frozen=True, slots=True)
class ProxySocket(QueueApi):
    """The socket of `kubectl proxy`, which adds the credentials of its user."""

    remedies: ClassVar[Mapping[int, str]] = {
        **QueueApi.remedies,
        HTTPStatus.FORBIDDEN: "name the namespaces whose Queues you may list, with --queue-namespace",
    }

    path: Path

    def headers(self) -> dict[str, str]:
        """Return no headers."""
        return {}

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Open connections to the proxy."""
        connector = aiohttp.UnixConnector(str(self.path), limit=2)
        async with aiohttp.ClientSession("http://localhost", connector=connector, headers=_HEADERS) as session:
            yield session


def _path(namespace: str) -> str:
    return f"{API}/namespaces/{namespace}/{PLURAL}" if namespace else f"{API}/{PLURAL}"


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise `ApiProblem` with the sentence of a refusal."""
    if response.status < HTTPStatus.BAD_REQUEST:
        return
    text = (await response.content.read(10_000)).decode(errors="replace")
    try:
        sentence = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        sentence = f"HTTP {response.status}: {' '.join(text.split())[:200]}"
    raise ApiProblem(response.status, sentence[:500])

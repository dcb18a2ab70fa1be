"""An API server of Kubernetes that has only Queue objects, whose refusals and events a test sets."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

Body = dict[str, Any]


def body(
    name: str,
    *,
    version: int = 1,
    ready: str = "True",
    reason: str = "Ready",
    message: str = "why",
    queue_class: str = "default",
    generation: int = 2,
    observed: int = 1,
    more: tuple[str, ...] = (),
) -> Body:
    """Return a Queue object as the API server has it; `more` are types of conditions that are True."""
    since = "2026-01-02T03:04:05Z"
    texts = {"reason": reason, "message": message, "lastTransitionTime": since}
    conditions = [{"type": "Ready", "status": ready, **texts}]
    conditions += [{"type": each, "status": "True", **texts} for each in more]
    return {
        "metadata": {"namespace": "shop", "name": name, "generation": generation, "resourceVersion": str(version)},
        "spec": {"queueClassName": queue_class},
        "status": {"observedGeneration": observed, "conditions": conditions},
    }


@dataclass
class FakeApi:
    """An API server whose objects, events and refusals a test sets."""

    items: list[Body] = field(default_factory=list)
    version: int = 1
    refusal: int = 0
    oldest: int = 0
    """The oldest version that a watch may continue from."""
    lists: list[dict[str, str]] = field(default_factory=list)
    watches: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    _events: asyncio.Queue[Body | None] = field(default_factory=asyncio.Queue)

    def send(self, kind: str, changed: Body) -> None:
        """Send an event in the open watch, or in the next one."""
        self._events.put_nowait({"type": kind, "object": changed})

    def cut(self) -> None:
        """End the open watch."""
        self._events.put_nowait(None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers["Authorization"])
        if self.refusal:
            return web.json_response({"message": f"refused with {self.refusal}"}, status=self.refusal)
        if "watch" in request.query:
            return await self._watch(request)
        self.lists.append(dict(request.query))
        first, most = int(request.query.get("continue", "0")), int(request.query["limit"])
        following = str(first + most) if first + most < len(self.items) else ""
        meta = {"resourceVersion": str(self.version), "continue": following}
        return web.json_response({"items": self.items[first : first + most], "metadata": meta})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        version = request.query["resourceVersion"]
        self.watches.append(version)
        response = web.StreamResponse()
        await response.prepare(request)
        if int(version) < self.oldest:
            gone = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
            await response.write(json.dumps(gone).encode() + b"\n")
            return response
        while event := await self._events.get():
            await response.write(json.dumps(event).encode() + b"\n")
        return response


class ServedQueueApi:
    """The same in a thread of its own, over TLS, with the files and variables that a Pod has."""

    def __init__(self, folder: Path) -> None:
        """Take an empty folder for the files."""
        self.api = FakeApi()
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._versions = 1
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.crt")
        (folder / "token").write_text("token-of-the-account")
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self.port = 0

    @property
    def env(self) -> dict[str, str]:
        """The environment of the Pod."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve while this context lasts."""
        application = web.Application()
        application.router.add_get("/{path:.*}", self.api.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.01, handle_signals=False)

        async def start() -> None:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
            self.port = runner.addresses[0][1]

        async def stop() -> None:
            await runner.cleanup()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        thread = threading.Thread(target=self._loop.run_forever, name="fake API server", daemon=True)
        thread.start()
        asyncio.run_coroutine_threadsafe(start(), self._loop).result(30)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(stop(), self._loop).result(30)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def put(self, changed: Body) -> None:
        """Add or change an object, before the list or in the watch."""
        self._versions += 1
        changed["metadata"]["resourceVersion"] = str(self._versions)
        self._loop.call_soon_threadsafe(self.api.send, "MODIFIED", changed)

"""A proxy in front of a real API server, which fails in ways that a test chooses.

It speaks plain HTTP on a free port of loopback, in a thread of its own, and records the requests.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from support.queue_objects import Object
from support.rpc import eventually
from tools.control_plane import ControlPlane

NO_RESPONSE = 0
"""The code of a request that got no response."""

EVERY = None
"""A number of faults: each matching request, until `heal`."""

_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "accept-encoding"}
"""Hop-by-hop headers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passed:
    """A request, with or without a response."""

    verb: str
    """As in metrics: get, patch, post, put, delete or watch."""
    path: str
    code: int
    body: Object = field(default_factory=dict)
    is_faulty: bool = False
    """Whether the code is from the proxy: the API server has not seen the request, or its response was lost."""
    at: float = 0.0
    """When it arrived, by time.monotonic."""


@dataclass(kw_only=True, slots=True)
class _Fault:
    """A fault for the next requests of a kind."""

    verb: re.Pattern[str]
    path: re.Pattern[str]
    left: int | None
    code: int = NO_RESPONSE
    headers: dict[str, str] = field(default_factory=dict)
    passes_on: bool = False
    delay: float = 0.0


@dataclass(slots=True, eq=False)
class _Watch:
    """An open watch."""

    request: web.Request
    response: web.StreamResponse
    pump: asyncio.Future[None] | None = None

    def cut(self) -> None:
        """End it without a response."""
        if self.request.transport:
            self.request.transport.abort()
        if self.pump:
            self.pump.cancel()


class FaultyApi:
    """The proxy. It forgets its faults and closes all connections at the end of its `with` block."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        """Take the real API server, and the path for a kubeconfig of the proxy."""
        self._upstream = control_plane.url
        self._tls = ssl.create_default_context(cafile=str(control_plane.certificates.authority))
        self._token: str = yaml.safe_load(control_plane.kubeconfig.read_text())["users"][0]["user"]["token"]
        self._kubeconfig = folder / "faulty.kubeconfig"
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._passed: list[Passed] = []
        self._delayed: list[tuple[str, str]] = []
        self._watches: set[_Watch] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._flow_until: bytes | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty API server", daemon=True)

    def __enter__(self) -> Self:
        """Start it."""
        self._thread.start()
        port = self._wait(self._start())
        self.url = f"http://127.0.0.1:{port}"
        """Its URL."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "faulty", "cluster": {"server": self.url}}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "faulty", "context": {"cluster": "faulty", "user": "admin"}}],
            "current-context": "faulty",
        }
        self._kubeconfig.write_text(json.dumps(config))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def environment(self) -> dict[str, str]:
        """Environment with which a program uses the proxy and not the API server itself."""
        return {"KUBECONFIG": str(self._kubeconfig)}

    # Faults

    def refuse(
        self, verb: str, path: str, code: int, *, times: int | None = 1, headers: dict[str, str] | None = None
    ) -> None:
        """Respond to the next requests with a code, without forwarding them.

        Verb and path are patterns; the path's may match a part.

        A request without a response has the code `NO_RESPONSE`: its connection is dropped.
        """
        self._add(verb, path, times, code=code, headers=headers or {})

    def lose_responses(self, verb: str, path: str, *, times: int | None = 1) -> None:
        """Forward the next requests, and drop the connection instead of sending the response."""
        self._add(verb, path, times, passes_on=True)

    def delay(self, verb: str, path: str, seconds: float, *, times: int | None = 1) -> None:
        """Delay the next requests."""
        self._add(verb, path, times, passes_on=True, delay=seconds)

    def heal(self) -> None:
        """Stop all faults, and resume the watches."""
        with self._lock:
            self._faults.clear()

        def flow() -> None:
            self._flow_until = None
            self._flows.set()

        self._loop.call_soon_threadsafe(flow)

    def cut_watches(self) -> None:
        """End every watch abruptly, as if a machine on the path was restarted."""

        def cut() -> None:
            for watch in self._watches:
                watch.cut()

        self._loop.call_soon_threadsafe(cut)

    def hold_watches(self) -> None:
        """Stall all watches, present and future: their events wait for `heal`."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def pass_events_until(self, text: str) -> None:
        """Release held events up to the first one that contains a text, and hold the rest."""

        def pass_on() -> None:
            self._flow_until = text.encode()
            self._flows.set()

        self._loop.call_soon_threadsafe(pass_on)

    def end_watches(self, code: int = HTTPStatus.GONE, message: str = "too old resource version: 1 (2)") -> None:
        """Send an ERROR on every watch and end it, as the API server does for a version that it no longer has."""

        async def end() -> None:
            line = json.dumps({"type": "ERROR", "object": _status(code, message)}).encode() + b"\n"
            for watch in list(self._watches):
                await watch.response.write(line)
                if watch.pump:
                    watch.pump.cancel()

        self._wait(end())

    # The record

    def requests(self, verb: str = ".*", path: str = "", code: int | None = None) -> list[Passed]:
        """Return the matching requests so far, in the order of their responses."""
        with self._lock:
            passed = list(self._passed)
        return [
            each
            for each in passed
            if re.fullmatch(verb, each.verb) and re.search(path, each.path) and code in {None, each.code}
        ]

    def wait_for(
        self, verb: str = ".*", path: str = "", code: int | None = None, *, count: int = 1, timeout: float = 30.0
    ) -> list[Passed]:
        """Return the matching requests once there are this many."""
        what = f"{count} requests {verb} {path} {code or ''}"
        try:
            eventually(lambda: len(self.requests(verb, path, code)) >= count, what, timeout)
        except AssertionError as error:
            seen = [(each.verb, each.path, each.code) for each in self.requests()]
            raise AssertionError(f"{error}; there were {seen}") from None
        return self.requests(verb, path, code)

    def wait_for_delayed(self, verb: str, path: str) -> None:
        """Wait until a matching request has arrived and is delayed: the API server has not seen it yet."""

        def has_come() -> bool:
            with self._lock:
                return any(re.fullmatch(verb, each[0]) and re.search(path, each[1]) for each in self._delayed)

        eventually(has_come, f"a request {verb} {path} is delayed")

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def wait_for_watches(self, count: int = 1) -> None:
        """Wait until this many watches are open."""
        eventually(lambda: self.watches >= count, f"{count} watches are under way")

    # Internals

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401  # the result of any coroutine
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30.0)

    async def _start(self) -> int:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0), auto_decompress=False
        )
        application = web.Application(client_max_size=64 * 1024**2)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        for watch in list(self._watches):
            watch.cut()
        await self._runner.cleanup()
        await self._session.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        # TLS connections take a moment to close.
        await asyncio.sleep(0.1)

    def _add(self, verb: str, path: str, left: int | None, **what: Any) -> None:  # noqa: ANN401  # fields of _Fault
        with self._lock:
            self._faults.append(_Fault(verb=re.compile(verb), path=re.compile(path), left=left, **what))

    def _next_fault(self, verb: str, path: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.left != 0 and fault.verb.fullmatch(verb) and fault.path.search(path):
                    if fault.left is not None:
                        fault.left -= 1
                    return fault
        return None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        began = monotonic()
        verb = "watch" if request.query.get("watch") == "true" else request.method.lower()
        data = await request.read()

        def note(code: int, *, is_faulty: bool = False) -> None:
            body = json.loads(data) if data.startswith(b"{") else {}
            passed = Passed(verb=verb, path=request.path, code=code, body=body, is_faulty=is_faulty, at=began)
            with self._lock:
                self._passed.append(passed)

        fault = self._next_fault(verb, request.path)
        if fault and fault.delay:
            with self._lock:
                self._delayed.append((verb, request.path))
            await asyncio.sleep(fault.delay)
        elif fault:
            if fault.passes_on:
                await self._pass_on(request, data)
            note(fault.code, is_faulty=True)
            if fault.code == NO_RESPONSE:
                if request.transport:
                    request.transport.abort()
                return web.Response()
            return web.json_response(
                _status(fault.code, "a fault made by the test"), status=fault.code, headers=fault.headers
            )
        if verb == "watch":
            return await self._watch(request, note)
        code, body, headers = await self._pass_on(request, data)
        note(code)
        return web.Response(status=code, body=body, headers=headers)

    async def _pass_on(self, request: web.Request, data: bytes) -> tuple[int, bytes, dict[str, str]]:
        try:
            async with self._open(request, data) as response:
                return response.status, await response.read(), _kept(response.headers)
        except (aiohttp.ClientError, OSError) as error:
            # Like a load balancer whose API server is down.
            body = json.dumps(_status(HTTPStatus.BAD_GATEWAY, repr(error))).encode()
            return HTTPStatus.BAD_GATEWAY, body, {"Content-Type": "application/json"}

    async def _watch(self, request: web.Request, note: Any) -> web.StreamResponse:  # noqa: ANN401  # a function
        async with self._open(request, b"") as upstream:
            note(upstream.status)
            response = web.StreamResponse(status=upstream.status, headers=_kept(upstream.headers))
            watch = _Watch(request, response)
            await response.prepare(request)
            self._watches.add(watch)
            watch.pump = asyncio.ensure_future(self._pump(upstream, response))
            try:
                await asyncio.wait([watch.pump])
            finally:
                watch.pump.cancel()
                self._watches.discard(watch)
        return response

    async def _pump(self, upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        rest = b""
        async for data in upstream.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                await self._flows.wait()
                if self._flow_until and self._flow_until in line:
                    self._flow_until = None
                    self._flows.clear()
                with suppress(ConnectionError):
                    await response.write(line + b"\n")

    def _open(self, request: web.Request, data: bytes) -> Any:  # noqa: ANN401  # aiohttp's own signature
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        return self._session.request(
            request.method,
            f"{self._upstream}{request.rel_url}",
            data=data or None,
            headers={**headers, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
        )


def _kept(headers: Any) -> dict[str, str]:  # noqa: ANN401  # a multidict
    return {name: value for name, value in headers.items() if name.lower() not in _HOP}


def _status(code: int, message: str) -> Object:
    phrase = HTTPStatus(code).phrase.replace(" ", "")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": phrase,
        "message": message,
        "code": int(code),
    }

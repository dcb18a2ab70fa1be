"""gRPC's health service, over bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from grpc_health.v1 import health_pb2

from queuelet.server.endpoint import Call, Send
from queuelet.server.native.served import Refusal, Unguarded
from queuelet.server.transport import LONG_SERVICE, MAX_SERVICE_CHARACTERS, NO_REQUEST, WATCH_ENDED
from queuelet.wire.errors import Code, Status

SERVICE = "grpc.health.v1.Health"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The status of each service, and the calls that ask for it. SERVING first."""

    def __init__(self, services: Iterable[str]) -> None:
        """Make it for services, and for the server as a whole, whose name is empty."""
        self._names = {"", *services}
        self._status: int = _SERVING
        self._changed: set[asyncio.Event] = set()
        """The event of each watch, set when the status changes or the watch has to end."""
        self._is_over = False

    def methods(self) -> list[Unguarded]:
        """Return the methods of the service."""
        request = "HealthCheckRequest"
        return [
            Unguarded(SERVICE, "Check", request, unary=self._check),
            Unguarded(SERVICE, "Watch", request, stream=self._watch),
        ]

    def not_serving(self) -> None:
        """Report NOT_SERVING from now on."""
        self._status = _NOT_SERVING
        self._notify()

    def end_watches(self) -> None:
        """End every watch with UNAVAILABLE, because watches would delay a stop by the whole grace period."""
        self._is_over = True
        self._notify()

    def _notify(self) -> None:
        for changed in self._changed:
            changed.set()

    def _check(self, request: bytes, _: Call) -> bytes:
        name = _service_of(request)
        if name not in self._names:
            raise Refusal(Status(Code.NOT_FOUND, "service: unknown to this server; list its services by reflection"))
        return _response(self._status)

    async def _watch(self, requests: AsyncIterator[bytes], send: Send, _: Call) -> None:
        request = await anext(requests, None)
        if request is None:
            raise Refusal(NO_REQUEST)
        is_known = _service_of(request) in self._names
        changed = asyncio.Event()
        self._changed.add(changed)
        last: int | None = None
        try:
            while not self._is_over:
                status = self._status if is_known else _UNKNOWN
                if status != last:
                    await send(_response(status))
                    last = status
                    continue  # it may have changed meanwhile
                changed.clear()
                await changed.wait()
        finally:
            self._changed.discard(changed)
        raise Refusal(WATCH_ENDED)


def _service_of(request: bytes) -> str:
    """Return the name of the service that a request asks for."""
    name = health_pb2.HealthCheckRequest.FromString(request).service
    if len(name) > MAX_SERVICE_CHARACTERS:
        raise Refusal(LONG_SERVICE)
    return name


def _response(status: int) -> bytes:
    return health_pb2.HealthCheckResponse(status=cast("Any", status)).SerializeToString()

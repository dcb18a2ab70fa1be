"""gRPC's reflection service, over bytes: what the library says about each request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from grpc_reflection.v1alpha import reflection, reflection_pb2

from queuelet.compat import q_pb2  # noqa: F401  # puts proto.Q where reflection finds it
from queuelet.server.endpoint import Call, Send
from queuelet.server.native.served import Unguarded

SERVICE = reflection.SERVICE_NAME


class Reflection:
    """Describes services."""

    def __init__(self, services: Iterable[str]) -> None:
        self._library = reflection.ReflectionServicer(services)

    def methods(self) -> list[Unguarded]:
        """Return the methods of the service."""
        return [Unguarded(SERVICE, "ServerReflectionInfo", "ServerReflectionRequest", stream=self._info)]

    async def _info(self, requests: AsyncIterator[bytes], send: Send, _: Call) -> None:
        async for request in requests:
            parsed = reflection_pb2.ServerReflectionRequest.FromString(request)
            # The library does not use its context.
            for response in cast("Any", self._library).ServerReflectionInfo(iter([parsed]), None):
                await send(response.SerializeToString())

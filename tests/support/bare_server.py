"""A grpc.aio server that refuses every call: the cost of the transport alone.

With the argument `garbage` it instead responds to every call with bytes that are not a message. It prints its port as a
log line like the server's, so that ServerProcess can run it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

STREAMS = ("Consume", "Redrive", "Tail", "WatchQueues")

REFUSAL = "a sentence about as long as those with which Queuelet refuses a request; it names a field and a remedy"


GARBAGE = b"\x0a\xff\x01cut off"
"""The beginning of a message that is longer."""

_IS_GARBLED = sys.argv[1:] == ["garbage"]


class Refuses(grpc.GenericRpcHandler):
    """Responds to every method in the same way."""

    def service(self, details: Any) -> Any:  # noqa: ANN401  # grpc's own signature has no types
        """Return the handler."""
        if details.method.endswith(STREAMS):
            return grpc.stream_stream_rpc_method_handler(_refuse_stream)
        return grpc.unary_unary_rpc_method_handler(_refuse)


async def _refuse(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    if _IS_GARBLED:
        return GARBAGE
    context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
    context.set_details(REFUSAL)
    return b""


async def _refuse_stream(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    await anext(requests)
    if _IS_GARBLED:
        await context.write(GARBAGE)
        return
    context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
    context.set_details(REFUSAL)


async def _main() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 4 * 1024 * 1024 + 4096)])
    server.add_generic_rpc_handlers((Refuses(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sys.stderr.write(json.dumps({"msg": "serving", "port": port, "metrics_port": 0}) + "\n")
    sys.stderr.flush()
    await stop.wait()
    await server.stop(1)


if __name__ == "__main__":
    asyncio.run(_main())

"""A connection to a server for commands: a synchronous wrapper of the client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message as ProtobufMessage

from queuelet.cli.options import Options
from queuelet.errors import DeadlineExceeded

if TYPE_CHECKING:
    from queuelet.client import Client, Connection, Producer

_Response = TypeVar("_Response", bound=ProtobufMessage)
_Result = TypeVar("_Result")


class Session:
    """Makes calls, one at a time. Every call raises the errors of `queuelet.errors`."""

    def __init__(self, client: Client, runner: asyncio.Runner, options: Options) -> None:
        """Wrap an open client; `runner` has its event loop."""
        self._client = client
        self._runner = runner
        self._options = options

    def call(self, name: str, request: ProtobufMessage, response: type[_Response], *, wait: float = 0) -> _Response:
        """Make a call with the usual time limit plus `wait` seconds."""
        return self._run(self._client.call(name, request, response, extra=wait), wait)

    def do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine that uses the client."""
        return self._runner.run(work)

    @contextmanager
    def producer(self, queue: str, *, wait_for_room: bool) -> Iterator[Producer[bytes]]:
        """Open a producer for a queue."""
        # As in `connection_of`.
        from queuelet.client import Producer  # noqa: PLC0415

        timeout = self._options.timeout or None
        producer = Producer(self._client, queue, wait_for_room=wait_for_room, timeout=timeout)
        self._runner.run(producer.__aenter__())
        try:
            yield producer
        finally:
            self._runner.run(producer.close())

    def _run(self, call: Coroutine[Any, Any, _Result], wait: float = 0) -> _Result:
        try:
            return self._runner.run(call)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(
                f"no response from {self._options.server} within {self._options.timeout + wait:g} seconds; "
                "the call may or may not have been executed"
            ) from error

    def stream(self, name: str, request: ProtobufMessage, response: type[_Response]) -> Iterator[_Response]:
        """Make a call with a stream of responses, and yield them."""
        responses = self._client.stream(name, request, response)

        async def following() -> _Response | None:
            return await anext(responses, None)

        while (one := self._runner.run(following())) is not None:
            yield one


def connection_of(options: Options) -> Connection:
    """Return how to reach the server in the options."""
    # Disable gRPC's own log lines, because they only repeat our error messages.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imported on demand, because it takes 0.2 s, which --help should not wait for.
    from queuelet.client import Connection  # noqa: PLC0415

    return Connection(
        server=options.server,
        tls_ca=options.tls_ca,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        token_file=options.token_file,
        insecure=options.insecure,
        timeout=options.timeout or None,
        # No retries, because the user of a command should see at once that the server is unreachable.
        retry_for=0,
    )


def open_client(options: Options) -> Client:
    """Return a client for the server in the options, to be used in `async with`."""
    connection = connection_of(options)
    # As in `connection_of`.
    from queuelet.client import Client  # noqa: PLC0415

    return Client(connection)


@contextmanager
def connect(options: Options) -> Iterator[Session]:
    """Open a session with the server in the options. Nothing is sent yet."""
    with asyncio.Runner() as runner:
        client = open_client(options)
        runner.run(client.__aenter__())
        try:
            yield Session(client, runner, options)
        finally:
            runner.run(client.__aexit__(None, None, None))

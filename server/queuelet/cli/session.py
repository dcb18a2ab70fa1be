"""A connection to a server for commands, which do one thing after another and do not wait for two."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message as ProtobufMessage

from queuelet.cli.options import Options
from queuelet.errors import DeadlineExceeded
from queuelet.v1 import queue_pb2 as pb

if TYPE_CHECKING:
    from queuelet.client import Client, Producer

_Answer = TypeVar("_Answer", bound=ProtobufMessage)
_Result = TypeVar("_Result")


class Session:
    """Calls, one at a time. Every call raises the errors of `queuelet.errors`."""

    def __init__(self, client: Client, runner: asyncio.Runner, options: Options) -> None:
        """Take an open client and the loop it lives in."""
        self._client = client
        self._runner = runner
        self._options = options

    def call(self, name: str, request: ProtobufMessage, answer: type[_Answer], *, wait: float = 0) -> _Answer:
        """Make a call that the server may take `wait` seconds longer to answer than others."""
        return self._run(self._client.call(name, request, answer, extra=wait), wait)

    def do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do something with the client that takes more than a call."""
        return self._runner.run(work)

    @contextmanager
    def producer(self, queue: str, *, wait_for_room: bool) -> Iterator[Producer[bytes]]:
        """Open a producer for a queue."""
        # As in `open_client`.
        from queuelet.client import Producer  # noqa: PLC0415

        timeout = self._options.timeout or None
        producer = Producer(self._client, queue, wait_for_room=wait_for_room, timeout=timeout)
        self._runner.run(producer.__aenter__())
        try:
            yield producer
        finally:
            self._runner.run(producer.close())

    def list_queues(self, selector: str) -> list[pb.Queue]:
        """Return all queues that the selector picks, however many pages they are."""
        return self._run(self._client.list_queues(selector))

    def _run(self, call: Coroutine[Any, Any, _Result], wait: float = 0) -> _Result:
        try:
            return self._runner.run(call)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(
                f"the server at {self._options.server} did not answer within {self._options.timeout + wait:g} seconds, "
                "so what became of the call is not known"
            ) from error

    def stream(self, name: str, request: ProtobufMessage, answer: type[_Answer]) -> Iterator[_Answer]:
        """Make a call that has many answers, and yield them."""
        answers = self._client.stream(name, request, answer)

        async def following() -> _Answer | None:
            return await anext(answers, None)

        while (one := self._runner.run(following())) is not None:
            yield one


def open_client(options: Options) -> Client:
    """Return a client of the server of the options, to be used in `async with`."""
    # gRPC's own log lines would stand among ours, which say the same.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # It takes a fifth of a second to import, and --help does without.
    from queuelet.client import Client, Connection  # noqa: PLC0415

    return Client(
        Connection(
            server=options.server,
            tls_ca=options.tls_ca,
            tls_cert=options.tls_cert,
            tls_key=options.tls_key,
            token_file=options.token_file,
            insecure=options.insecure,
            timeout=options.timeout or None,
            # Who types a command wants to hear at once that the server is away.
            retry_for=0,
        )
    )


@contextmanager
def connect(options: Options) -> Iterator[Session]:
    """Open a connection to the server of the options. Nothing is sent yet."""
    with asyncio.Runner() as runner:
        client = open_client(options)
        runner.run(client.__aenter__())
        try:
            yield Session(client, runner, options)
        finally:
            runner.run(client.__aexit__(None, None, None))

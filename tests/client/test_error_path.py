"""An exception of any kind from a handler fails the message with a reason, and never ends the consumer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest

from queuelet.client import Client, Consumer, MessageState, OnError, Producer, Received, blocking
from support.server_process import ServerProcess

SURROGATE = b"men\xfc".decode(errors="surrogateescape")
"""A file name that is not UTF-8, as `os.listdir` returns it."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("its text")

    __repr__ = __str__


class Odd(str):
    __slots__ = ()

    def __getitem__(self, _: object) -> str:
        raise RuntimeError("no part of it")


class OddText(Exception):
    def __str__(self) -> str:
        return Odd("odd")


class Foreign(BaseException):
    """Like the panics of extension modules in Rust."""


def cyclic() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def deep() -> BaseException:
    error = ValueError("deep")
    for _ in range(5_000):
        outer = ValueError("deep")
        outer.__cause__ = error
        error = outer
    return error


def grouped() -> BaseException:
    error: Exception = ValueError(SURROGATE)
    for _ in range(500):
        error = ExceptionGroup("nested", [error])
    return error


ERRORS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "a lone surrogate": (lambda: FileNotFoundError(SURROGATE), "FileNotFoundError: men\\udcfc"),
    "GeneratorExit": (lambda: GeneratorExit("x"), "GeneratorExit: x"),
    "StopIteration": (lambda: StopIteration("x"), "StopIteration"),
    "StopAsyncIteration": (lambda: StopAsyncIteration("x"), "StopAsyncIteration: x"),
    "a BaseException": (lambda: Foreign("x"), "Foreign: x"),
    "a group of BaseExceptions": (lambda: BaseExceptionGroup("x", [Foreign()]), "BaseExceptionGroup: x"),
    "no text": (Unprintable, "Unprintable: (its text cannot be shown: SystemExit)"),
    "an odd text": (OddText, "OddText: (its text cannot be shown: RuntimeError)"),
    "10 MB of text": (lambda: ValueError("ä" * 10_000_000), "ValueError: ää"),
    "a cyclic cause": (cyclic, "ValueError: first"),
    "a long chain of causes": (deep, "ValueError: deep"),
    "deep groups": (grouped, "ExceptionGroup: nested (1 sub-exception)"),
}


class Choking(logging.Handler):
    """A log handler that fails, as one may that encodes everything in UTF-8."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.Formatter().format(record).encode("ascii", "strict")
        raise RuntimeError("no room for logs")


@pytest.fixture
def choking_log() -> Iterator[None]:
    log, handler = logging.getLogger("queuelet.client"), Choking()
    log.addHandler(handler)
    yield
    log.removeHandler(handler)


async def failed(client: Client, queue: str) -> list[tuple[bytes, str]]:
    """Return the dead messages, each with its reason."""
    dead = [each async for each in client.browse(queue, states=[MessageState.DEAD])]
    return [(each.message.payload, each.tries[-1].reason) for each in dead]


@pytest.mark.usefixtures("choking_log")
@pytest.mark.parametrize(("error", "reason"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("is_blocking", [False, True], ids=["async", "blocking"])
async def test_a_message_fails_with_a_reason_and_the_next_is_handled(  # noqa: PLR0917  # fixtures and parameters
    client: Client,
    server: ServerProcess,
    queue: str,
    error: Callable[[], BaseException],
    reason: str,
    is_blocking: bool,  # noqa: FBT001
) -> None:
    handled: list[bytes] = []

    def work(received: Received[bytes]) -> None:
        if received.item == b"1":
            raise error()
        handled.append(received.item)

    async def handle(received: Received[bytes]) -> None:
        work(received)

    def consume() -> tuple[int, int]:
        with blocking.Client(server.address) as own:
            consumer = blocking.Consumer(own, queue, work, on_error=OnError.DEAD_LETTER, until_empty=True)
            consumer.run()
            return consumer.done, consumer.failed

    async with Producer(client, queue) as producer:
        await producer.put_many([b"1", b"2"])
    async with asyncio.timeout(60):
        if is_blocking:
            counts = await asyncio.to_thread(consume)
        else:
            consumer = Consumer(client, queue, handle, on_error=OnError.DEAD_LETTER, until_empty=True)
            await consumer.run()
            counts = consumer.done, consumer.failed
    assert counts == (1, 1)
    assert handled == [b"2"]
    ((payload, why),) = await failed(client, queue)
    assert payload == b"1"
    assert reason in why
    assert len(why.encode()) <= 1_024


async def test_a_handler_that_awaits_a_future_of_generator_exit_fails(client: Client, queue: str) -> None:
    """Python throws that error into the outermost coroutine of a task, past what awaits the handler."""
    handled: list[bytes] = []

    def close() -> None:
        raise GeneratorExit("x")

    async def handle(received: Received[bytes]) -> None:
        if received.item == b"1":
            await asyncio.get_running_loop().run_in_executor(None, close)
        handled.append(received.item)

    async with Producer(client, queue) as producer:
        await producer.put_many([b"1", b"2"])
    async with asyncio.timeout(60):
        await Consumer(client, queue, handle, on_error=OnError.DEAD_LETTER, until_empty=True).run()
    assert handled == [b"2"]
    assert await failed(client, queue) == [(b"1", "GeneratorExit: x")]


async def test_a_blocking_handler_that_raises_stop_iteration_fails(
    client: Client, server: ServerProcess, queue: str
) -> None:
    """A future cannot hold a StopIteration, so the wait for such a handler used to hang."""

    def handle(_: Received[bytes]) -> None:
        next(iter(()))

    def consume() -> int:
        with blocking.Client(server.address) as own:
            consumer = blocking.Consumer(own, queue, handle, on_error=OnError.DEAD_LETTER, until_empty=True)
            consumer.run()
            return consumer.failed

    await client.add(queue, b"1")
    async with asyncio.timeout(60):
        assert await asyncio.to_thread(consume) == 1
    assert await failed(client, queue) == [(b"1", "RuntimeError: the handler raised StopIteration")]


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
async def test_a_blocking_handler_that_ends_its_program_has_failed(
    client: Client, server: ServerProcess, queue: str, ending: type[BaseException]
) -> None:
    def handle(_: Received[bytes]) -> None:
        raise ending(SURROGATE)

    def consume() -> str:
        with blocking.Client(server.address) as own:
            try:
                blocking.Consumer(own, queue, handle, on_error=OnError.DEAD_LETTER).run()
            except ending as error:
                return type(error).__name__
        return "it went on"

    await client.add(queue, b"1")
    async with asyncio.timeout(60):
        assert await asyncio.to_thread(consume) == ending.__name__
    ((_, reason),) = await failed(client, queue)
    assert reason == f"RuntimeError: the handler ended the consumer: {ending.__name__}: men\\udcfc"


async def test_what_a_serializer_raises_is_the_reason_of_a_dead_message(client: Client, queue: str) -> None:
    class Broken:
        def dump(self, item: bytes, /) -> bytes:
            return item

        def load(self, payload: bytes, /) -> bytes:
            raise ValueError(SURROGATE if payload == b"1" else "x" * 10_000_000)

    async def handle(_: Received[bytes]) -> None:
        raise AssertionError("no message can be read")

    async with Producer(client, queue) as producer:
        await producer.put_many([b"1", b"2"])
    async with asyncio.timeout(60):
        await Consumer(client, queue, handle, serializer=Broken(), until_empty=True).run()
    reasons = [reason for _, reason in await failed(client, queue)]
    assert reasons[0] == "its payload cannot be read: ValueError: men\\udcfc"
    assert reasons[1].startswith("its payload cannot be read: ValueError: xxx")


async def test_a_name_or_reason_that_cannot_be_sent_is_escaped(client: Client, queue: str) -> None:
    async def handle(received: Received[bytes]) -> None:
        received.nack(reason=SURROGATE + "y" * 5_000, dead=True)

    await client.add(queue, b"1")
    async with asyncio.timeout(60):
        await Consumer(client, queue, handle, name=SURROGATE + "z" * 5_000, until_empty=True).run()
    (dead,) = [each async for each in client.browse(queue, states=[MessageState.DEAD])]
    assert dead.tries[0].reason.startswith("men\\udcfcyyy")
    assert dead.tries[0].consumer.startswith("men\\udcfczzz")
    assert len(dead.tries[0].consumer) == 256


async def test_a_nack_that_is_refused_leaves_the_message_to_be_settled(
    client: Client, server: ServerProcess, queue: str
) -> None:
    def handle(received: Received[bytes]) -> None:
        received.nack(delay=-1)

    def consume() -> None:
        with blocking.Client(server.address) as own:
            blocking.Consumer(own, queue, handle, on_error=OnError.DEAD_LETTER, until_empty=True).run()

    await client.add(queue, b"1")
    async with asyncio.timeout(60):
        await asyncio.to_thread(consume)
    ((_, reason),) = await failed(client, queue)
    assert reason.startswith("InvalidArgument: delay: -1 is out of range")

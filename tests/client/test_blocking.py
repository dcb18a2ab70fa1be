"""The blocking client: which calls it has, in which thread code runs, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import get_type_hints

import pytest

from queuelet import client as aio
from queuelet.client import (
    JSON,
    Added,
    Closed,
    Connection,
    ConnectionState,
    MessageState,
    NewMessage,
    OnError,
    PutsFailed,
    Received,
)
from queuelet.client.blocking import Client, Consumer, Producer
from queuelet.client.messages import new_message
from queuelet.client.options import ConsumerOptions, MessageOptions, ProducerOptions, PutOptions
from queuelet.errors import InvalidArgument, QueueEmpty, QueueletError, QueueNotFound, Unreachable
from support.patience import patient
from support.rpc import eventually, unique_name
from support.server_process import ServerProcess

NOT_BLOCKING = {"park", "call", "call_once", "stream", "consume", "connect_directly"}
"""Methods with generated classes or encoded requests, and what consumers do before they open a stream."""


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(server.address) as opened:
        yield opened


@pytest.fixture
def queue(client: Client) -> Iterator[str]:
    """The name of a new queue without a limit."""
    name = client.new_queue(name=unique_name()).name
    yield name
    client.delete_queue(name)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Check that no test leaves a client thread behind."""
    yield
    assert not own_threads()


def own_threads() -> set[str]:
    """Return the names of the client's running threads."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("queuelet-")}


# What there is


def public_names(kind: type) -> set[str]:
    """Return the public names of a class, with those of its bases."""
    return {name for name in dir(kind) if not name.startswith("_")}


def test_a_client_has_every_call_of_the_async_one() -> None:
    """All but those for generated classes and encoded requests, and each with the same arguments."""
    names = public_names(aio.Client) - NOT_BLOCKING
    assert public_names(Client) == names
    for name in names - {"connection", "state", "listen"}:
        ours, theirs = getattr(Client, name), getattr(aio.Client, name)
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert ours.__doc__ == theirs.__doc__


@pytest.mark.parametrize(("ours", "theirs"), [(Producer, aio.Producer), (Consumer, aio.Consumer)])
def test_producers_and_consumers_have_what_the_async_ones_have(ours: type, theirs: type) -> None:
    assert public_names(ours) <= public_names(theirs) | {"done", "failed", "lost"}


@pytest.mark.parametrize(
    ("options", "taken_by"),
    [
        (PutOptions, aio.Producer.put),
        (MessageOptions, new_message),
        (ProducerOptions, aio.Producer.__init__),
        (ConsumerOptions, aio.Consumer.__init__),
    ],
)
def test_options_are_what_the_async_ones_take_by_name(options: type, taken_by: Callable[..., object]) -> None:
    named = {
        name: parameter.annotation
        for name, parameter in inspect.signature(taken_by, eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in {"serializer", "payload"}
    }
    assert get_type_hints(options) == named


# The client


def test_calls_return_when_they_are_done(client: Client, queue: str) -> None:
    added = client.add(queue, b"x", priority=3)
    assert client.peek(queue) == added
    assert [each.message.id for each in client.browse(queue, page_size=1)] == [added.id]
    (cut,) = client.browse(queue, ids=[added.id], contains="x", newest_first=True, payload_bytes=0)
    assert (cut.message.payload, cut.payload_size) == (b"", 1)
    assert client.purge(queue, everything=True, dry_run=True) == 1
    assert client.get_queue(queue).messages.ready == 1
    assert client.pop(queue, wait=30).payload == b"x"


def test_refusals_are_the_errors_of_the_async_client(client: Client, queue: str) -> None:
    with pytest.raises(QueueEmpty):
        client.pop(queue)
    with pytest.raises(QueueNotFound):
        client.get_queue("nowhere")


def test_an_iterator_may_be_left_at_any_item(client: Client, queue: str) -> None:
    for _ in range(3):
        client.add(queue, b"x")
    for _ in client.browse(queue, page_size=1):
        break
    watched: set[str] = set()
    for batch in client.watch_queues():
        watched |= {each.name for each in batch.queues}
        if batch.snapshot_complete:
            break
    assert queue in watched
    assert client.get_queue(queue).messages.ready == 3


def test_threads_may_share_a_client(client: Client, queue: str) -> None:
    def add() -> None:
        for _ in range(50):
            client.add(queue, b"x")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get_queue(queue).messages.ready == 200


def test_listeners_are_notified_of_the_connection(client: Client) -> None:
    heard: list[ConnectionState] = []
    leave = client.listen(heard.append)
    eventually(lambda: heard == [ConnectionState.CONNECTED], "it is connected")
    assert client.state is ConnectionState.CONNECTED
    leave()


def test_the_thread_ends_with_the_client_and_whatever_ran_there(server: ServerProcess) -> None:
    with Client(server.address) as client:
        assert own_threads() == {"queuelet-client"}
        client.list_queues()
    assert not own_threads()
    with pytest.raises(Closed):
        client.list_queues()
    with pytest.raises(Closed), client:
        """It cannot be opened again."""


def test_a_call_that_waits_when_the_client_is_closed_ends(server: ServerProcess, queue: str) -> None:
    raised: list[BaseException] = []

    def wait(client: Client) -> None:
        try:
            client.pop(queue, wait=30)
        except QueueletError as error:
            raised.append(error)

    with Client(server.address) as other:
        thread = threading.Thread(target=wait, args=[other])
        thread.start()
        eventually(lambda: other.stats(queue).waiting_calls == 1, "it waits")
    thread.join()
    assert isinstance(raised[0], Closed | Unreachable)


def test_a_client_that_cannot_be_opened_leaves_no_thread() -> None:
    with pytest.raises(FileNotFoundError), Client(Connection(tls_ca=Path("nowhere.pem"))):
        """It is not opened."""


async def test_in_an_event_loop_it_says_what_to_use_instead(server: ServerProcess) -> None:
    client = Client(server.address)
    with pytest.raises(RuntimeError, match=r"await queuelet\.client"):
        client.__enter__()

    def work() -> None:
        with client:
            assert client.list_queues() is not None

    await asyncio.to_thread(work)


def test_a_call_from_a_callback_says_what_to_use_instead(client: Client, queue: str) -> None:
    """It would wait for the thread it runs in."""
    raised: list[BaseException] = []

    def ask(state: ConnectionState) -> None:
        try:
            client.get_queue(queue)
        except RuntimeError as error:
            raised.append(error)

    client.listen(ask)
    eventually(lambda: bool(raised), "it is called")
    assert "event loop" in str(raised[0])


# The producer


def test_puts_are_kept_when_they_return(client: Client, queue: str) -> None:
    with Producer(client, queue, JSON) as producer:
        added = producer.put({"number": 1}, priority=1)
        assert [each.is_durable for each in producer.put_many([2, 3])] == [False, False]
    taken = client.pop_batch(queue)
    assert [message.payload for message in taken] == [b"2", b"3", b'{"number":1}']
    assert taken[2].id == added.id


def test_puts_in_the_background_have_an_outcome(client: Client, queue: str) -> None:
    reported: list[Added | QueueletError] = []
    with Producer(client, queue) as producer:
        sent = producer.send(b"1")
        sent.add_done_callback(reported.append)
        refused = producer.send(b"2", delay=4e8)
        with pytest.raises(InvalidArgument):
            refused.result(timeout=30)
        assert producer.flush()
        assert producer.unsettled == 0
        assert sent.done()
        assert reported == [sent.result()]


def test_a_result_that_is_not_there_in_time_is_still_on_its_way(client: Client) -> None:
    name = client.new_queue(name=unique_name(), limit=1).name
    client.add(name, b"in the way")
    with Producer(client, name) as producer:
        sent = producer.send(b"x")
        with pytest.raises(TimeoutError):
            sent.result(timeout=0.05)
        client.pop(name)
        assert sent.result().id == client.pop(name, wait=30).id
    client.delete_queue(name)


def test_leaving_reports_what_was_not_put(client: Client, queue: str) -> None:
    with pytest.raises(PutsFailed), Producer(client, queue) as producer:
        producer.send(b"x", delay=4e8)
    with pytest.raises(Closed):
        producer.put(b"late")
    producer.close()


# The consumer


def test_iterating_hands_each_message_to_the_caller_and_acknowledges_it(client: Client, queue: str) -> None:
    with Producer(client, queue, JSON) as producer:
        producer.put_many(range(3))
    with Consumer(client, queue, serializer=JSON, max_messages=3) as consumer:
        assert [received.item for received in consumer] == [0, 1, 2]
    assert (consumer.done, consumer.failed, consumer.lost) == (3, 0, 0)
    assert client.stats(queue).acked == 3


def test_iterating_needs_no_with(client: Client, queue: str) -> None:
    client.add(queue, b"x")
    assert [received.item for received in Consumer(client, queue, until_empty=True)] == [b"x"]
    assert client.stats(queue).acked == 1


def test_a_message_can_be_settled_by_hand(client: Client, queue: str) -> None:
    """The interruption is reported at once, though the handler goes on in its thread."""
    client.add(queue, b"1")
    client.add(queue, b"2")
    with Consumer(client, queue, max_messages=2) as consumer:
        for received in consumer:
            if received.item == b"1":
                received.ack()
                eventually(lambda: client.stats(queue).acked == 1, "it is acknowledged")
            else:
                received.nack(dead=True, reason="it is no use")
    (dead,) = client.browse(queue, states=[MessageState.DEAD])
    assert dead.tries[0].reason == "it is no use"


def work_on(client: Client, queue: str, error: BaseException) -> None:
    """Iterate over the messages of a queue, and fail at the first."""
    with Consumer(client, queue) as consumer:
        for _ in consumer:
            raise error


def test_an_error_in_the_loop_gives_the_message_back_and_goes_through(client: Client, queue: str) -> None:
    client.add(queue, b"x")
    with pytest.raises(ZeroDivisionError):
        work_on(client, queue, ZeroDivisionError())
    (tried,) = client.browse(queue)
    assert tried.tries[0].reason == "ZeroDivisionError"


def test_an_interrupt_in_the_loop_gives_the_message_back_and_goes_through(client: Client, queue: str) -> None:
    client.add(queue, b"x")
    with pytest.raises(KeyboardInterrupt):
        work_on(client, queue, KeyboardInterrupt())
    assert client.pop(queue, wait=30).payload == b"x"


def test_handlers_run_in_as_many_threads_as_the_concurrency_says(client: Client, queue: str) -> None:
    client.add_batch(queue, [NewMessage(b"x")] * 4)
    together = threading.Barrier(4, timeout=30)
    names: set[str] = set()

    def handle(received: Received[bytes]) -> None:
        names.add(threading.current_thread().name)
        client.get_queue(queue)
        together.wait()

    Consumer(client, queue, handle, concurrency=4, max_messages=4).run()
    assert len(names) == 4
    assert own_threads() == {"queuelet-client"}
    assert client.stats(queue).acked == 4


def test_a_handler_that_raises_gives_the_message_back(client: Client, queue: str) -> None:
    client.add(queue, b"x")
    calls: list[int] = []

    def handle(received: Received[bytes]) -> None:
        calls.append(received.count)
        if received.count == 1:
            raise RuntimeError("it fails")

    Consumer(client, queue, handle, on_error=OnError.REQUEUE, until_empty=True).run()
    assert calls == [1, 2]


def test_a_handler_may_settle_its_message_and_stop_the_consumer(client: Client, queue: str) -> None:
    client.add(queue, b"1")
    client.add(queue, b"2")

    def handle(received: Received[bytes]) -> None:
        received.nack(delay=600)
        consumer.stop()

    consumer = Consumer(client, queue, handle)
    consumer.run()
    messages = client.get_queue(queue).messages
    assert (messages.ready, messages.delayed) == (1, 1)


def test_a_handler_that_exits_ends_the_consumer_and_is_reported(client: Client, queue: str) -> None:
    client.add(queue, b"x")
    with pytest.raises(SystemExit):
        Consumer(client, queue, lambda _: sys.exit(3)).run()
    (tried,) = client.browse(queue)
    assert "SystemExit" in tried.tries[0].reason


def test_what_does_not_go_by_itself_is_raised(client: Client) -> None:
    with pytest.raises(QueueNotFound):
        Consumer(client, "nowhere", print).run()
    with pytest.raises(QueueNotFound):
        next(iter(Consumer(client, "nowhere")))
    with pytest.raises(TypeError, match="handler"):
        Consumer(client, "nowhere").run()
    with pytest.raises(TypeError, match="handler"):
        iter(Consumer(client, "nowhere", print))
    with pytest.raises(ValueError, match="concurrency"):
        Consumer(client, "nowhere", print, concurrency=0)


def test_a_coroutine_function_is_refused_as_a_handler(client: Client) -> None:
    """Nothing would await it, and its message would count as done."""

    async def handle(received: Received[bytes]) -> None:
        """Handle a message."""

    with pytest.raises(TypeError, match="coroutine"):
        Consumer(client, "nowhere", handle)


def test_closing_gives_back_what_takes_too_long_and_waits_for_its_thread(client: Client, queue: str) -> None:
    client.add(queue, b"x")
    begun, goes_on = threading.Event(), threading.Event()

    def handle(received: Received[bytes]) -> None:
        begun.set()
        goes_on.wait()

    consumer = Consumer(client, queue, handle, close_timeout=0.05)
    running = threading.Thread(target=consumer.run)
    running.start()
    begun.wait()
    consumer.stop()
    closing = threading.Thread(target=consumer.close, args=[0.05])
    closing.start()
    eventually(lambda: client.get_queue(queue).messages.ready == 1, "it is back")
    assert closing.is_alive()
    goes_on.set()
    closing.join()
    running.join()
    assert consumer.done == 0


INTERRUPTED = """
import sys
from queuelet.client.blocking import Client, Consumer

def handle(received):
    print("begun", flush=True)
    sys.stdin.readline()
    print("ended", flush=True)

with Client(sys.argv[1]) as client:
    try:
        if sys.argv[3] == "handler":
            Consumer(client, sys.argv[2], handle).run()
        elif sys.argv[3] == "loop":
            print("begun", flush=True)
            for _ in Consumer(client, sys.argv[2]):
                print("nothing comes", flush=True)
        else:
            print("begun", flush=True)
            client.pop(sys.argv[2], wait=600)
    except KeyboardInterrupt:
        print("interrupted", client.get_queue(sys.argv[2]).name, flush=True)
        raise
"""


@pytest.mark.parametrize("where", ["handler", "loop", "call"])
def test_ctrl_c_lets_the_work_end_and_goes_through(
    server: ServerProcess, client: Client, queue: str, where: str
) -> None:
    """If the program catches it, it can still use the client."""
    command = [sys.executable, "-c", INTERRUPTED, server.address, queue, where]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout
        assert program.stdin
        try:
            if where == "handler":
                client.add(queue, b"x")
            assert program.stdout.readline() == "begun\n"
            program.send_signal(signal.SIGINT)
            if where == "handler":
                program.stdin.write("go on\n")
                program.stdin.flush()
                assert program.stdout.readline() == "ended\n"
            assert program.stdout.readline() == f"interrupted {queue}\n"
            _, reported = program.communicate(timeout=patient(30))
        finally:
            program.kill()
    assert "KeyboardInterrupt" in reported
    assert program.returncode == -signal.SIGINT
    assert client.get_queue(queue).messages.leased == 0
    assert client.stats(queue).acked == (1 if where == "handler" else 0)


INTERRUPTED_EVERYWHERE = """
import sys, warnings
from queuelet.client.blocking import Client
from queuelet.errors import QueueEmpty

warnings.simplefilter("ignore")  # of coroutines that were interrupted before they were handed over

def interrupt_at(step):
    steps = 0

    def profile(frame, event, argument):
        nonlocal steps
        steps += 1
        if steps == step:
            sys.setprofile(None)
            raise KeyboardInterrupt

    return profile

with Client(sys.argv[1]) as client:
    for step in range(1, 10_000):
        try:
            sys.setprofile(interrupt_at(step))
            try:
                client.pop(sys.argv[2], wait=0.05)
            finally:
                sys.setprofile(None)
        except KeyboardInterrupt:
            client.get_queue(sys.argv[2])
        except QueueEmpty:
            break
    print("interrupted at", step - 1, "steps", flush=True)
"""


def test_ctrl_c_at_any_step_of_a_call_leaves_the_client_usable(server: ServerProcess, queue: str) -> None:
    """The client's thread used to hang forever if Ctrl-C came just after a lock was taken."""
    command = [sys.executable, "-c", INTERRUPTED_EVERYWHERE, server.address, queue]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=patient(50), check=False)
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"interrupted at \d{2,} steps\n", ended.stdout)


def test_what_ends_the_thread_of_a_client_ends_the_calls_that_wait_for_it(server: ServerProcess, queue: str) -> None:
    """They used to wait forever, regardless of their timeout."""
    own = Client(server.address)
    own.__enter__()

    def end(_: object) -> None:
        raise SystemExit

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(own.pop, queue, wait=3_600)
        with suppress(Closed):
            own.listen(end)
        assert isinstance(waiting.exception(patient(30)), Closed)
    with pytest.raises(Closed):
        own.list_queues()
    own.thread.stop()

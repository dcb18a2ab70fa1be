"""Commands that take messages out of queues, look at them, and purge them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import monotonic

import click

from queuelet.cli.failures import INTERRUPTED, REFUSED, report
from queuelet.cli.options import ClientCommand, Options, queue_argument, selector_option
from queuelet.cli.output import state_word, stdout, to_json, write, write_line
from queuelet.cli.session import Session, connect
from queuelet.cli.show import show
from queuelet.errors import QueueEmpty
from queuelet.v1 import queue_pb2 as pb

AT_ONCE = 100
"""The most messages that `pop` takes in one call: what a failing output can cost."""

YEAR = 365 * 86_400

STATES = {
    state_word(state): state
    for state in (
        pb.MessageState.MESSAGE_STATE_READY,
        pb.MessageState.MESSAGE_STATE_DELAYED,
        pb.MessageState.MESSAGE_STATE_LEASED,
        pb.MessageState.MESSAGE_STATE_DEAD,
    )
}

raw_option = click.option("--raw", is_flag=True, help="Print the payload and nothing else.")


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet pop orders
    queuelet pop orders --count 100 --wait 20 | jq -r .message.meta.id
    queuelet pop orders --raw > payload.bin
    """,
)
@queue_argument
@click.option("-n", "--count", type=click.IntRange(min=1), help="Take up to so many messages.")
@click.option(
    "--wait", type=click.FloatRange(0, YEAR), default=0.0, metavar="SECONDS", help="Wait so long, in all, for messages."
)
@raw_option
@click.pass_obj
def pop(options: Options, queue: str, count: int | None, wait: float, *, raw: bool) -> None:
    """Take the first message out of a queue and print it.

    The message is gone from the queue then. With --count, prints each message as it comes, on a line of JSON of its own
    (or its payload and a line end, with --raw), until there are so many, or no more, or --wait is over. Exits with 1 if
    there was none. If messages cannot be written out, says how many were lost.
    """
    stdout()
    with connect(options) as server:
        if count is None:
            _pop_one(server, queue, wait, lambda answer: _write_answer(options, answer, raw=raw))
        else:
            _pop_many(server, queue, count, wait, lambda message: _write_of_many(options, message, raw=raw))


def _pop_one(server: Session, queue: str, wait: float, write_answer: Callable[[pb.PopResponse], None]) -> None:
    request = pb.PopRequest(queue_id=queue)
    if wait:
        request.wait.FromNanoseconds(int(wait * 1e9))
    answer = server.call("Pop", request, pb.PopResponse, wait=wait)
    _hand_over([answer.message], lambda _: write_answer(answer))


def _pop_many(
    server: Session, queue: str, count: int, wait: float, write_message: Callable[[pb.Message], None]
) -> None:
    taken = 0
    end = monotonic() + wait
    while taken < count:
        request = pb.PopBatchRequest(queue_id=queue, max=min(AT_ONCE, count - taken))
        left = max(0.0, end - monotonic())
        if left:
            request.wait.FromNanoseconds(int(left * 1e9))
        messages = server.call("PopBatch", request, pb.PopBatchResponse, wait=left).messages
        _hand_over(messages, write_message)
        taken += len(messages)
        if not messages:
            break
    if not taken:
        raise QueueEmpty(f"queue {queue} has no message that is ready")


def _hand_over(messages: Sequence[pb.Message], write_message: Callable[[pb.Message], None]) -> None:
    """Write messages that are in no queue any more. If that fails, say how many are lost."""
    written = 0
    try:
        for message in messages:
            write_message(message)
            written += 1
    except (OSError, KeyboardInterrupt) as error:
        lost = len(messages) - written
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else error.strerror
        report(f"cannot pop: {why}; {lost} of the messages taken from the queue could not be written, and are lost")
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else REFUSED
        raise click.exceptions.Exit(code) from error


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet peek orders
    """,
)
@queue_argument
@raw_option
@click.pass_obj
def peek(options: Options, queue: str, *, raw: bool) -> None:
    """Print the first message of a queue, and leave it there."""
    with connect(options) as server:
        answer = server.call("Peek", pb.PeekRequest(queue_id=queue), pb.PeekResponse)
    _write_answer(options, answer, raw=raw)


def _write_answer(options: Options, answer: pb.PopResponse | pb.PeekResponse, *, raw: bool) -> None:
    if raw:
        write(answer.message.payload)
    else:
        show(answer, as_json=options.json)


def _write_of_many(options: Options, message: pb.Message, *, raw: bool) -> None:
    if raw:
        write(message.payload + b"\n")
    elif options.json:
        write_line({"message": to_json(message)})
    else:
        show(pb.PopResponse(message=message), as_json=False)
        write(b"\n")


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet browse orders --max 10
    queuelet browse orders -l tier=gold | jq -r '.message.payload | @base64d'
    """,
)
@queue_argument
@selector_option
@click.option(
    "--state", "states", type=click.Choice(list(STATES)), multiple=True, help="Only these; may be given again."
)
@click.option("--max", "most", type=click.IntRange(min=1), help="Stop after so many messages.")
@click.pass_obj
def browse(options: Options, queue: str, selector: str, states: Sequence[str], most: int | None) -> None:
    """Print the messages of a queue in their order, and leave them there.

    As JSON, each message is a line of its own, as `pop --count` prints it, with the word for its state:
    {"message": {"meta": {"id": ..., "created": ..., "tags": [...]}, "payload": ...}, "state": "ready"}
    """
    request = pb.BrowseRequest(queue_id=queue, selector=selector, states=[STATES[state] for state in states])
    with connect(options) as server:
        for page in _pages(server, request, most):
            if not options.json:
                show(page, as_json=False)
                continue
            for each in page.messages:
                write_line({"message": to_json(each.message), "state": state_word(each.state)})


def _pages(server: Session, request: pb.BrowseRequest, most: int | None) -> Iterator[pb.BrowseResponse]:
    """Yield pages until the queue's end, or `most` messages; pages without a message are left out."""
    seen = 0
    while most is None or seen < most:
        request.page_size = 0 if most is None else most - seen
        page = server.call("Browse", request, pb.BrowseResponse)
        if page.messages:
            yield page
        seen += len(page.messages)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


@click.command(
    cls=ClientCommand,
    examples="""
    queuelet purge orders --all
    queuelet purge orders -l tier=test
    queuelet purge orders --id 6f9c1d8e-0b1a-4f0e-9c55-000000000001
    """,
)
@queue_argument
@click.option("--id", "ids", multiple=True, metavar="UUID", help="The message of this id; may be given again.")
@selector_option
@click.option("--all", "everything", is_flag=True, help="Every message that is there now.")
@click.pass_context
def purge(context: click.Context, queue: str, ids: Sequence[str], selector: str, *, everything: bool) -> None:
    """Remove messages from a queue for good, and print how many there were."""
    if bool(ids) + bool(selector) + everything != 1:
        raise click.UsageError("Give one of --id, --selector and --all.", context)
    options = context.ensure_object(Options)
    request = pb.PurgeRequest(queue_id=queue, ids=ids, selector=selector, all=everything)
    with connect(options) as server:
        answer = server.call("Purge", request, pb.PurgeResponse)
    show(answer, as_json=options.json)

"""Prints pages of messages; shared by `browse` and `dead list`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from queuelet.cli.options import Options, WholeNumber
from queuelet.cli.output import outcome_word, reason_word, state_word, to_json, write_line
from queuelet.cli.session import Session, connect
from queuelet.cli.show import show
from queuelet.v1 import queue_pb2 as pb

STATES = {
    state_word(state): state
    for state in (
        pb.MessageState.MESSAGE_STATE_READY,
        pb.MessageState.MESSAGE_STATE_DELAYED,
        pb.MessageState.MESSAGE_STATE_LEASED,
        pb.MessageState.MESSAGE_STATE_DEAD,
    )
}

state_option = click.option(
    "--state", "states", type=click.Choice(list(STATES)), multiple=True, help="Only messages in this state; repeatable."
)

max_option = click.option("--max", "most", type=WholeNumber(min=1), help="Stop after this many messages.")


def show_messages(options: Options, request: pb.BrowseRequest, most: int | None) -> None:
    """Print the messages that a request selects, at most `most`, as tables or as one line of JSON per message."""
    with connect(options) as server:
        for page in _pages(server, request, most):
            if not options.json:
                show(page, as_json=False)
                continue
            for each in page.messages:
                write_line(_to_line(each))


def _pages(server: Session, request: pb.BrowseRequest, most: int | None) -> Iterator[pb.BrowseResponse]:
    """Yield pages until the end of the queue, or `most` messages; empty pages are skipped."""
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


def _to_line(browsed: pb.BrowsedMessage) -> dict[str, Any]:
    """Return a message as JSON, with words for its state and reason; empty fields are left out."""
    line = to_json(browsed) | {"state": state_word(browsed.state)}
    if browsed.reason:
        line["reason"] = reason_word(browsed.reason)
    else:
        del line["reason"]
    if not browsed.consumer:
        del line["consumer"]
    for item, each in zip(line["tries"], browsed.tries, strict=True):
        item["outcome"] = outcome_word(each.outcome)
    return line

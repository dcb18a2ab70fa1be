"""The command `history`: shows how the numbers of a queue changed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from queuelet.cli.options import ClientCommand, Options, Seconds, queue_argument
from queuelet.cli.output import to_json, to_text, write
from queuelet.cli.session import connect
from queuelet.cli.sparklines import Spans, Steps, bars, first_of, spans_of
from queuelet.printable import printable
from queuelet.v1 import queue_pb2 as pb

DAY = 86_400
"""How long a server keeps the history of a queue, in seconds."""

MAX_POINTS = 10_000
"""More points than a history has, so that the server does not make its steps longer."""

MAX_BARS = 60
BESIDE_BARS = 32
"""The width of the names and the numbers beside the bars, in characters."""

_STATES = ("ready", "delayed", "leased", "dead")


@click.command(
    cls=ClientCommand,
    verb="show the history of a queue",
    examples="""
    queuelet history orders
    queuelet history orders --last 24h
    queuelet history orders -o json | jq '.points[] | [.time, .messages.dead]'
    """,
)
@queue_argument
@click.option(
    "--last",
    type=Seconds(60, DAY),
    default=3_600,
    show_default="1h",
    metavar="DURATION",
    help="How far to look back, up to 24h.",
)
@click.pass_obj
def history(options: Options, queue: str, last: float) -> None:
    """Show how the numbers of a queue changed: its messages by state, and how many were added and removed a second.

    The table has a line of bars for each number. Each line has its own scale: a full bar is the number in the column
    MOST, and the lowest bar is 0. A bar shows the highest number of its time, so that short peaks are seen; for
    messages a second it is the average. The time before the history begins is blank.

    In JSON, each point has the numbers from its time on until the next point. The first point may be older than --last,
    because it has the numbers at the beginning.

    The server keeps a history for 24 hours, in memory. A restart begins a new one.
    """
    request = pb.GetHistoryRequest(queue_id=queue, max_points=MAX_POINTS)
    with connect(options) as server:
        response = server.call("GetHistory", request, pb.GetHistoryResponse)
    times = [point.time.ToNanoseconds() / 1e9 for point in response.points]
    # The server's clock may be ahead.
    end = max(datetime.now(UTC).timestamp(), *times)
    if options.json:
        del response.points[: first_of(times, end - last)]
        write(to_text(to_json(response)))
        return
    most = max(10, min(MAX_BARS, shutil.get_terminal_size().columns - BESIDE_BARS))
    lines = chart(queue, response.points, times, spans_of(end - last, end, most))
    write("".join(f"{line}\n" for line in lines).encode(errors="replace"))


def chart(queue: str, points: Sequence[pb.HistoryPoint], times: Sequence[float], spans: Spans) -> list[str]:
    """Return the lines that show a history on a terminal."""
    numbers = {state: Steps(times, [getattr(point.messages, state) for point in points]) for state in _STATES}
    rates = {
        "added/s": Steps(times, [point.enqueued for point in points]),
        "removed/s": Steps(times, [point.removed for point in points]),
    }
    rows = [("", " " * spans.count, "LAST", "MOST")]
    rows += (_row(name, steps.peaks(spans), "{:,.0f}") for name, steps in numbers.items())
    rows += (_row(name, steps.rates(spans), "{:,.1f}") for name, steps in rates.items())
    width = max(len(text) for row in rows for text in row[2:])
    title = printable(queue).replace("\n", "\\n").replace("\t", "\\t")
    return [
        f"{title}: {_moment(spans.start)} to {_moment(spans.end)} UTC, {_length(spans.seconds)} a bar",
        *(f"{name:9}  {line}  {last:>{width}}  {most:>{width}}" for name, line, last, most in rows),
        *([f"The history begins at {_moment(times[0])} UTC."] if times and times[0] > spans.start else []),
    ]


def _row(name: str, values: Sequence[float | None], form: str) -> tuple[str, str, str, str]:
    known = [value for value in values if value is not None] or [0]
    return name, bars(values), form.format(known[-1]), form.format(max(known))


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _length(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"  # noqa: PLR2004  # two minutes

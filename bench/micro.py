"""The handlers without a socket, and their steps, against plain protobuf: microseconds of CPU per message."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from time import thread_time, time_ns
from typing import Any
from uuid import uuid4

from bench import memory, plain_protobuf
from bench.contender import size_text
from bench.handlers import Handlers, our_handlers, requests
from bench.report import Figure, Progress
from queuelet.core.budget import MemoryBudget
from queuelet.core.stored_form import NewMessage
from queuelet.ids import MessageIds, new_id_prefix
from queuelet.server.process import YOUNG_OBJECTS
from queuelet.stores.memory import MemoryMessages
from queuelet.v1 import queue_pb2 as pb

BATCHES = (1, 10, 100, 1_000)
SIZES = (128, 1_024)
QUICK = ("handler-unary-128B", "handler-batch1000-128B", "memory")
"""The cases of a quick run."""

TARGETS = {
    ("handler-unary-128B", "Add"): 5.0,
    ("handler-unary-128B", "Pop"): 1.5,
    ("handler-batch1000-128B", "AddBatch"): 3.0,
    ("handler-batch1000-128B", "PopBatch"): 0.3,
}
"""The most microseconds that a message should take."""

MESSAGES = 20_000
"""Messages per round."""

Side = Callable[[], dict[str, float]]
"""One turn of one side: the microseconds of each action."""


def cases() -> dict[str, Callable[[int, Progress], list[Figure]]]:
    """Return the cases by name; each takes the number of rounds."""
    found: dict[str, Callable[[int, Progress], list[Figure]]] = {}
    for batch in BATCHES:
        for size in SIZES:
            name = f"handler-{'unary' if batch == 1 else f'batch{batch}'}-{size_text(size)}"
            found[name] = _handler_case(name, batch, size)
    for size in SIZES:
        name = f"steps-{size_text(size)}"
        found[name] = _steps_case(name, size)
    found["memory"] = _memory_case
    return found


def _handler_case(name: str, batch: int, size: int) -> Callable[[int, Progress], list[Figure]]:
    def run(rounds: int, progress: Progress) -> list[Figure]:
        ours, queue = our_handlers()
        plain = plain_protobuf.handlers()
        calls = requests(queue, batch, size)

        def side(handlers: Handlers) -> dict[str, float]:
            return {what: _per_call(handlers[what], call, MESSAGES // batch) / batch for what, call in calls.items()}

        return _alternate(name, rounds, progress, ours=lambda: side(ours), plain=lambda: side(plain))

    return run


def _steps_case(name: str, size: int) -> Callable[[int, Progress], list[Figure]]:
    payload = b"x" * size
    new = pb.NewMessage(payload=payload)
    request = pb.AddRequest(queue_id=str(uuid4()), message=new).SerializeToString()
    parse = pb.AddRequest.FromString
    parsed = parse(request).message
    draft = NewMessage(payload)

    def ours() -> dict[str, float]:
        ids, messages = MessageIds(new_id_prefix()), MemoryMessages(MemoryBudget(1 << 50))
        body = draft.stored(ids.made(1), time_ns())
        now = time_ns()
        seqs = iter(range(1, MESSAGES + 1))
        return {
            "parse AddRequest": _per_call(lambda _: parse(request)),
            "make stored form": _per_call(lambda _: draft.stored(ids.made(1), time_ns())),
            "same, time shared": _per_call(lambda _: draft.stored(ids.made(1), now)),
            "append": _per_call(lambda _: messages.append(next(seqs), body)),
            "take and respond": _per_call(lambda _: messages.take()),
        }

    def plain() -> dict[str, float]:
        queue: deque[pb.Message] = deque()
        message = plain_protobuf.new_message(parsed)

        def append(_: bytes) -> None:
            if len(queue) >= plain_protobuf.LIMIT:
                raise AssertionError
            queue.append(message)

        return {
            "parse AddRequest": _per_call(lambda _: parse(request)),
            "make stored form": _per_call(lambda _: plain_protobuf.new_message(parsed)),
            "same, time shared": _per_call(lambda _: plain_protobuf.new_message(parsed)),
            "append": _per_call(append),
            "take and respond": _per_call(lambda _: pb.PopResponse(message=queue.popleft()).SerializeToString()),
        }

    return lambda rounds, progress: _alternate(name, rounds, progress, ours=ours, plain=plain)


def _memory_case(rounds: int, progress: Progress) -> list[Figure]:
    """Measure once, because memory does not vary between runs."""
    progress.begin("memory")
    messages = memory.MESSAGES if rounds > 2 else memory.MESSAGES // 5
    ours = memory.overhead("ours", messages)
    plain = memory.overhead("plain", messages)
    return _both("memory", "beyond the payload", [ours], [plain], "bytes/message", 300)


def _both(  # noqa: PLR0913, PLR0917  # each argument is a field of the figures
    case: str, what: str, ours: Sequence[float], plain: Sequence[float], unit: str, target: float | None
) -> list[Figure]:
    return [
        Figure(case=case, what=what, values=ours, unit=unit, target=target),
        Figure(case=case, what=what, values=plain, unit=unit, who="plain"),
    ]


def _alternate(name: str, rounds: int, progress: Progress, *, ours: Side, plain: Side) -> list[Figure]:
    """Run both sides in turns, after one turn that is not counted."""
    progress.begin(name)
    ours()
    plain()
    turns: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(1, rounds + 1):
        progress.step(f"round {number} of {rounds}")
        with _collector_as_in_server():
            turns.append((ours(), plain()))
    return [
        figure
        for what in turns[0][0]
        for figure in _both(
            name,
            what,
            [turn[0][what] for turn in turns],
            [turn[1][what] for turn in turns],
            "us/message",
            TARGETS.get((name, what)),
        )
    ]


def _per_call(handler: Callable[[bytes], Any], request: bytes = b"", calls: int = MESSAGES) -> float:
    """Return the CPU time of a call in microseconds instead of its duration, so that other load does not count."""
    start = thread_time()
    for same in repeat(request, calls):
        handler(same)
    return (thread_time() - start) / calls * 1e6


@contextmanager
def _collector_as_in_server() -> Iterator[None]:
    """Run the garbage collector as often as our server does, for both sides."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def run(names: Sequence[str], *, rounds: int, progress: Progress) -> list[Figure]:
    """Run the cases of these names."""
    chosen = cases()
    return [figure for name in names for figure in chosen[name](rounds, progress)]

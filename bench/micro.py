"""The handlers without a socket, and their steps, against plain protobuf: CPU and memory per message."""

from __future__ import annotations

import gc
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from time import thread_time, time_ns
from typing import Any

from bench import plain_protobuf
from bench.contender import calls_text
from bench.handlers import Handlers, our_handlers
from bench.report import OURS, Figures, say
from bench.requests import requests
from queuelet.core.budget import MemoryBudget
from queuelet.core.stored_form import NewMessage
from queuelet.ids import MessageIds, new_id_prefix
from queuelet.server.memory import resident_bytes
from queuelet.server.process import YOUNG_OBJECTS
from queuelet.stores.memory import MemoryMessages
from queuelet.v1 import queue_pb2 as pb

_HANDLERS = {
    f"handler-{calls_text(batch, size)}": (batch, size) for batch in (1, 10, 100, 1_000) for size in (128, 1_024)
}
_STEPS = {"steps-128B": 128, "steps-1KB": 1_024}

CASES = (*_HANDLERS, *_STEPS, "memory")
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

STORED = 1_000_000
"""Messages in memory."""

Side = Callable[[], dict[str, float]]
"""One turn of one side: the microseconds of each action."""


def run(cases: Sequence[str], *, rounds: int, quick: bool) -> Figures:
    """Run the cases."""
    figures = Figures()
    for case in cases:
        say(case)
        if case in _HANDLERS:
            _alternate(case, _handlers(*_HANDLERS[case]), rounds, figures)
        elif case in _STEPS:
            _alternate(case, _steps(b"x" * _STEPS[case]), rounds, figures)
        else:
            # Once, because memory does not vary between runs.
            for who, target in ((OURS, 300.0), ("plain", None)):
                value = _memory_overhead(who, STORED // 5 if quick else STORED)
                figures.note(case, "beyond the payload", value, "bytes/message", who, target=target)
    return figures


def _handlers(batch: int, size: int) -> dict[str, Side]:
    ours, queue = our_handlers()
    calls = requests(queue, [b"x" * size] * batch)

    def side(handlers: Handlers) -> Side:
        return lambda: {
            what: _per_call(handlers[what], call, MESSAGES // batch) / batch for what, call in calls.items()
        }

    return {OURS: side(ours), "plain": side(plain_protobuf.handlers())}


def _steps(payload: bytes) -> dict[str, Side]:
    new = pb.NewMessage(payload=payload)
    draft = NewMessage(payload)

    def ours() -> dict[str, float]:
        ids, messages = MessageIds(new_id_prefix()), MemoryMessages(MemoryBudget(1 << 50))
        now = time_ns()
        body = draft.stored(ids.made(1), now)
        for number in range(1, MESSAGES + 1):
            messages.append(number, body)
        return {
            "make stored form": _per_call(lambda _: draft.stored(ids.made(1), time_ns())),
            "same, time shared": _per_call(lambda _: draft.stored(ids.made(1), now)),
            "take and respond": _per_call(lambda _: messages.take()),
        }

    def plain() -> dict[str, float]:
        queue = deque(repeat(plain_protobuf.new_message(new), MESSAGES))
        return {
            "make stored form": _per_call(lambda _: plain_protobuf.new_message(new)),
            "take and respond": _per_call(lambda _: pb.PopResponse(message=queue.popleft()).SerializeToString()),
        }

    return {OURS: ours, "plain": plain}


def _alternate(case: str, sides: dict[str, Side], rounds: int, figures: Figures) -> None:
    """Run both sides in turns, after one turn that is not counted."""
    for number in range(rounds + 1):
        with _collector_as_in_server():
            turn = {who: side() for who, side in sides.items()}
        if number:
            for what in turn[OURS]:
                for who, values in turn.items():
                    if what in values:
                        target = TARGETS.get((case, what)) if who == OURS else None
                        figures.note(case, what, values[what], "us/message", who, target=target)


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


def _memory_overhead(who: str, messages: int) -> float:
    """Return the bytes per message of 128 bytes beyond its payload, in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_filled_bytes, who, messages).result() / messages - 128


def _filled_bytes(who: str, messages: int) -> int:
    """Fill a queue in this process; return by how much its resident memory grows."""
    handlers, queue = our_handlers() if who == OURS else (plain_protobuf.handlers(), "bench")
    calls = requests(queue, [b"x" * 128] * 1_000)
    handlers["AddBatch"](calls["AddBatch"])
    handlers["PopBatch"](calls["PopBatch"])
    gc.collect()
    before = resident_bytes()
    for _ in range(messages // 1_000):
        handlers["AddBatch"](calls["AddBatch"])
    return resident_bytes() - before

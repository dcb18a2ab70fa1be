"""Memory of a stored message beyond its payload, by the resident memory of a process that holds many."""

from __future__ import annotations

import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from bench import plain_protobuf
from bench.handlers import our_handlers
from bench.report import OURS
from bench.requests import requests
from queuelet.server.memory import resident_bytes

SIZE = 128
_BATCH = 1_000


def overhead(who: str, messages: int) -> float:
    """Return the bytes per message beyond its payload, ours or the plain implementation's, in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, who, messages).result()


def _measure(who: str, messages: int) -> float:
    """Fill a queue in this process."""
    handlers, queue = our_handlers() if who == OURS else (plain_protobuf.handlers(), "bench")
    calls = requests(queue, [b"x" * SIZE] * _BATCH)
    handlers["AddBatch"](calls["AddBatch"])
    handlers["PopBatch"](calls["PopBatch"])
    gc.collect()
    before = resident_bytes()
    for _ in range(messages // _BATCH):
        handlers["AddBatch"](calls["AddBatch"])
    return (resident_bytes() - before) / messages - SIZE

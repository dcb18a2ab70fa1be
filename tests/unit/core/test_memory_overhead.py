"""The memory budget counts about the memory that messages really take."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from queuelet.server.memory import resident_bytes
from queuelet.core.stored_form import NewMessage
from queuelet.core.message import Terms
from support.queues import budget_of, make_queue

SECOND = 1_000_000_000
TERMS = {
    "priority": Terms(priority=5),
    "ttl": Terms(ttl=10_000 * SECOND),
    "delay": Terms(delay=1_000 * SECOND),
    "delay and ttl": Terms(delay=1_000 * SECOND, ttl=10_000 * SECOND),
}
kind, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
queue = make_queue()
now = 1_795_000_000 * SECOND
idle = budget_of(queue).used
before = resident_bytes()
for _ in range(count):
    now += 1_000
    queue.add(NewMessage(bytes(size), b"", b"", TERMS.get(kind)), now)
while kind == "leased" and queue.ready:
    queue.receive(10, 1 << 20, now)
taken = resident_bytes() - before
print(taken / count, (budget_of(queue).used - idle) / count)
"""

COUNTS = [1_000_000, 700_000] if os.environ.get("QUEUELET_SOAK") == "1" else [180_000]


def measured(kind: str, count: int, size: int) -> tuple[float, float]:
    """Return the memory that a message takes and the memory that is counted for it, in bytes."""
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(count), str(size)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    taken, accounted = map(float, out.stdout.split())
    return taken, accounted


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("size", [0, 128, 1_024])
def test_the_counted_memory_is_the_memory_taken(count: int, size: int) -> None:
    """It may be up to a quarter too much, because the index of messages is largest just after it grew."""
    taken, accounted = measured("plain", count, size)
    assert taken * 0.95 <= accounted <= taken * 1.25
    assert taken - size < 300


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["leased", "priority", "ttl", "delay", "delay and ttl"])
def test_the_memory_of_ranks_and_deliveries_is_counted_too(kind: str, count: int) -> None:
    """The tolerance is larger, because the same figure is used for every rank, whatever its terms."""
    taken, accounted = measured(kind, count, 128)
    assert taken * 0.85 <= accounted <= taken * 1.3

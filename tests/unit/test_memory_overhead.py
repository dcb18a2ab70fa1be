"""What the server accounts for a message is what a message takes."""

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
from support.queues import make_queue

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
idle = queue._budget.used
before = resident_bytes()
for _ in range(count):
    now += 1_000
    queue.add(NewMessage(bytes(size), b"", b"", TERMS.get(kind)), now)
while kind == "leased" and queue.ready:
    queue.receive(10, 1 << 20, now)
taken = resident_bytes() - before
print(taken / count, (queue._budget.used - idle) / count)
"""

COUNTS = [1_000_000, 700_000] if os.environ.get("QUEUELET_SOAK") == "1" else [180_000]


def measured(kind: str, count: int, size: int) -> tuple[float, float]:
    """Return what a message takes of memory, and what is accounted for it, in bytes."""
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
def test_accounted_memory_is_what_is_taken(count: int, size: int) -> None:
    """Up to a quarter more is accounted than taken: the index of messages is largest just after it grew."""
    taken, accounted = measured("plain", count, size)
    assert taken * 0.95 <= accounted <= taken * 1.25
    assert taken - size < 300


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["leased", "priority", "ttl", "delay", "delay and ttl"])
def test_what_is_known_beside_a_message_is_accounted_too(kind: str, count: int) -> None:
    """One figure stands for every rank, so it is further off; a message with all terms takes most."""
    taken, accounted = measured(kind, count, 128)
    assert taken * 0.85 <= accounted <= taken * 1.3

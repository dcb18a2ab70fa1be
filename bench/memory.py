"""Memory of a stored message beyond its payload, by the resident memory of a process that holds many."""

from __future__ import annotations

import gc
import subprocess
import sys

from bench import plain_protobuf
from bench.errors import Failed
from bench.handlers import our_handlers, requests
from queuelet.server.memory import resident_bytes

MESSAGES = 1_000_000
SIZE = 128
_BATCH = 1_000


def overhead(side: str, messages: int) -> float:
    """Return the bytes per message beyond its payload for one side, `ours` or `plain`, in a process of its own."""
    command = [sys.executable, "-m", "bench.memory", side, str(messages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1])
    return float(done.stdout)


def _measure(side: str, messages: int) -> float:
    """Fill a queue in this process."""
    if side == "ours":
        handlers, queue = our_handlers()
    else:
        handlers, queue = plain_protobuf.handlers(), "bench"
    calls = requests(queue, _BATCH, SIZE)
    handlers["AddBatch"](calls["AddBatch"])
    handlers["PopBatch"](calls["PopBatch"])
    gc.collect()
    before = resident_bytes()
    for _ in range(messages // _BATCH):
        handlers["AddBatch"](calls["AddBatch"])
    return (resident_bytes() - before) / messages - SIZE


if __name__ == "__main__":
    print(_measure(sys.argv[1], int(sys.argv[2])))

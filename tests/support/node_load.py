"""Adds messages to a queue until its standard input ends, and retries after every interruption.

    python node_load.py ADDRESS QUEUE

It runs in a Pod, with the client of our image. A refused message is retried under the same ID. At the end it prints the
outcomes of its calls, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from time import monotonic
from uuid import uuid4

from queuelet.client import Client, Connection
from queuelet.errors import DeadlineExceeded, QueueletError, QueueNotFound, ServerDraining, Unreachable

PAUSE = 0.02
"""Seconds between two messages."""

TRY_AGAIN = 0.1
"""Seconds between two attempts."""

TRANSIENT = (ServerDraining, Unreachable, DeadlineExceeded, QueueNotFound)
"""Codes that a restarting server returns. The last one holds until the operator has created the queue again."""


async def main(address: str, queue: str) -> None:
    """Add until stopped. Any refusal that a restart does not explain ends it."""
    stopped = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    refusals: Counter[str] = Counter()
    acknowledged, longest_gap, last = 0, 0.0, monotonic()
    async with Client(Connection(server=address, timeout=5.0, retry_for=0)) as client:
        while not stopped.done():
            identity = str(uuid4())
            while not await _is_added(client, queue, identity, refusals):  # noqa: ASYNC110  # no event to wait for
                await asyncio.sleep(TRY_AGAIN)
            acknowledged += 1
            longest_gap, last = max(longest_gap, monotonic() - last), monotonic()
            await asyncio.sleep(PAUSE)
    report = {"acknowledged": acknowledged, "refusals": refusals, "longest_gap": longest_gap}
    sys.stdout.write(json.dumps(report) + "\n")


async def _is_added(client: Client, queue: str, identity: str, refusals: Counter[str]) -> bool:
    try:
        await client.add(queue, b"load", message_id=identity)
    except TRANSIENT as error:
        refusals[error.reason] += 1
        return False
    except QueueletError as error:
        sys.exit(f"{error.reason}: {error}")
    return True


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""The memory budget: how much memory messages may take before Add is refused."""

from __future__ import annotations

from queuelet.errors import MemoryExhausted

MESSAGE_OVERHEAD = 160
"""What a message in memory takes beyond its encoded bytes, in bytes: its objects and its places in index and line.

Measured at 1,000,000 messages; tests/unit/test_memory_overhead.py holds it true.
"""


class MemoryBudget:
    """Counts the bytes that the server answers for, and knows when they are too many.

    It counts what is stored and what waits, not the process's resident memory, which does not shrink when objects are
    freed: a server that refused by that would go on refusing after its queues were emptied.
    """

    __slots__ = ("incoming", "used", "watermark")

    def __init__(self, watermark: int, used: int = 0) -> None:
        """Take the bound, and what is used already, both in bytes."""
        self.watermark = watermark
        self.used = used
        self.incoming = 0
        """About how many bytes of requests have been received that are not complete yet."""

    def check(self, cost: int) -> None:
        """Raise `MemoryExhausted` if `cost` more bytes would pass the watermark."""
        used = self.used + self.incoming
        if used + cost > self.watermark:
            raise MemoryExhausted(
                f"the server has used {used:,} of the {self.watermark:,} bytes it may use for messages: "
                "take messages out, or raise --memory-watermark",
                used=used,
                watermark=self.watermark,
            )

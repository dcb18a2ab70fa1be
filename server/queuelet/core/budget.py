"""The memory budget: how much memory messages may use before Add is refused."""

from __future__ import annotations

from queuelet.errors import MemoryExhausted

MESSAGE_OVERHEAD = 160
"""The memory that a message takes in addition to its encoded bytes, in bytes: its objects, and its entries in the index
and the line.

Measured with 1,000,000 messages; test_memory_overhead.py checks it.
"""

OWN_ID_OVERHEAD = 160
"""Memory that an ID given by a producer takes in addition, in bytes: it is indexed in both directions."""

RESPONSE_OVERHEAD = 160
"""Memory that a stored response takes in addition to its bytes, in bytes."""


class MemoryBudget:
    """Counts the memory in use, and refuses more than the watermark.

    It counts the memory of the process at its start, plus the messages that are stored or waiting and the queues. It
    does not follow the process's resident memory, because that does not shrink when objects are freed: the server would
    refuse messages even after its queues were emptied.
    """

    __slots__ = ("incoming", "used", "watermark")

    def __init__(self, watermark: int, used: int = 0) -> None:
        """Start with `used` of at most `watermark` bytes."""
        self.watermark = watermark
        self.used = used
        self.incoming = 0
        """The approximate number of bytes received in incomplete requests."""

    def check(self, cost: int) -> None:
        """Raise `MemoryExhausted` if `cost` more bytes would exceed the watermark."""
        used = self.used + self.incoming
        if used + cost > self.watermark:
            raise MemoryExhausted(
                f"memory: {used:,} of the {self.watermark:,} bytes are used; "
                "remove messages or queues, or raise --memory-watermark",
                used=used,
                watermark=self.watermark,
            )

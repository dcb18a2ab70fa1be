"""When a stream sends a heartbeat, and when the other side has been silent for too long.

All times are arguments, in seconds by a clock that never goes back.
"""

from __future__ import annotations

MISSED = 3
"""After how many missed heartbeats the other side counts as gone."""


class Heartbeat:
    """The heartbeat of one stream. Call `pause`, wait for as long as it returns, then call the other two."""

    def __init__(self, seconds: float, now: float) -> None:
        """Begin.

        Args:
            seconds: how long either side may be silent.
            now: the time.
        """
        self._seconds = seconds
        self._due = now
        self._alive_after = now
        """Since when this process has not been paused itself."""

    def pause(self, sent_at: float, now: float) -> float:
        """Return how long to wait until a heartbeat is due if nothing else is sent.

        Args:
            sent_at: when something was last sent.
            now: the time.
        """
        self._due = min(sent_at, now) + self._seconds
        return max(0.0, self._due - now)

    def is_missed(self, read_since: float | None, now: float) -> bool:
        """Return whether the other side counts as gone.

        Args:
            read_since: since when a read has been waiting; None if none is, so that responses may lie unread.
            now: the time.
        """
        if now > self._due + self._seconds / 2:
            self._alive_after = now  # this process was paused itself, so responses may wait to be read
        return read_since is not None and now >= max(read_since, self._alive_after) + MISSED * self._seconds

    def is_due(self, sent_at: float, now: float) -> bool:
        """Return whether nothing has been sent for so long that a heartbeat is due."""
        return now >= sent_at + self._seconds

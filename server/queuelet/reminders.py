"""When to log a problem that stays: as it begins or changes, and each minute meanwhile."""

from __future__ import annotations

REMIND_EVERY = 60.0
"""Seconds between two log lines about the same problem."""


class Reminder:
    """A problem that lasts for a while."""

    def __init__(self) -> None:
        self.problem = ""
        """What is wrong; empty while all is well."""
        self._logged_at = 0.0

    def is_due(self, problem: str, now: float) -> bool:
        """Keep what is wrong now, empty for nothing, and return whether to log that.

        Args:
            now: seconds of a clock that does not step.
        """
        is_new = problem != self.problem
        is_due = is_new or (bool(problem) and now - self._logged_at >= REMIND_EVERY)
        self.problem = problem
        if is_due:
            self._logged_at = now
        return is_due

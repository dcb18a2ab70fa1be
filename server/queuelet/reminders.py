"""Decides when to log a lasting problem: when it begins or changes, and once a minute while it lasts."""

from __future__ import annotations

REMIND_EVERY = 60.0
"""The interval between log lines about the same problem, in seconds."""


class Reminder:
    """Limits how often one problem is logged."""

    def __init__(self) -> None:
        self.problem = ""
        """The current problem, as a sentence; empty if there is none."""
        self._logged_at = 0.0

    def is_due(self, problem: str, now: float) -> bool:
        """Store the current problem and return whether to log it now.

        Args:
            problem: the problem, as a sentence; empty if there is none (any more).
            now: the time of a clock that never jumps, in seconds.
        """
        is_new = problem != self.problem
        is_due = is_new or (bool(problem) and now - self._logged_at >= REMIND_EVERY)
        self.problem = problem
        if is_due:
            self._logged_at = now
        return is_due

from __future__ import annotations

import pytest

from queuelet.certificates import DAY, Validity
from queuelet.reminders import REMIND_EVERY, Reminder

YEAR = Validity(file="tls.crt", not_before=0, not_after=365 * DAY)


@pytest.mark.parametrize(
    ("days_left", "threshold"),
    [(31, None), (30, 30), (8, 30), (7, 7), (1.5, 7), (1, 1), (0.1, 1), (0, 0), (-5, 0)],
)
def test_a_threshold_is_passed_30_7_and_1_days_before_the_end(days_left: float, threshold: int | None) -> None:
    now = YEAR.not_after - days_left * DAY
    assert YEAR.threshold(now) == threshold
    assert bool(YEAR.problem(now)) == (threshold is not None)


def test_a_problem_is_logged_at_once_and_then_each_minute() -> None:
    reminder = Reminder()
    assert not reminder.is_due("", 0)
    assert reminder.is_due("empty", 1)
    assert [reminder.is_due("empty", 1 + REMIND_EVERY * part / 4) for part in range(1, 9)].count(True) == 2
    assert reminder.is_due("gone", 122), "another problem"
    assert reminder.is_due("", 123), "its end"
    assert not reminder.is_due("", 1_000)

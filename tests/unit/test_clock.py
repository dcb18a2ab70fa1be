"""The clock of the server: it never jumps, and continues after a restart if possible."""

from __future__ import annotations

import pytest

from queuelet import clock
from queuelet.clock import Clock, Mark, continued

SECOND = 1_000_000_000


def test_it_advances_evenly_when_the_wall_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"steady": 5 * SECOND, "wall": 1_000 * SECOND}
    monkeypatch.setattr(clock, "clock_gettime_ns", lambda _: now["steady"])
    monkeypatch.setattr(clock, "time_ns", lambda: now["wall"])
    clocked = Clock()
    assert (clocked.now_ns(), clocked.behind_ns()) == (1_000 * SECOND, 0)
    now["steady"] += 2 * SECOND
    now["wall"] += 3_602 * SECOND + 1_234
    assert clocked.now_ns() == 1_002 * SECOND
    assert clocked.behind_ns() == 3_600 * SECOND
    assert clocked.shown(1_010 * SECOND) == 4_610 * SECOND


def test_differences_below_a_second_are_not_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clock()
    monkeypatch.setattr(clock, "time_ns", lambda: clocked.now_ns() - SECOND // 2)
    assert clocked.behind_ns() == 0


@pytest.mark.parametrize("wall", [10, 500, 100_000])
def test_in_the_same_boot_the_clock_continues_even_if_the_wall_clock_was_set(wall: int) -> None:
    kept = Mark("a", 700)
    assert continued(kept, 800, boot="a", steady=150, wall=wall) == kept


@pytest.mark.parametrize(
    ("kept", "boot"),
    [(None, "a"), (Mark("a", 700), "b"), (Mark("a", 700), ""), (Mark("", 700), "")],
    ids=["first", "another boot", "boot unknown", "never known"],
)
def test_otherwise_it_starts_at_the_wall_clock_but_not_before_what_is_stored(kept: Mark | None, boot: str) -> None:
    assert continued(kept, 800, boot=boot, steady=150, wall=900) == Mark(boot, 750)
    assert continued(kept, 800, boot=boot, steady=150, wall=600) == Mark(boot, 650)


def test_a_steady_clock_that_went_back_is_not_trusted() -> None:
    """A container may get another clock within the same boot."""
    assert continued(Mark("a", 700), 800, boot="a", steady=50, wall=900) == Mark("a", 850)

"""Runs the contenders in turns; every other round goes in the opposite order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Self

from bench.contender import BOUNDS, STORES, Bounds, Contender
from bench.contenders import contender
from bench.cycle.pair import FULL_SPEED, Pace, Pair, Trip
from bench.errors import Failed, NotHere
from bench.report import OURS, Progress

_FIRST = 200
"""Messages of the first trip, which gives a first estimate of a system's speed."""

_MOST = 500_000
"""Messages of a trip at most, because all of them may be in the queue at once."""

_WARM_SHARE = 0.3
"""The shortest last trip of a warm-up, as a share of a round's time."""

_FEWEST = 100
"""Messages at a fixed rate at least, because fewer have no p99."""

_LONGER = 4
"""Except for that, a round takes at most this many times its intended time."""

CASES = {f"{store}-{bounds.name}": (store, bounds) for bounds in BOUNDS for store in STORES}
"""The cases by name."""

QUICK = tuple(name for name, (_, bounds) in CASES.items() if bounds.is_ours)
"""The cases of a quick run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Settings of a run."""

    seconds: float
    """Seconds of a round at full speed, and at a rate."""
    rounds: int
    rivals: Sequence[str]


@dataclass(kw_only=True, slots=True)
class Measured:
    """Results of one system in one case, round by round."""

    case: str
    name: str
    versions: str = ""
    put: int = 0
    """Total number of messages, including warm-up."""
    handled: int = 0
    left: int | None = None
    """Messages still in the queue at the end: not acknowledged, as far as the server knows."""
    full: list[Trip] = field(default_factory=list)
    """At full speed."""
    paced: list[Trip] = field(default_factory=list)
    """At a tenth of this system's own full speed."""
    level: list[Trip] = field(default_factory=list)
    """At a tenth of the slowest system's full speed."""
    unawaited: list[Trip] = field(default_factory=list)
    """Like `paced`, but with puts that are not awaited. Only for our client, which holds these briefly."""

    @property
    def rates(self) -> list[float]:
        """Messages a second at full speed."""
        return [trip.rate for trip in self.full]


def run(cases: Sequence[str], plan: Plan, progress: Progress) -> list[Measured]:
    """Measure the cases."""
    measured: list[Measured] = []
    for name in cases:
        store, bounds = CASES[name]
        with _Race(name, store, plan, progress) as race:
            measured += race.run(bounds)
    return measured


class _Entrant:
    """A running contender."""

    def __init__(self, pair: Pair, measured: Measured, opened: ExitStack) -> None:
        self.measured = measured
        self._pair = pair
        self._rate = 0.0
        self.leave = opened.close
        """Stop its server and its processes."""

    def warm_up(self, seconds: float) -> None:
        """Run longer and longer trips until the speed is known."""
        count = _FIRST
        trip = self.trip(count)
        while trip.seconds < seconds * _WARM_SHARE and count < _MOST:
            count = min(_MOST, 2 * count)
            trip = self.trip(count)
        self._rate = trip.rate

    def go(self, seconds: float) -> None:
        """Run a round at full speed."""
        trip = self.trip(max(_FIRST, min(_MOST, int(self._rate * seconds))))
        self.measured.full.append(trip)

    def walk(self, rate: float, seconds: float, *, is_awaited: bool = True) -> Trip:
        """Run a round at a rate."""
        count = max(int(rate * seconds), min(_FEWEST, int(rate * seconds * _LONGER)), 1)
        return self.trip(count, Pace(rate, is_awaited))

    def trip(self, count: int, pace: Pace = FULL_SPEED) -> Trip:
        """Pass messages from producer to consumer."""
        trip = self._pair.trip(count, pace)
        self.measured.put += trip.put
        self.measured.handled += trip.handled
        return trip

    def finish(self) -> None:
        """Check whether everything was acknowledged."""
        self.measured.left = left = self._pair.close()
        if left:
            raise Failed(f"{left:,} messages are still in the queue")


class _Race:
    """One case: all its contenders, each with its server and its processes."""

    def __init__(self, case: str, store: str, plan: Plan, progress: Progress) -> None:
        self._case = case
        self._store = store
        self._plan = plan
        self._progress = progress
        self._entrants: list[_Entrant] = []

    def __enter__(self) -> Self:
        """Start all servers."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all servers."""
        while self._entrants:
            self._entrants.pop().leave()

    def run(self, bounds: Bounds) -> list[Measured]:
        """Measure the case."""
        self._progress.begin(f"cycle {self._case}")
        for name in (OURS, *self._plan.rivals):
            self._enter(name, bounds)
        seconds = self._plan.seconds
        self._each("warm-up", lambda entrant: entrant.warm_up(seconds))
        self._rounds("full speed", lambda entrant: entrant.go(seconds))
        self._rounds("at a tenth of it", lambda entrant: _walk(entrant, seconds))
        if bounds.is_ours and self._entrants:
            slowest = min(median(entrant.measured.rates) for entrant in self._entrants) / 10
            self._rounds(
                f"all at {slowest:,.0f} a second",
                lambda entrant: entrant.measured.level.append(entrant.walk(slowest, seconds)),
            )
        self._each("end", _Entrant.finish)
        return [entrant.measured for entrant in self._entrants]

    def _enter(self, name: str, bounds: Bounds) -> None:
        self._progress.step(f"starting {name}")
        with ExitStack() as opening:
            try:
                target: Contender = contender(name, self._store)
                folder = Path(opening.enter_context(TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
                server = opening.enter_context(target.start(folder))
                pair = opening.enter_context(Pair(target, server))
                pair.open(bounds)
                measured = Measured(case=self._case, name=name, versions=target.versions)
            except (NotHere, Failed) as failure:
                if name == OURS:
                    raise
                self._progress.say(f"{self._case}: {name} is skipped: {failure}")
            else:
                self._entrants.append(_Entrant(pair, measured, opening.pop_all()))

    def _rounds(self, what: str, do: Callable[[_Entrant], None]) -> None:
        for number in range(self._plan.rounds):
            self._each(f"{what}, round {number + 1}", do, backwards=bool(number % 2))

    def _each(self, what: str, do: Callable[[_Entrant], None], *, backwards: bool = False) -> None:
        """Run an action for each contender; one that fails is removed from the race."""
        for entrant in self._entrants[:: -1 if backwards else 1]:
            name = entrant.measured.name
            self._progress.step(f"{name}: {what}")
            try:
                do(entrant)
            except Failed as failure:
                self._progress.say(f"{self._case}: {name} is skipped because it failed ({what}): {failure}")
                self._entrants.remove(entrant)
                entrant.leave()


def _walk(entrant: _Entrant, seconds: float) -> None:
    measured = entrant.measured
    rate = median(measured.rates) / 10
    measured.paced.append(entrant.walk(rate, seconds))
    if measured.name == OURS:
        measured.unawaited.append(entrant.walk(rate, seconds, is_awaited=False))

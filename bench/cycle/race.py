"""The contenders side by side: in each round one after the other, and every other round the other way round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Self

from bench.cycle.contender import BOUNDS, STORES, Bounds, Contender
from bench.cycle.pair import FULL_SPEED, Pace, Pair, Trip
from bench.cycle.systems import contender
from bench.report import Progress
from bench.system import Failed, NotHere
from bench.systems import OURS

_FIRST = 200
"""Messages of the first trip, which begins to tell how fast a system is."""

_MOST = 500_000
"""Messages of a trip at most, since they may all stand in the queue."""

_WARM_SHARE = 0.3
"""Of a round's time, how long the last trip of a warm-up takes at least."""

_FEWEST = 100
"""Messages at a rate at least: fewer have no p99."""

_LONGER = 4
"""But for that a round takes no longer than so many times what it should."""

CASES = {f"{store}-{bounds.name}": (store, bounds) for bounds in BOUNDS for store in STORES}
"""The cases by name."""

QUICK = tuple(name for name, (_, bounds) in CASES.items() if bounds.is_ours)
"""Those that a quick run has time for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How it is measured."""

    seconds: float
    """How long a round goes at full speed, and how long at a rate."""
    rounds: int
    rivals: Sequence[str]


@dataclass(kw_only=True, slots=True)
class Measured:
    """What one system did in one case, round by round."""

    case: str
    name: str
    versions: str = ""
    put: int = 0
    """Messages altogether, warm-up included."""
    handled: int = 0
    left: int | None = None
    """Messages still in the queue at the end: not acknowledged, for all the server knows."""
    full: list[Trip] = field(default_factory=list)
    """At full speed."""
    paced: list[Trip] = field(default_factory=list)
    """At a tenth of this system's own full speed."""
    level: list[Trip] = field(default_factory=list)
    """At a tenth of the slowest system's."""
    unawaited: list[Trip] = field(default_factory=list)
    """As `paced`, but of puts that nobody waits for; only of our client, which keeps these for a moment."""

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
    """A contender that runs."""

    def __init__(self, pair: Pair, measured: Measured, opened: ExitStack) -> None:
        self.measured = measured
        self._pair = pair
        self._rate = 0.0
        self.leave = opened.close
        """Stop its server and its processes."""

    def warm_up(self, seconds: float) -> None:
        """Go until it is known how fast that is."""
        count = _FIRST
        trip = self.trip(count)
        while trip.seconds < seconds * _WARM_SHARE and count < _MOST:
            count = min(_MOST, 2 * count)
            trip = self.trip(count)
        self._rate = trip.rate

    def go(self, seconds: float) -> None:
        """Make a round at full speed."""
        trip = self.trip(max(_FIRST, min(_MOST, int(self._rate * seconds))))
        self.measured.full.append(trip)

    def walk(self, rate: float, seconds: float, *, is_awaited: bool = True) -> Trip:
        """Make a round at a rate."""
        count = max(int(rate * seconds), min(_FEWEST, int(rate * seconds * _LONGER)), 1)
        return self.trip(count, Pace(rate, is_awaited))

    def trip(self, count: int, pace: Pace = FULL_SPEED) -> Trip:
        """Have messages go all the way."""
        trip = self._pair.trip(count, pace)
        self.measured.put += trip.put
        self.measured.handled += trip.handled
        return trip

    def finish(self) -> None:
        """Look whether everything was acknowledged."""
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
        """Begin."""
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
                pair = opening.enter_context(Pair(target, server.address, server.pid))
                pair.open(bounds)
                measured = Measured(case=self._case, name=name, versions=target.versions)
            except (NotHere, Failed) as failure:
                if name == OURS:
                    raise
                self._progress.say(f"{self._case}: {name} is left out: {failure}")
            else:
                self._entrants.append(_Entrant(pair, measured, opening.pop_all()))

    def _rounds(self, what: str, do: Callable[[_Entrant], None]) -> None:
        for number in range(self._plan.rounds):
            self._each(f"{what}, round {number + 1}", do, backwards=bool(number % 2))

    def _each(self, what: str, do: Callable[[_Entrant], None], *, backwards: bool = False) -> None:
        """Have every entrant do something; who fails is out of the race."""
        for entrant in self._entrants[:: -1 if backwards else 1]:
            name = entrant.measured.name
            self._progress.step(f"{name}: {what}")
            try:
                do(entrant)
            except Failed as failure:
                self._progress.say(f"{self._case}: {name} is left out, for it failed ({what}): {failure}")
                self._entrants.remove(entrant)
                entrant.leave()


def _walk(entrant: _Entrant, seconds: float) -> None:
    measured = entrant.measured
    rate = median(measured.rates) / 10
    measured.paced.append(entrant.walk(rate, seconds))
    if measured.name == OURS:
        measured.unawaited.append(entrant.walk(rate, seconds, is_awaited=False))

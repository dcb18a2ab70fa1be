"""The full cycle, put, handle, acknowledge, through each system's own client: one process puts and one takes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from statistics import median
from typing import Any

from bench.contender import DEFAULTS, DISK, STORES
from bench.pair import Pair, Trip, pair
from bench.race import Race
from bench.report import OURS, Figures, say

CASES = {f"{store}-default": store for store in STORES}
"""The stores of the cases."""

_BEST = {"memory": 1.2, "disk": 1.0}
"""Target: how many times as fast as the best other contender."""

_SYNCED = {"nats": 3.0, "beanstalkd": 3.0, "rabbitmq": 3.0}
"""Targets for messages on disk."""

_FEWEST = 100
"""Messages at a fixed rate at least, because fewer have no p99."""

_LONGER = 4
"""Except for that, a round takes at most this many times its intended time."""

NOTES = f"""At most {DEFAULTS.batch:,} messages put together, {DEFAULTS.in_flight:,} not confirmed, \
{DEFAULTS.unacknowledged:,} not acknowledged.
p50, p99: put to handler, at a tenth of the contender's own rate; level: all at a tenth of the slowest's.
CPU: per message at full speed."""


class Cycle:
    """Measures the cases."""

    def __init__(self, rivals: Sequence[str], *, rounds: int, seconds: float) -> None:
        """Take the other contenders, the number of rounds, and the seconds of each."""
        self.figures = Figures()
        self.compared = Figures()
        """How our rate compares with its targets."""
        self.facts: list[dict[str, Any]] = []
        """What each contender put, handled and left in its queue."""
        self._rivals = rivals
        self._rounds = rounds
        self._seconds = seconds

    def run(self, case: str) -> None:
        """Measure a case: all its contenders run at once, each with its server and its processes."""
        say(f"cycle {case}")
        with closing(Race(CASES[case], pair)) as race:
            race.start([OURS, *self._rivals])
            race.each("warm-up", lambda _, both: both.warm_up(self._seconds))
            race.rounds("full speed", self._rounds, lambda name, both: self._go(case, name, both))
            rates = {name: median(self.figures.values(case, "rate", name)) / 10 for name in race.entrants}
            race.rounds("at a tenth of it", self._rounds, lambda name, both: self._walk(case, name, both, rates[name]))
            slowest = min((rates[name] for name in race.entrants), default=0.0)
            race.rounds(
                f"all at {slowest:,.0f} a second",
                self._rounds,
                lambda name, both: self._walk(case, name, both, slowest, "level "),
            )
            race.each("end", lambda _, both: both.finish())
            self.figures.drop_others(case, race.entrants)
            for name, both in race.entrants.items():
                counts = {"put": both.put, "handled": both.handled, "left": both.left}
                self.facts.append({"case": case, "name": name, "versions": both.versions, **counts})
            self._compare(case, list(race.entrants))

    def _go(self, case: str, name: str, both: Pair) -> None:
        """Run a round at full speed."""
        trip = both.full_speed(self._seconds)
        self.figures.rate(case, "rate", trip.rate, name)
        for who, seconds in zip(("producer", "consumer", "server"), trip[-3:], strict=True):
            self.figures.note(case, f"CPU {who}", seconds / trip.put * 1e6, "us", name)

    def _walk(self, case: str, name: str, both: Pair, rate: float, which: str = "") -> None:
        """Run a round at a rate."""
        wanted = rate * self._seconds
        trip: Trip = both.trip(max(int(wanted), min(_FEWEST, int(wanted * _LONGER)), 1), rate)
        self.figures.note(case, f"{which}p50", trip.p50, "ms", name)
        self.figures.note(case, f"{which}p99", trip.p99, "ms", name)

    def _compare(self, case: str, names: Sequence[str]) -> None:
        """Compare our rate with those of the others, in the same rounds."""
        rates = {name: self.figures.values(case, "rate", name) for name in names}
        if OURS not in rates or len(rates) == 1:
            return
        ours = rates.pop(OURS)
        best = max(rates, key=lambda name: median(rates[name]))
        targets = {f"rate, of the best other ({best})": (best, _BEST[CASES[case]])}
        if CASES[case] == DISK:
            targets |= {f"rate, of {name}": (name, _SYNCED[name]) for name in rates if name in _SYNCED}
        for what, (name, target) in targets.items():
            for mine, other in zip(ours, rates[name], strict=True):
                self.compared.note(case, what, mine / other, "x", target=target, more_is_better=True)

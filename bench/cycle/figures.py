"""Figures of the full cycle: those of each contender, and how ours compares with its targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from bench.contender import DISK
from bench.cycle.pair import Trip
from bench.cycle.race import CASES, Measured
from bench.report import OURS, Figure, ratios

_BEST = {"memory": 1.2, "disk": 1.0}
"""Target: how many times as fast as the best other contender."""

_SYNCED = {"nats": 3.0, "beanstalkd": 3.0, "rabbitmq": 3.0}
"""Targets for messages on disk."""

_RATE = "rate"

_QUANTITIES: dict[str, tuple[str, str, Callable[[Trip], float]]] = {
    "p50": ("paced", "ms", lambda trip: trip.p50),
    "p99": ("paced", "ms", lambda trip: trip.p99),
    "level p50": ("level", "ms", lambda trip: trip.p50),
    "level p99": ("level", "ms", lambda trip: trip.p99),
    "not awaited p50": ("unawaited", "ms", lambda trip: trip.p50),
    "not awaited p99": ("unawaited", "ms", lambda trip: trip.p99),
    "CPU producer": ("full", "us", lambda trip: trip.producer_cpu / trip.put * 1e6),
    "CPU consumer": ("full", "us", lambda trip: trip.consumer_cpu / trip.put * 1e6),
    "CPU server": ("full", "us", lambda trip: trip.server_cpu / trip.put * 1e6),
}
"""By name: the trips that they are taken from, the unit, and the value of a trip."""


def of_contenders(measured: Sequence[Measured]) -> list[Figure]:
    """Return what each contender did: rates at full speed, and ages at a tenth of that."""
    return [figure for each in measured for figure in (_rate(each), *_others(each))]


def targets(measured: Sequence[Measured]) -> list[Figure]:
    """Return the ratio of our rate to each other's, in the same rounds."""
    return [figure for each in measured if each.name == OURS for figure in _targets(each, _rivals(each, measured))]


def settings(cases: Sequence[str]) -> str:
    """Return the bounds of the cases, and the meaning of the columns."""
    bounds = {bounds.name: bounds for bounds in (CASES[case][1] for case in cases)}
    lines = [
        f"{each.name}: at most {each.batch:,} messages put together, {each.in_flight:,} not confirmed, "
        f"{each.held:,} not acknowledged{' (the defaults of our client)' if each.is_ours else ''}"
        for each in bounds.values()
    ]
    return "\n".join(
        [
            *lines,
            "p50, p99: put to handler, at a tenth of the contender's own rate; level: all at a tenth of the slowest's;",
            "not awaited: like p50, but the puts are not awaited, so that our producer may hold a message briefly.",
            "CPU: per message at full speed.",
        ]
    )


def versions(measured: Sequence[Measured]) -> str:
    """Return the versions of all contenders."""
    return "; ".join(sorted({each.versions for each in measured}))


def as_facts(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return everything that was measured."""
    trips = ("full", "paced", "level", "unawaited")
    return [
        asdict(each) | {kind: [trip._asdict() for trip in getattr(each, kind)] for kind in trips} for each in measured
    ]


def _rate(each: Measured) -> Figure:
    return Figure(
        case=each.case,
        what=_RATE,
        values=each.rates,
        unit="msg/s",
        who=each.name,
        more_is_better=True,
        is_compared=True,
    )


def _others(each: Measured) -> Iterator[Figure]:
    for what, (kind, unit, value) in _QUANTITIES.items():
        trips: Sequence[Trip] = getattr(each, kind)
        if trips:
            yield Figure(case=each.case, what=what, values=[value(trip) for trip in trips], unit=unit, who=each.name)


def _targets(ours: Measured, rivals: Sequence[Measured]) -> Iterator[Figure]:
    if not rivals:
        return
    store, _ = CASES[ours.case]
    best = max(rivals, key=lambda rival: median(rival.rates))
    yield _target(ours, best, f"{_RATE}, of the best other ({best.name})", _BEST[store])
    if store == DISK:
        for rival in rivals:
            if rival.name in _SYNCED:
                yield _target(ours, rival, f"{_RATE}, of {rival.name}", _SYNCED[rival.name])


def _target(ours: Measured, rival: Measured, what: str, bound: float) -> Figure:
    values = ratios(_rate(ours), _rate(rival))
    return Figure(case=ours.case, what=what, values=values, unit="x", target=bound, more_is_better=True)


def _rivals(ours: Measured, measured: Sequence[Measured]) -> list[Measured]:
    return [each for each in measured if each.case == ours.case and each is not ours]

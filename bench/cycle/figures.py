"""Results of the full cycle: a table of the systems, and the targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from bench.contender import DISK
from bench.contenders import OURS
from bench.cycle.pair import Trip
from bench.cycle.race import CASES, Measured
from bench.delivery import Row
from bench.report import table

_BEST = {"memory": 1.2, "disk": 1.0}
"""Target: how many times as fast as the best other system."""

_SYNCED = {"nats": 3.0, "beanstalkd": 3.0, "rabbitmq": 3.0}
"""Targets for messages on disk."""

_HEADS = (
    "case", "system", "msg/s", "lowest-highest", "queuelet is", "p50 ms", "p99 ms", "level p50", "level p99",
    "CPU put", "CPU take", "CPU server",
)  # fmt: skip


def systems_table(measured: Sequence[Measured]) -> str:
    """Return what each system did: rates at full speed, and ages at a tenth of that."""
    return table(_HEADS, [row for each in measured for row in _lines(each, measured)])


def targets(measured: Sequence[Measured]) -> list[Row]:
    """Return the ratio of our rate to each other's, in the same rounds."""
    return [row for each in measured if each.name == OURS for row in _targets(each, _rivals(each, measured))]


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
            "p50, p99: put to handler, at a tenth of the system's own rate; level: all at a tenth of the slowest's.",
            "CPU: seconds per 1,000 messages at full speed, of the producer, the consumer and the server.",
        ]
    )


def versions(measured: Sequence[Measured]) -> str:
    """Return the versions of all systems."""
    return "; ".join(sorted({each.versions for each in measured}))


def as_facts(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return everything that was measured."""
    trips = ("full", "paced", "level", "unawaited")
    return [
        asdict(each) | {kind: [trip._asdict() for trip in getattr(each, kind)] for kind in trips} for each in measured
    ]


def _lines(each: Measured, measured: Sequence[Measured]) -> Iterator[list[str]]:
    ours = next((other for other in measured if (other.case, other.name) == (each.case, OURS)), None)
    ratio = f"{median(_ratios(ours, each)):.2f}x" if ours and ours is not each else "-"
    spread = f"{min(each.rates):,.0f}-{max(each.rates):,.0f}"
    yield [
        each.case,
        each.name,
        f"{median(each.rates):,.0f}",
        spread,
        ratio,
        _ages(each.paced, lambda trip: trip.p50),
        _ages(each.paced, lambda trip: trip.p99),
        _ages(each.level, lambda trip: trip.p50),
        _ages(each.level, lambda trip: trip.p99),
        _cpu(each, lambda trip: trip.producer_cpu),
        _cpu(each, lambda trip: trip.consumer_cpu),
        _cpu(each, lambda trip: trip.server_cpu),
    ]
    if each.unawaited:
        ages = [_ages(each.unawaited, lambda trip: trip.p50), _ages(each.unawaited, lambda trip: trip.p99)]
        yield [each.case, f"{each.name}, puts not awaited", "-", "-", "-", *ages, *["-"] * 5]


def _targets(ours: Measured, rivals: Sequence[Measured]) -> Iterator[Row]:
    if not rivals:
        return
    store, _ = CASES[ours.case]
    best = max(rivals, key=lambda rival: median(rival.rates))
    yield _target(ours, best, f"messages a second, of the best other ({best.name})", _BEST[store])
    if store == DISK:
        for rival in rivals:
            if rival.name in _SYNCED:
                yield _target(ours, rival, f"messages a second, of {rival.name}", _SYNCED[rival.name])


def _target(ours: Measured, rival: Measured, what: str, bound: float) -> Row:
    return Row(case=ours.case, what=what, values=_ratios(ours, rival), unit="x", target=bound, more_is_better=True)


def _rivals(ours: Measured, measured: Sequence[Measured]) -> list[Measured]:
    return [each for each in measured if each.case == ours.case and each is not ours]


def _ratios(ours: Measured, rival: Measured) -> list[float]:
    return [mine / theirs for mine, theirs in zip(ours.rates, rival.rates, strict=True)]


def _ages(trips: Sequence[Trip], age: Callable[[Trip], float]) -> str:
    return f"{median(map(age, trips)):,.2f}" if trips else "-"


def _cpu(each: Measured, seconds: Callable[[Trip], float]) -> str:
    return f"{median(seconds(trip) / trip.put * 1_000 for trip in each.full):.4f}"

"""The command line: `python -m bench.control_loop`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.control_loop import creation, existing, figures
from bench.control_loop.client import WRITERS
from bench.control_loop.cluster import Cluster
from bench.control_loop.contenders import QUICK_LEASE, Nack, Ours
from bench.control_loop.figures import Creation
from bench.control_loop.processes import needs_linux
from bench.errors import Failed, NotHere
from bench.report import Figure, Progress, machine_line, table_by_contender, table_by_figure, write_json
from tools.control_plane import ControlPlane, ControlPlaneError

PARTS = ("create", "nack", "pickup", "restart", "loss", "idle")
_OF_CREATION = {"create", "nack"}
_OF_EXISTING = {"pickup", "restart", "loss", "idle"}


@dataclass
class _Run:
    """The arguments and the results."""

    arguments: argparse.Namespace
    progress: Progress
    creations: list[Creation] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @cached_property
    def only(self) -> set[str]:
        """The parts to measure: those requested that are available."""
        only = set(self.arguments.only)
        if "nack" in only:
            try:
                Nack.find()
            except NotHere as missing:
                self.progress.say(f"skipped {Nack.name}: {missing}")
                only.remove("nack")
        return only

    @property
    def lease(self) -> tuple[str, ...]:
        """Flags for the operator that shorten times for a test."""
        return QUICK_LEASE if self.arguments.quick else ()


def main() -> int:
    """Run the benchmark of the command line; return the exit status."""
    run = _Run(_arguments(), Progress())
    # One exit path: processes are stopped in order, and files are removed.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    status = 0
    try:
        needs_linux()
        for count in run.arguments.queues:
            _measure(count, run)
    except (NotHere, Failed, ControlPlaneError, ExceptionGroup) as failure:
        run.progress.say(f"bench: {_foreseen(failure)}")
        status = 1
    except KeyboardInterrupt:
        run.progress.say("bench: interrupted")
        status = 130
    # Report also the measurements before a failure.
    _report(run)
    return status


def _foreseen(failure: Exception) -> Exception:
    """Return the expected failures of a group; raise any unexpected one."""
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    if not isinstance(failure, (NotHere, Failed, ControlPlaneError)):
        raise failure
    return failure


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.control_loop", description="Measure the operator.")
    parser.add_argument(
        "--queues", type=int, nargs="+", metavar="COUNT", help="numbers of Queues (1000 10000; quick: 100)"
    )
    parser.add_argument(
        "--only", type=_parts, default=PARTS, metavar="PART,...", help=f"the parts to measure, of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often each contender creates the Queues, in turns (1)"
    )
    parser.add_argument("--idle-seconds", type=float, help="seconds of idling (600, quick: 20)")
    parser.add_argument("--pickup-seconds", type=int, help="seconds in which to create a Queue a second (60, quick: 5)")
    parser.add_argument("--quick", action="store_true", help="few Queues, short times and a short Lease")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    arguments = parser.parse_args()
    quick = arguments.quick
    arguments.queues = arguments.queues or ([100] if quick else [1_000, 10_000])
    arguments.idle_seconds = arguments.idle_seconds or (20.0 if quick else 600.0)
    arguments.pickup_seconds = arguments.pickup_seconds or (5 if quick else 60)
    return arguments


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"unknown part {unknown[0]!r}; use one of {', '.join(PARTS)}")
    return parts


def _measure(count: int, run: _Run) -> None:
    """Measure with this many Queues, on a control plane of their own."""
    only = set(run.only)
    # Existing Queues are measured once, with all that were created.
    if count != max(run.arguments.queues):
        only -= _OF_EXISTING
    if not only:
        return
    run.progress.begin(f"a control plane for {count:,} Queues")
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        _control_plane() as plane,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        cluster = Cluster(plane, Path(folder), with_nack="nack" in only)
        if not only.isdisjoint(_OF_CREATION):
            runner.run(_create(cluster, Path(folder), only, count, run))
        if not only.isdisjoint(_OF_EXISTING):
            runner.run(_measure_existing(cluster, Path(folder), only, count, run))
        plane.check()


@contextmanager
def _control_plane() -> Iterator[ControlPlane]:
    """Run a control plane. Its logs stay if something failed, but not after ^C."""
    plane = ControlPlane()
    plane.start()
    failed = True
    try:
        yield plane
        failed = False
    except KeyboardInterrupt:
        failed = False
        raise
    finally:
        plane.stop(keep_logs=failed)


async def _create(cluster: Cluster, folder: Path, only: set[str], count: int, run: _Run) -> None:
    """Measure how long it takes until this many new objects are ready."""
    status = await creation.recorded_status(cluster, folder, run.progress)
    for number in range(1, run.arguments.rounds + 1):
        given = creation.Round(cluster=cluster, count=count, number=number, progress=run.progress)
        # In turns, so that the first place rotates.
        turns = [name for name in ("floor", "ours") if name == "ours" or "create" in only]
        for turn in turns if number % 2 else reversed(turns):
            if turn == "floor":
                run.creations.append(await creation.floor(given, status))
            else:
                run.creations.append(await creation.under(Ours(cluster, folder, *run.lease), given))
        if "nack" in only:
            run.creations.append(await creation.under(Nack(cluster, folder), given))


async def _measure_existing(cluster: Cluster, folder: Path, only: set[str], count: int, run: _Run) -> None:
    """Measure the effects of many existing Queues."""
    async with Ours(cluster, folder, *run.lease) as ours, cluster.session(2 * WRITERS) as session:
        there = await existing.make(cluster, ours, count, session, run.progress)
        run.figures += existing.after_creation(there)
        if "pickup" in only:
            run.figures += await existing.pick_up(there, run.arguments.pickup_seconds)
        if "restart" in only:
            run.figures += await existing.restart(there)
        if "loss" in only:
            run.figures += await existing.loss(there)
        if "idle" in only:
            run.figures += await existing.idle(there, run.arguments.idle_seconds)


def _report(run: _Run) -> None:
    arguments = run.arguments
    run.progress.clear()
    created = figures.of_creations(run.creations)
    if created:
        print(f"{WRITERS} writers; from POST to Ready, as seen by a watch\n")
        print(f"{table_by_contender(created)}\n")
    compared = figures.targets(run.creations, Ours.name, Nack.name) + run.figures
    if compared:
        print(f"{table_by_figure(compared)}\n")
        print(machine_line())
    if arguments.json:
        settings = {name: value for name, value in vars(arguments).items() if name != "json"} | {"writers": WRITERS}
        creations = [asdict(each) for each in run.creations]
        write_json(arguments.json, settings, created + compared, creations=creations)


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `python -m bench [PART]`, where PART is one of `_CASES`, or `profile CASE`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bench import cycle, delivery, forwarding, micro, postgres, server, ways
from bench.contenders import BASELINES, RIVALS
from bench.contenders.queuelet import Queuelet
from bench.control_loop import measure as control_loop
from bench.control_loop.client import WRITERS
from bench.errors import Failed, NotHere
from bench.profile import profile
from bench.report import (
    Figure,
    Figures,
    machine_line,
    say,
    table_by_contender,
    table_by_figure,
    targets_table,
    write_json,
)
from queuelet.logs import configure_logs
from tools.control_plane import ControlPlaneError

_FORESEEN = (NotHere, Failed, ControlPlaneError)

_CASES = {
    "micro": (micro.CASES, micro.QUICK),
    "server": (tuple(server.LOADS), server.QUICK),
    "rest": (tuple(ways.REST), tuple(ways.REST)),
    "delivery": (("delivery",), ("delivery",)),
    "postgres": (postgres.CASES, postgres.CASES),
    "forwarding": (forwarding.CASES, forwarding.CASES),
    "cycle": ((*cycle.CASES, *ways.ALONE), (*cycle.CASES, *ways.ALONE)),
    "operator": (control_loop.PARTS, control_loop.PARTS),
}
"""By part: its cases, and those of a quick run."""

_TURNS_A_SECOND = 30
"""Turns of each way to add a single message, per second of a round of the full cycle."""


TRANSPORTS = ("auto", "native", "grpc")


class _Run:
    """The arguments, and what was measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.quick: bool = arguments.quick
        self.rounds: int = arguments.rounds or (1 if arguments.what == "operator" else 2 if self.quick else 3)
        self.figures: list[Figure] = []
        self.more: dict[str, Any] = {}

    def measure(self) -> None:
        """Measure one part, or all but the operator."""
        what = self.arguments.what
        parts = {part: self._cases(part) for part in _CASES if what == part or (what == "all" and part != "operator")}
        if not any(parts.values()):
            raise NotHere(f"no case matches {' or '.join(self.arguments.only)}; see --list")
        for part, cases in parts.items():
            if cases:
                getattr(self, f"_{part}")(cases)

    def report(self) -> None:
        """Print the targets and the machine, and write everything as JSON, if anything was measured."""
        if not self.figures:
            return
        if reached := targets_table(self.figures):
            print(f"Targets\n\n{reached}\n")
        print(f"Medians of {self.rounds} rounds; more than 1.00x means that queuelet is faster.\n{machine_line()}")
        if self.arguments.json:
            settings = vars(self.arguments) | {"rounds": self.rounds, "json": str(self.arguments.json)}
            write_json(self.arguments.json, settings, self.figures, **self.more)

    def _cases(self, part: str) -> list[str]:
        only = [name for text in self.arguments.only for name in text.split(",")]
        cases, quick = _CASES[part]
        if not only:
            return list(quick if self.quick else cases)
        return [case for case in cases if any(fnmatchcase(case, pattern) for pattern in only)]

    def _seconds(self, usual: float, quick: float) -> float:
        return float(self.arguments.seconds or (quick if self.quick else usual))

    def _show(self, title: str, figures: Figures, table: Callable[[Sequence[Figure]], str], notes: str = "") -> None:
        if found := list(figures):
            print("\n\n".join(filter(None, [title, table(found), notes])) + "\n", flush=True)
            self.figures += found

    def _micro(self, cases: Sequence[str]) -> None:
        figures = micro.run(cases, rounds=self.rounds, quick=self.quick)
        self._show("The handlers alone, without a socket", figures, table_by_figure)

    def _server(self, cases: Sequence[str]) -> None:
        seconds, processes = self._seconds(0.5, 0.3), self.arguments.drivers
        figures = server.run(cases, self.arguments.against, rounds=self.rounds, seconds=seconds, processes=processes)
        self._show("The server over its socket", figures, table_by_contender)

    def _rest(self, cases: Sequence[str]) -> None:
        figures = Figures()
        for case in cases:
            ways.run_rest(case, figures, rounds=self.rounds, messages=1_000 if self.quick else 6_000)
        self._show("Add over REST and over gRPC", figures, table_by_figure)

    def _delivery(self, _: Sequence[str]) -> None:
        figures = delivery.run(rounds=self.rounds, quick=self.quick)
        self._show("Leases and the Disk store", figures, table_by_figure)

    def _postgres(self, cases: Sequence[str]) -> None:
        rounds = self.arguments.rounds or (2 if self.quick else 5)
        figures = Figures()
        try:
            postgres.run(cases, self.arguments.against, figures, rounds=rounds, seconds=self._seconds(2, 0.5))
        finally:
            self._show("The PostgreSQL store and the Disk store", figures, table_by_figure, postgres.notes())

    def _forwarding(self, cases: Sequence[str]) -> None:
        figures = Figures()
        forwarding.run(cases, figures, rounds=self.rounds, seconds=self._seconds(2, 0.5))
        self._show("A forwarded call and a direct one", figures, table_by_figure, forwarding.notes())

    def _cycle(self, cases: Sequence[str]) -> None:
        seconds = self._seconds(3, 1)
        rivals = [name for name in RIVALS if name in self.arguments.against]
        measured = cycle.Cycle(rivals, rounds=self.rounds, seconds=seconds)
        for case in cases:
            if case in cycle.CASES:
                measured.run(case)
            else:
                ways.run_alone(case, measured.compared, turns=max(1, int(self.rounds * seconds * _TURNS_A_SECOND)))
        self.more["cycle"] = measured.facts
        versions = "; ".join(sorted({each["versions"] for each in measured.facts}))
        notes = f"Rounds of {seconds:g} s.\n{cycle.NOTES}\nRun were: {versions}."
        self._show("The full cycle", measured.figures, table_by_contender, notes)
        self._show("The full cycle, compared", measured.compared, table_by_figure)

    def _operator(self, parts: Sequence[str]) -> None:
        measured = control_loop.Measurement(rounds=self.rounds, seconds=int(self._seconds(60, 3)), quick=self.quick)
        try:
            measured.run(self.arguments.queues or ([100] if self.quick else [1_000, 10_000]), parts)
        finally:
            title = f"{WRITERS} writers; from POST to Ready, as seen by a watch"
            self._show(title, measured.created, table_by_contender)
            self._show("The operator", measured.compared, table_by_figure)


def main() -> int:
    """Run the benchmark of the command line; return the exit status."""
    arguments = _parser().parse_args()
    Queuelet.transport = arguments.transport
    configure_logs(debug=False)
    # One exit path: processes are stopped in order, and files are removed.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        if arguments.list:
            print("\n".join(case for cases, _ in _CASES.values() for case in cases))
        elif arguments.what == "profile":
            seconds, transport = arguments.seconds or 3, arguments.transport
            print(profile(arguments.case, seconds=seconds, processes=arguments.drivers, transport=transport))
        else:
            run = _Run(arguments)
            try:
                run.measure()
            finally:
                # Report also the measurements before a failure.
                run.report()
    except (*_FORESEEN, ExceptionGroup) as failure:
        say(f"bench: {_foreseen(failure)}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted")
        return 130
    return 0


def _foreseen(failure: Exception) -> Exception:
    """Return the expected failure of a group; raise an unexpected one."""
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    if not isinstance(failure, _FORESEEN):
        raise failure
    return failure


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure the server, others, and the operator."
    )
    parser.add_argument("what", nargs="?", choices=("all", *_CASES, "profile"), default="all")
    parser.add_argument("case", nargs="?", default="unary-128B-64", help="the case to profile")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    parser.add_argument("--only", nargs="+", metavar="CASE", default=(), help="cases to run; `*` matches anything")
    parser.add_argument("--quick", action="store_true", help="few cases and short rounds")
    parser.add_argument(
        "--seconds", type=float, help="seconds of a round (server 0.5, cycle 3) or of the operator's pickup (60)"
    )
    parser.add_argument("--rounds", type=int, help="rounds a case (3, quick: 2, operator: 1)")
    parser.add_argument("--queues", type=int, nargs="+", metavar="COUNT", help="numbers of the operator's Queues")
    cores = os.cpu_count() or 2
    parser.add_argument("--drivers", type=int, default=max(1, cores - 1), help="processes for the callers")
    parser.add_argument(
        "--against", nargs="+", choices=BASELINES, default=BASELINES, metavar="SYSTEM", help=", ".join(BASELINES)
    )
    parser.add_argument(
        "--transport",
        choices=TRANSPORTS,
        default="",
        help="the transport of our servers; the system grpc has its own",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())

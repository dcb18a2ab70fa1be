"""The command line: `python -m bench [micro | server | delivery | cycle | profile CASE]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bench import delivery, micro, server
from bench.contenders import BASELINES
from bench.cycle import cases as cycle
from bench.errors import Failed, NotHere
from bench.profile import profile
from bench.report import (
    Figure,
    Progress,
    machine_line,
    table_by_contender,
    table_by_figure,
    targets_table,
    write_json,
)
from queuelet.logs import configure_logs


def main() -> int:
    """Run the benchmark of the command line; return the exit status."""
    arguments = _parser().parse_args()
    configure_logs(debug=False)
    progress = Progress()
    try:
        if arguments.list:
            print("\n".join([*micro.cases(), *server.LOADS, *cycle.CASES]))
        elif arguments.what == "profile":
            print(profile(arguments.case, seconds=arguments.seconds or 3, drivers=arguments.drivers, progress=progress))
        else:
            _measure(arguments, progress)
    except (NotHere, Failed) as failure:
        progress.say(f"bench: {failure}")
        return 1
    except KeyboardInterrupt:
        progress.say("bench: interrupted")
        return 130
    return 0


def _measure(arguments: argparse.Namespace, progress: Progress) -> None:
    quick, only = arguments.quick, arguments.only
    rounds = arguments.rounds or (2 if quick else 3)
    seconds = arguments.seconds or (0.3 if quick else 0.5)
    micro_cases = _chosen(micro.cases(), only) if arguments.what in {"all", "micro"} else []
    loads = _chosen(server.LOADS, only) if arguments.what in {"all", "server"} else []
    with_delivery = arguments.what in {"all", "delivery"} and not only
    cycle_cases = _cycle_cases(arguments)
    if quick and not only:
        micro_cases = [name for name in micro_cases if name in micro.QUICK]
        loads = [name for name in loads if name in server.QUICK]
    if not (micro_cases or loads or with_delivery or cycle_cases):
        raise NotHere(f"no case matches {' or '.join(only)}; see --list")

    figures: list[Figure] = []
    trips: list[dict[str, Any]] = []

    def show(title: str, found: Sequence[Figure], text: str) -> None:
        progress.clear()
        print(f"{title}\n\n{text}\n", flush=True)
        figures.extend(found)

    if micro_cases:
        found = micro.run(micro_cases, rounds=rounds, progress=progress)
        show("The handlers alone, without a socket", found, table_by_figure(found))
    if loads:
        plan = server.Plan(seconds=seconds, rounds=rounds, drivers=arguments.drivers, peer_negz=arguments.peer_negz)
        found = server.measure([server.LOADS[name] for name in loads], arguments.against, plan, progress)
        show("The server over its socket", found, table_by_contender(found))
    if with_delivery:
        found = delivery.run(rounds=rounds, quick=quick, progress=progress)
        show("Leases and the Disk store", found, table_by_figure(found))
    if cycle_cases:
        length = arguments.seconds or (1 if quick else 3)
        rivals = [name for name in cycle.RIVALS if name in arguments.against]
        cycle_plan = cycle.Plan(seconds=length, rounds=rounds, rivals=rivals)
        text, found, trips = cycle.run(cycle_cases, cycle_plan, progress)
        show("The full cycle", found, text)
    if reached := targets_table(figures):
        print(f"Targets\n\n{reached}\n")
    print(f"Medians of {rounds} rounds; more than 1.00x means that queuelet is faster.")
    print(machine_line())
    if arguments.json:
        settings = {"rounds": rounds, "seconds": seconds, "drivers": arguments.drivers}
        write_json(arguments.json, settings, figures, cycle=trips)


def _cycle_cases(arguments: argparse.Namespace) -> list[str]:
    if arguments.what not in {"all", "cycle"}:
        return []
    return _chosen(cycle.QUICK if arguments.quick and not arguments.only else cycle.CASES, arguments.only)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the server and others.")
    parser.add_argument(
        "what", nargs="?", choices=("all", "micro", "server", "delivery", "cycle", "profile"), default="all"
    )
    parser.add_argument("case", nargs="?", default="handler-unary-128B", help="the case to profile")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    parser.add_argument("--only", nargs="+", metavar="CASE", default=(), help="cases to run; `*` matches anything")
    parser.add_argument("--quick", action="store_true", help="few cases and short rounds: a minute and a half")
    parser.add_argument("--seconds", type=float, help="seconds that each round adds messages (0.5, quick: 0.3)")
    parser.add_argument("--rounds", type=int, help="rounds a case (3, quick: 2)")
    parser.add_argument(
        "--drivers",
        type=int,
        default=max(1, (os.cpu_count() or 2) - 1),
        help="driver processes for the callers (one a core, less the server's)",
    )
    parser.add_argument(
        "--against", nargs="+", choices=BASELINES, default=BASELINES, metavar="SYSTEM", help=", ".join(BASELINES)
    )
    parser.add_argument("--peer-negz", default="", metavar="HOST:PORT", help="a running server of negz/q's protocol")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    return parser


def _chosen(names: Iterable[str], only: Sequence[str]) -> list[str]:
    return [name for name in names if not only or any(fnmatchcase(name, pattern) for pattern in only)]


if __name__ == "__main__":
    sys.exit(main())

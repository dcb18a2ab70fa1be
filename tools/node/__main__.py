"""The node from a shell: `python -m tools.node --help`."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.steps import say
from tools.node.machine import PACKAGES, why_not
from tools.node.node import Node


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.node", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start a node, print the environment for kubectl, and stop it at ^C")
    start.add_argument("--image", action="append", default=[], type=Path, help="an OCI archive for Pods to use")
    commands.add_parser("check", help="say whether this machine can run a node; exit 1 if it can't")
    commands.add_parser("packages", help="print the packages of Debian that a node needs")
    arguments = parser.parse_args()
    try:
        if arguments.command == "start":
            _start(arguments.image)
        elif arguments.command == "packages":
            print(*PACKAGES)
        elif reason := why_not():
            _say(reason)
            return 1
    except ControlPlaneError as error:
        _say(str(error))
        return 1
    return 0


def _start(images: Sequence[Path]) -> None:
    with Node(images) as node:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        for name, value in node.environment.items():
            print(f"export {name}={value}", flush=True)
        _say(f"to run a command in its network: {shlex.join(node.command([]))} COMMAND")
        _say("it runs until ^C")
        while not stop.wait(1.0):
            node.check()


def _say(text: str) -> None:
    say(text, who="node")


if __name__ == "__main__":
    sys.exit(main())

"""The control plane from a shell: `python -m tools.control_plane --help`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from tools.control_plane import binaries
from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.plane import ControlPlane
from tools.control_plane.steps import say


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.control_plane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the programs that are missing, and print the path of each")
    build.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(binaries.BINARIES)}; all if none")
    commands.add_parser("start", help="start a control plane, print the environment for kubectl, and stop it at ^C")
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            for name in arguments.names or binaries.BINARIES:
                print(binaries.get(name))
        else:
            _start()
    except ControlPlaneError as error:
        say(str(error))
        return 1
    return 0


def _start() -> None:
    with ControlPlane() as control_plane:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        for name, value in control_plane.environment.items():
            print(f"export {name}={value}", flush=True)
        say("it runs until ^C")
        while not stop.wait(1.0):
            control_plane.check()


if __name__ == "__main__":
    sys.exit(main())

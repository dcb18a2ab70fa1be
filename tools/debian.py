"""The command line of a tool that only needs a program of Debian.

It prints packages instead of installing them, because that needs root: `make browser-packages` does it, for example.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from tools.control_plane.steps import say


def run(tool: str, description: str | None, packages: Sequence[str], why_not: Callable[[], str | None]) -> int:
    """Run the command that the program's arguments name; return the exit code.

    Args:
        tool: the name of the tool, a package in `tools`.
        description: the text for --help.
        packages: the Debian packages that it needs.
        why_not: returns why this machine cannot run it, or None if it can.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tools.{tool}", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say whether this machine can run it; exit 1 if it can't")
    commands.add_parser("packages", help="print the Debian packages that it needs")
    if parser.parse_args().command == "packages":
        print(*packages)
    elif reason := why_not():
        say(reason, who=tool)
        return 1
    return 0

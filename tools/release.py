"""What a release needs to know: `python -m tools.release --help`. docs/releasing.md says when to use it."""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return what keeps a commit from being released under a tag, a sentence each."""
    version = tag.removeprefix("v")
    if not re.fullmatch(r"v\d+\.\d+\.\d+(rc\d+)?", tag):
        return [f"tag: {tag!r} is not a release; use vMAJOR.MINOR.PATCH, with rcN behind it for a candidate"]
    chart = yaml.safe_load((root / "helm/queuelet/Chart.yaml").read_text())
    present = {
        "pyproject.toml: version": tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"],
        "helm/queuelet/Chart.yaml: version": chart["version"],
        "helm/queuelet/Chart.yaml: appVersion": chart["appVersion"],
    }
    found = [f"{where} is {value}; set it to {version}" for where, value in present.items() if str(value) != version]
    if not notes(tag, root):
        found.append(f"CHANGELOG.md: there is no section {version}; run `make changelog` and commit it")
    left = sorted(path.name for path in (root / "newsfragments").glob("*.md") if path.name != "README.md")
    if left:
        found.append(f"newsfragments/: {len(left)} are not in the changelog, such as {left[0]}; run `make changelog`")
    return found


def notes(tag: str, root: Path = ROOT) -> str:
    """Return the section of the changelog about a release, without its heading; empty if there is none."""
    sections = re.split(r"^## ", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    version = tag.removeprefix("v")
    return next((each.partition("\n")[2].strip() for each in sections if each.split()[0] == version), "")


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("check", "say what keeps this commit from being released under a tag; exit 1 if anything does"),
        ("notes", "print the section of the changelog about a release"),
    ):
        commands.add_parser(name, help=text).add_argument("tag", help="such as v0.2.0")
    arguments = parser.parse_args()
    if arguments.command == "notes":
        print(notes(arguments.tag))
        return 0
    found = problems(arguments.tag)
    print(*(found or [f"{arguments.tag} can be released"]), sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

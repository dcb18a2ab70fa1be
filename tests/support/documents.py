"""Documents, as tests read them: their console blocks and their tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def commands(document: str, section: str = "") -> list[str]:
    """Return the commands of the console blocks of a document, or of its part below a heading of three hashes.

    A line that begins with `> ` goes on with the one before.
    """
    text = (ROOT / document).read_text()
    if section:
        text = re.split(r"\n###? ", text.split(f"\n### {section}\n")[1])[0]
    found: list[str] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif line.startswith(">"):
                found[-1] += "\n" + line[2:]
    return found


def first_cells(document: str, heading: str) -> Iterator[str]:
    """Yield the first cell of each row of the table below a heading, without its backticks."""
    section = (ROOT / document).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    for row in rows[2:]:
        yield row.split("|")[1].strip().strip("`")

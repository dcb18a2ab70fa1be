"""The files of the checkout that a build may copy: all that .dockerignore leaves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path


class Context:
    """A checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / ".dockerignore"
        lines = [line.strip() for line in path.read_text().splitlines()] if path.exists() else []
        told = [line for line in lines if line and not line.startswith("#")]
        self._rules = [(not line.startswith("!"), _pattern(line.removeprefix("!"))) for line in told]

    def has(self, path: str) -> bool:
        """Tell whether a path, relative to the checkout, is not left out. The last rule that it matches counts."""
        left_out = False
        for leaves_out, matches in self._rules:
            if matches(path):
                left_out = leaves_out
        return not left_out


def _pattern(text: str) -> Callable[[str], object]:
    """Return what tells whether a path, or a folder that it is in, matches a pattern."""
    expression = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", text.strip("/")):
        expression += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return re.compile(f"{expression}(?:/.*)?").fullmatch

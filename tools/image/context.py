"""The files of the checkout that a build may copy: all that .dockerignore does not exclude."""

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
        rules = [line for line in lines if line and not line.startswith("#")]
        self._rules = [(not line.startswith("!"), _pattern(line.removeprefix("!"))) for line in rules]

    def has(self, path: str) -> bool:
        """Return whether a path, relative to the checkout, is included. The last rule that it matches decides."""
        left_out = False
        for excludes, matches in self._rules:
            if matches(path):
                left_out = excludes
        return not left_out


def _pattern(text: str) -> Callable[[str], object]:
    """Return a function that says whether a pattern matches a path, or a folder that contains it."""
    expression = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", text.strip("/")):
        expression += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return re.compile(f"{expression}(?:/.*)?").fullmatch

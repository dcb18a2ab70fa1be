"""Counts words of comments and docstrings, per 10,000: `python -m tools.prose server/queuelet/core operator`.

docs/glossary.md says which terms to use. The limits are what h11, kopf, procrastinate, svcs, trio, river and beanstalkd
have, so that a newcomer reads the prose of this project as fast as theirs.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.syntax import parse

PER = 10_000

MAX_RATES = {
    "nobody": 0.5,
    "somebody": 0.5,
    "whoever": 0.5,
    "tell": 3.0,
    "told": 3.0,
    "anew": 0.5,
    "beside": 0.5,
    "stand": 0.5,
    "what is": 1.6,
}
"""Words of a private dialect, with the highest rate of each per 10,000 words."""

MIN_RATES = {"because": 5.0, "instead": 3.0}
"""Words that give reasons and alternatives, with the lowest rate of each."""

_GENERATED = ("_pb2.py", "_pb2_grpc.py", "_pb2.pyi")


def python_files(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the Python files below folders, except for generated ones."""
    for folder in folders:
        files = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
        yield from (file for file in files if not file.name.endswith(_GENERATED))


def prose_of(source: str) -> str:
    """Return the comments and docstrings of a module, including docstrings of attributes."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    parts = [token.string.lstrip("#!: ") for token in tokens if token.type == tokenize.COMMENT]
    expressions = [node.value for node in ast.walk(parse(source)) if isinstance(node, ast.Expr)]
    parts += [each.value for each in expressions if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return "\n".join(parts)


def count(files: Iterable[Path]) -> tuple[Counter[str], int]:
    """Return the count of each word of the two tables, and of all words."""
    found: Counter[str] = Counter()
    total = 0
    for file in files:
        words = re.findall(r"[a-z']+", prose_of(file.read_text()).lower())
        total += len(words)
        text = f" {' '.join(words)} "
        for word in MAX_RATES | MIN_RATES:
            found[word] += text.count(f" {word} ")
    return found, total


def rates(folders: Iterable[Path]) -> tuple[dict[str, float], int]:
    """Return how many of 10,000 words each word of the two tables is, and how many words there are in all."""
    found, total = count(python_files(folders))
    return {word: found[word] * PER / max(total, 1) for word in MAX_RATES | MIN_RATES}, total


def problems(folders: Iterable[Path]) -> list[str]:
    """Return what the prose of folders has too much or too little of, a sentence each."""
    found, _ = rates(folders)
    too_many = [(word, f"more than {most}") for word, most in MAX_RATES.items() if found[word] > most]
    too_few = [(word, f"less than {least}") for word, least in MIN_RATES.items() if found[word] < least]
    return [f"{word}: {found[word]:.1f} of {PER:,} words, {limit}" for word, limit in too_many + too_few]


def main() -> None:
    """Print a table of folders and words."""
    folders = sys.argv[1:] or ["server", "operator", "tests", "tools", "bench"]
    print(f"{'':40}", *(f"{word:>9}" for word in MAX_RATES | MIN_RATES), f"{'words':>9}")
    for folder in folders:
        found, total = rates([Path(folder)])
        print(f"{folder:40}", *(f"{rate:9.1f}" for rate in found.values()), f"{total:9,}")


if __name__ == "__main__":
    main()

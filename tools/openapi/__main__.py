"""Writes the OpenAPI document into a file, or checks with `--check` that the file has it."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.openapi.document import document, to_text


def main(arguments: list[str]) -> None:
    """Write or check the file of the last argument."""
    file = Path(arguments[-1])
    text = to_text(document())
    if arguments[0] != "--check":
        file.write_text(text)
    elif not file.exists() or file.read_text() != text:
        sys.exit(f"{file}: it differs from queue.proto; run make generate and commit it")


main(sys.argv[1:])

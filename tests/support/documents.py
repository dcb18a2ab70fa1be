"""Documents, parsed for tests: their command blocks and their tables."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

TOOLS = Path(sys.executable).parent
"""The folder of our own programs."""


@dataclass
class Shown:
    """A command of a document, and the output lines that the document shows."""

    command: str
    output: list[str] = field(default_factory=list)


def commands(document: str, section: str = "") -> list[str]:
    """Return the commands of the blocks of a document, or of its part below a heading of three hashes."""
    return [each.command for each in transcript(document, section)]


def transcript(document: str, section: str = "") -> list[Shown]:
    """Return the commands and their output.

    In a `console` block a command is a line that begins with `$ `; its output follows. An `sh` block has only commands,
    ready to paste: one per line, and a command with a here-document extends to the end of that.
    """
    text = (ROOT / document).read_text()
    if section:
        text = re.split(r"\n###? ", text.split(f"\n### {section}\n")[1])[0]
    found: list[Shown] = []
    for kind, block in re.findall(r"```(console|sh)\n(.*?)```", text, re.DOTALL):
        found += _shown(block) if kind == "console" else map(Shown, _pasted(block))
    return found


def _shown(block: str) -> list[Shown]:
    found: list[Shown] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Shown(line[2:]))
        else:
            # A prompt on a second line would be pasted with it.
            assert not line.startswith("> "), f"use a block `sh` without prompts for {line!r}"
            found[-1].output.append(line)
    return found


def _pasted(block: str) -> list[str]:
    found: list[str] = []
    end = ""
    for line in block.splitlines():
        if end:
            found[-1] += f"\n{line}"
            end = "" if line == end else end
        else:
            found.append(line)
            here = re.search(r"<<'(\w+)'", line)
            end = here[1] if here else ""
    return found


def run_in_one_shell(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run commands in one shell, which stops at the first that fails; return their output.

    Our own programs are not on its PATH, because they are not on a reader's: the commands have to set it.
    """
    tools = str(TOOLS)
    path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if each != tools)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def free_ports(count: int) -> list[int]:
    """Return free ports."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def first_cells(document: str, heading: str) -> Iterator[str]:
    """Yield the first cell of each row of the table below a heading, without its backticks."""
    section = (ROOT / document).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    for row in rows[2:]:
        yield row.split("|")[1].strip().strip("`")

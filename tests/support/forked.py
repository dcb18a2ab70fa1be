"""Processes that start at once, because they are forked from one that has imported their modules.

A kill run starts thousands of processes, and most of a start is imports. These are normal processes: each has its own
memory, files and death by SIGKILL.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_PRELOADED = ["queuelet.cli.server", "queuelet.server", "support.exclusive_holder", __name__]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)


def server(flags: Sequence[str], log: Path) -> ForkServerProcess:
    """Start `queuelet server` with flags. Its output is appended to `log`."""
    return _started(_serve, list(flags), str(log))


def holder(arguments: Sequence[str]) -> tuple[ForkServerProcess, int]:
    """Start `support.exclusive_holder` with arguments; return it, and the file to read its output from."""
    reader, writer = _context.Pipe(duplex=False)
    with writer:
        process = _started(_hold, list(arguments), writer)
    output = os.dup(reader.fileno())
    reader.close()
    return process, output


def _started(work: Callable[..., None], *arguments: object) -> ForkServerProcess:
    process = _context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def _serve(flags: list[str], log: str) -> None:
    from queuelet.cli import main  # noqa: PLC0415  # only the child runs the program

    with open(log, "ab", buffering=0) as file:  # noqa: PTH123  # opened for its file descriptor
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["queuelet", "server", *flags]
    main()


def _hold(arguments: list[str], output: Connection) -> None:
    from support import exclusive_holder  # noqa: PLC0415  # only the child runs the program

    os.dup2(output.fileno(), 1)
    sys.argv = ["exclusive_holder", *arguments]
    exclusive_holder.main()

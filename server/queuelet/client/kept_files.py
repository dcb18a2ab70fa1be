"""Files with a client's token and certificates, which may change while it runs."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from time import monotonic

from queuelet.reminders import Reminder

_log = logging.getLogger("queuelet.client")


class KeptFile:
    """A file that is read whenever it is needed. While it is empty or cannot be read, its last good content is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = b""
        self._reminder = Reminder()

    def read(self) -> bytes:
        """Return the content.

        Raises:
            OSError, ValueError: the file cannot be read or is empty, and no earlier content is known.
        """
        problem = ""
        try:
            self._content = self._read()
        except (OSError, ValueError) as error:
            if not self._content:
                raise
            problem = str(error)
        if self._reminder.is_due(problem, monotonic()):
            if problem:
                _log.warning("cannot read a file, so its last content stays in use: %s", problem)
            else:
                _log.info("%s can be read again", self.path)
        return self._content

    def problem(self) -> str:
        """Return why the file cannot be used as it is now; empty if it can."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    def _read(self) -> bytes:
        content = self.path.read_bytes().strip()
        if not content:
            raise ValueError(f"{self.path}: the file is empty; put the token or certificate into it")
        return content


@cache
def kept_file(path: Path) -> KeptFile:
    """Return what reads a file. Clients that share a file share its last good content."""
    return KeptFile(path)

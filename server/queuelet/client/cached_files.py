"""Files with a client's token and certificates, which may change while it runs."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from time import monotonic

from queuelet.reminders import Reminder

_log = logging.getLogger("queuelet.client")


class CachedFile:
    """A file that is read at each use. While it is empty or cannot be read, its last good content is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = b""
        self._reminder = Reminder()

    def read(self) -> bytes:
        """Return the content.

        Raises:
            OSError, ValueError: The file cannot be read or is empty, and there is no earlier content.
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
                _log.warning("cannot read a file; using its last good content: %s", problem)
            else:
                _log.info("%s can be read again", self.path)
        return self._content

    def problem(self) -> str:
        """Return why the file cannot be used now; empty if it can."""
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
def cached_file(path: Path) -> CachedFile:
    """Return the reader of a file. Clients that use the same file share its last good content."""
    return CachedFile(path)

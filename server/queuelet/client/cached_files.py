"""Files with a client's token and certificates, which may change while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import monotonic

from queuelet.bearer_tokens import token_in
from queuelet.reminders import Reminder

_log = logging.getLogger("queuelet.client")


class CachedFile:
    """A file that is read at each use. While it cannot be read or is unusable, its last good content is used."""

    def __init__(self, path: Path, usable: Callable[[Path, bytes], bytes]) -> None:
        """Take a function that returns the usable part of a content, or raises ValueError."""
        self.path = path
        self._usable = usable
        self._content = b""
        self._reminder = Reminder()

    def read(self) -> bytes:
        """Return the content.

        Raises:
            OSError, ValueError: The file cannot be read or is unusable, and there is no earlier content.
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
        return self._usable(self.path, self.path.read_bytes())


@cache
def cached_certificate(path: Path) -> CachedFile:
    """Return the reader of a file with a certificate or a key.

    Clients that use the same file share its last good content.
    """
    return CachedFile(path, _not_empty)


@cache
def cached_token(path: Path) -> CachedFile:
    """Return the reader of a file with a token. Clients that use the same file share its last good token."""
    return CachedFile(path, token_in)


def _not_empty(path: Path, content: bytes) -> bytes:
    content = content.strip()
    if not content:
        raise ValueError(f"{path}: the file is empty; put the certificate or key into it")
    return content

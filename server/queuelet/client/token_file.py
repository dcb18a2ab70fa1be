"""The file with the bearer token that a client sends."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from time import monotonic

from queuelet.reminders import Reminder

_log = logging.getLogger("queuelet.client")


class TokenFile:
    """A file with a token, read at each call. While it is empty or cannot be read, its last good token is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = ""
        self._reminder = Reminder()

    def read(self) -> str:
        """Return the token.

        Raises:
            OSError, ValueError: the file cannot be read or is empty, and no earlier token is known.
        """
        problem = ""
        try:
            self._token = self._read()
        except (OSError, ValueError) as error:
            if not self._token:
                raise
            problem = str(error)
        if self._reminder.is_due(problem, monotonic()):
            if problem:
                _log.warning("cannot read the token, so the last one stays in use: %s", problem)
            else:
                _log.info("the token can be read again")
        return self._token

    def _read(self) -> str:
        token = self.path.read_text().strip()
        if not token:
            raise ValueError(f"{self.path}: the token file is empty; put the token into it")
        return token


@cache
def token_file(path: Path) -> TokenFile:
    """Return what reads a file. Clients that share a file share its last good token."""
    return TokenFile(path)

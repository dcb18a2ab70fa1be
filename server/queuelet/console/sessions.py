"""Sessions of browsers: random IDs, each for the `Authorization` that a user signed in with.

A session gives no rights of its own. Each call that is made in it is authorized as if it had the user's token, so it
also ends with the token. Sessions are in memory only: they end with the process.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import time

SECONDS = 12 * 3600.0
"""How long a session lasts."""

MAX_SESSIONS = 1_000
"""The most sessions. One more ends the oldest."""

_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """What a session stands for."""

    authorization: str
    """The `Authorization` of its calls."""
    expires: float
    """When it ends, in seconds since 1970."""


class Sessions:
    """The sessions of a process."""

    def __init__(self, now: Callable[[], float] = time) -> None:
        """Make it without sessions.

        Args:
            now: returns the time in seconds since 1970.
        """
        self._now = now
        # By hashes, so that a comparison of IDs takes as long for a wrong one that is nearly right.
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of sessions, also of those that have ended but were not asked for again."""
        return len(self._sessions)

    def open(self, authorization: str) -> str:
        """Begin a session and return its ID, which is a secret."""
        session_id = secrets.token_urlsafe(_ID_BYTES)
        self._sessions[_hash(session_id)] = Session(authorization, self._now() + SECONDS)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session_id

    def find(self, session_id: str) -> Session | None:
        """Return a session, or None if there is none or it has ended."""
        key = _hash(session_id)
        session = self._sessions.get(key)
        if session and session.expires <= self._now():
            del self._sessions[key]
            return None
        return session

    def close(self, session_id: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(_hash(session_id), None)


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode(errors="replace")).digest()

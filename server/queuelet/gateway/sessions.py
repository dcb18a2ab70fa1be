"""The browsers that may use the token of a gateway: each has signed in with a key that worked only once."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from time import monotonic

LONGEST = 12 * 3_600.0
"""Seconds after which a browser has to sign in again."""

MOST_SESSIONS = 32
"""The most browsers that are signed in at once; the oldest is signed out for another one."""


class Sessions:
    """Keys and sessions. Both are random, and neither says anything about the token."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Make it, without a session.

        Args:
            now: returns the time in seconds, by a clock that never jumps.
        """
        self._now = now
        self._sessions: dict[str, float] = {}
        self._key = ""

    def new_key(self) -> str:
        """Return a new key, which replaces the one before."""
        self._key = secrets.token_urlsafe(32)
        return self._key

    def sign_in(self, key: str) -> str | None:
        """Return a new session for the key, which is then used up; None if it is not the key."""
        if not self._key or not hmac.compare_digest(key.encode(errors="replace"), self._key.encode()):
            return None
        self._key = ""
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions, key=self._sessions.__getitem__)]
        session = secrets.token_urlsafe(32)
        self._sessions[session] = self._now()
        return session

    def admits(self, session: str) -> bool:
        """Return whether there is such a session, and it is not too old."""
        began = self._sessions.get(session)
        if began is None:
            return False
        if self._now() - began > LONGEST:
            del self._sessions[session]
            return False
        return True

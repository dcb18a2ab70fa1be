"""The key in the address of a console of one user. The first browser that opens the address is signed in."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable


class SignInKey:
    """A key that works once. It is random, and says nothing about the token."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        """Make it without a key.

        Args:
            announce: is called with each new key.
        """
        self._announce = announce
        self._key = ""

    def renew(self) -> None:
        """Replace the key by a new one."""
        self._key = secrets.token_urlsafe(32)
        self._announce(self._key)

    def take(self, key: str) -> bool:
        """Return whether this is the key, which is then used up."""
        if not self._key or not hmac.compare_digest(key.encode(errors="replace"), self._key.encode()):
            return False
        self._key = ""
        return True

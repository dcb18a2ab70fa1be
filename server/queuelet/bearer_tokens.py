"""Decides which content of a file is usable as a bearer token, for servers and clients alike."""

from __future__ import annotations

from pathlib import Path

_PRINTABLE_OR_NEWLINE = frozenset((*b"\r\n", *range(0x20, 0x7F)))


def token_in(path: Path, content: bytes) -> bytes:
    """Return the token in the content of a file, without the whitespace around it.

    The metadata of a call can carry only printable ASCII, so a token with anything else would never match.

    Args:
        path: the file, for the error. Errors never contain the content.
        content: its bytes.

    Raises:
        ValueError: the content is not usable as a token.
    """
    token = content.strip()
    if not token:
        raise ValueError(f"{path}: empty; write the token to it")
    if not _PRINTABLE_OR_NEWLINE.issuperset(token):
        raise ValueError(
            f"{path}: not a token, because it has bytes that are not printable ASCII; write the token to it"
        )
    if (lines := len(token.splitlines())) > 1:
        raise ValueError(f"{path}: {lines:,} lines instead of one; write only the token to it")
    return token

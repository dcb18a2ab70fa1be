"""Makes untrusted text safe to print on a terminal, in a log or through kubectl."""

from __future__ import annotations

import re


def printable(text: str) -> str:
    """Return a text with the characters escaped that could control a terminal.

    Control characters, DEL, bidirectional overrides and the like become Python escapes. Newlines and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape", "replace").decode() for c in text
    )


def printable_json(text: str) -> str:
    r"""Return JSON with the same value and no characters that could control a terminal, such as `\u202e` escaped."""
    return _NOT_PLAIN.sub(_escaped, text)


_NOT_PLAIN = re.compile(r"[^\n\x20-\x7e]")


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

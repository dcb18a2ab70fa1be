"""Selectors on tags, as `kubectl -l` reads them: `team=a,tier!=b,zone in (x, y),env notin (dev),critical,!old`.

Every requirement must hold. `team=a` holds if one of the key's values is `a`, because a key may have several values
here. As in Kubernetes, `tier!=b` and `notin` also hold if the key is missing.
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from queuelet.errors import InvalidArgument
from queuelet.limits import MAX_REQUIREMENTS, MAX_SELECTOR_CHARACTERS
from queuelet.tags import Tags

_TOKEN = re.compile(r"\s*(!=|==|[=!,()]|[^\s=!,()]+)")
_MARKS = frozenset(("!=", "==", "=", "!", ",", "(", ")"))

Selector = Callable[[Tags], bool]


def parse_selector(text: str, field: str = "selector") -> Selector:
    """Return a function that returns whether the selector matches some tags. An empty selector matches all.

    Raises:
        InvalidArgument: the text is not a valid selector; the error shows where parsing failed.
    """
    if len(text) > MAX_SELECTOR_CHARACTERS:
        raise InvalidArgument(
            f"{field}: {len(text):,} characters are too many; use at most {MAX_SELECTOR_CHARACTERS:,}", field=field
        )
    requirements = _Reader(text, field).requirements()
    if len(requirements) > MAX_REQUIREMENTS:
        raise InvalidArgument(
            f"{field}: {len(requirements)} requirements are too many; use at most {MAX_REQUIREMENTS}", field=field
        )

    def selects(tags: Tags) -> bool:
        values_of: dict[str, list[str]] = {}
        for key, value in tags:
            values_of.setdefault(key, []).append(value)
        return all(need.holds(values_of.get(need.key, ())) for need in requirements)

    return selects


class _Requirement(NamedTuple):
    key: str
    values: frozenset[str] | None
    """The values to look for; None for any value."""
    wanted: bool
    """Whether one of the values must be present, instead of absent."""

    def holds(self, values: Collection[str]) -> bool:
        there = bool(values) if self.values is None else not self.values.isdisjoint(values)
        return there == self.wanted


class _Reader:
    """Parses a selector token by token, from left to right."""

    def __init__(self, text: str, field: str) -> None:
        self._field = field
        self._text = text.rstrip()
        self._place = 0

    def requirements(self) -> list[_Requirement]:
        found: list[_Requirement] = []
        while self._text and (not found or self._next(",")):
            found.append(self._requirement())
        if self._place < len(self._text):
            raise self._unreadable()
        return found

    def _requirement(self) -> _Requirement:
        if self._next("!"):
            return _Requirement(self._word(), None, wanted=False)
        key = self._word()
        if self._next("=") or self._next("=="):
            return _Requirement(key, frozenset((self._value(),)), wanted=True)
        if self._next("!="):
            return _Requirement(key, frozenset((self._value(),)), wanted=False)
        if self._next("in"):
            return _Requirement(key, self._values(), wanted=True)
        if self._next("notin"):
            return _Requirement(key, self._values(), wanted=False)
        return _Requirement(key, None, wanted=True)

    def _values(self) -> frozenset[str]:
        if not self._next("("):
            raise self._unreadable()
        values = [self._value()]
        while self._next(","):
            values.append(self._value())
        if not self._next(")"):
            raise self._unreadable()
        return frozenset(values)

    def _word(self) -> str:
        word = self._value()
        if not word:
            raise self._unreadable()
        return word

    def _value(self) -> str:
        """Read a word; return an empty text if there is none, because a value may be empty."""
        token = _TOKEN.match(self._text, self._place)
        if not token or token[1] in _MARKS:
            return ""
        self._place = token.end()
        return token[1]

    def _next(self, expected: str) -> bool:
        """Read the next token if it is the expected one, and return whether it was."""
        token = _TOKEN.match(self._text, self._place)
        if not token or token[1] != expected:
            return False
        self._place = token.end()
        return True

    def _unreadable(self) -> InvalidArgument:
        rest = self._text[self._place : self._place + 80].strip()
        return InvalidArgument(
            f"{self._field}: cannot read {rest or self._text[-80:]!r}; write requirements as "
            "key=value, key!=value, key in (a, b), key notin (a, b), key or !key, with commas between them",
            field=self._field,
        )

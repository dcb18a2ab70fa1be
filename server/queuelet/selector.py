"""Selectors on tags, as `kubectl -l` reads them: `team=a,tier!=b,zone in (x, y),env notin (dev),critical,!old`.

Each requirement must hold. Since a key may have several values, `team=a` holds if one of them is `a`; and as in
Kubernetes, `tier!=b` and `notin` hold too where the key is missing.
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from queuelet.errors import InvalidArgument
from queuelet.tags import Tags

_KEY = r"(?P<key>[^\s,!=()]+)"
_REQUIREMENT = re.compile(
    rf"\s*(?:(?P<absent>!)\s*)?{_KEY}\s*"
    r"(?:(?P<equality>==|=|!=)\s*(?P<value>[^\s,!=()]*)|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?\s*(?P<end>,|$)"
)


class _Requirement(NamedTuple):
    key: str
    values: frozenset[str] | None
    """The values one of which must be there; None for any."""
    wanted: bool
    """Whether the tag must be there, or must not."""


Selector = Callable[[Tags], bool]


def parse_selector(text: str, field: str = "selector") -> Selector:
    """Return a function that tells whether tags are selected; an empty text selects all.

    Raises:
        InvalidArgument: the text is not a selector; the error shows where it stops being one.
    """
    requirements = _requirements(text, field)

    def selects(tags: Tags) -> bool:
        return all(
            any(key == need.key and (need.values is None or value in need.values) for key, value in tags) == need.wanted
            for need in requirements
        )

    return selects


def _requirements(text: str, field: str) -> list[_Requirement]:
    requirements: list[_Requirement] = []
    text = text.strip()
    position = 0
    while position < len(text) or text.endswith(","):
        match = _REQUIREMENT.match(text, position)
        if not match or (match["absent"] and (match["equality"] or match["set"])):
            raise InvalidArgument(
                f"{field}: cannot read {text[position : position + 80]!r}; write requirements as "
                "key=value, key!=value, key in (a, b), key notin (a, b), key or !key, with commas between them",
                field=field,
            )
        position = match.end() if match["end"] else len(text)
        requirements.append(_requirement(match))
        if not match["end"]:
            break
    return requirements


def _requirement(match: re.Match[str]) -> _Requirement:
    key = match["key"]
    if match["equality"]:
        return _Requirement(key, frozenset((match["value"],)), match["equality"] != "!=")
    if match["set"]:
        values = frozenset(value.strip() for value in match["values"].split(","))
        return _Requirement(key, values, match["set"] == "in")
    return _Requirement(key, None, not match["absent"])

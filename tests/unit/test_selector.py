"""Selectors are parsed as kubectl parses them, for tags whose keys may have several values."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.errors import InvalidArgument
from queuelet.selector import parse_selector
from queuelet.tags import Tag

TAGS = (Tag("team", "checkout"), Tag("team", "billing"), Tag("tier", "gold"), Tag("empty", ""))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "team=checkout",
        "team==billing",
        "team = checkout , tier=gold",
        "team=checkout,team=billing",
        "tier!=silver",
        "missing!=anything",
        "tier in (gold, silver)",
        "tier in (gold)",
        "tier notin (silver,bronze)",
        "missing notin (a)",
        "team",
        "!missing",
        "! missing",
        "empty=",
        "empty in ()",
        "tier in (gold),!missing,team",
    ],
)
def test_a_selector_matches(text: str) -> None:
    assert parse_selector(text)(TAGS)


@pytest.mark.parametrize(
    "text",
    [
        "team=other",
        "team!=checkout",
        "tier in (silver)",
        "tier notin (gold)",
        "missing",
        "missing=",
        "missing in (a)",
        "!team",
        "team=checkout,tier=silver",
    ],
)
def test_a_selector_does_not_match(text: str) -> None:
    assert not parse_selector(text)(TAGS)


@pytest.mark.parametrize(
    "text",
    [
        "=a",
        "a=b,",
        ",a=b",
        "a=b,,c=d",
        "a in b",
        "a in (b",
        "a in (b))",
        "!a=b",
        "!a in (b)",
        "a b",
        "a=b c=d",
        "!",
        "a=(b)",
    ],
)
def test_an_invalid_selector_is_refused_with_the_place_and_a_remedy(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"selector: cannot read .*key=value") as refused:
        parse_selector(text)
    assert refused.value.facts["field"] == "selector"


@pytest.mark.need(17)
@given(st.text(alphabet="ab=!,() in", max_size=20))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        parse_selector(text)(TAGS)


@pytest.mark.need(18)
def test_requirements_and_characters_are_bounded() -> None:
    """Each requirement is checked against the tags of every queue or message."""
    parse_selector(",".join(["!a"] * 64))
    with pytest.raises(InvalidArgument, match="selector: 65 requirements are too many; use at most 64"):
        parse_selector(",".join(["!a"] * 65))
    with pytest.raises(InvalidArgument, match="selector: 4,097 characters are too many"):
        parse_selector("a" * 4_097)

"""All addresses in the pages are relative, so that the console works below any path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import queuelet.console

STATIC = Path(queuelet.console.__file__).parent / "static"
FILES = [file for file in sorted(STATIC.rglob("*")) if file.suffix in {".html", ".css", ".js", ".mjs"}]

ABSOLUTE = re.compile(r"""(?:["'`=]|url\()(?://?[a-z]|https?://)""")
"""An address that begins with a slash or a host, at the beginning of a text or of an attribute."""


@pytest.mark.need(45)
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(STATIC)))
def test_no_address_in_the_pages_begins_with_a_slash_or_a_host(file: Path) -> None:
    assert not ABSOLUTE.findall(file.read_text())


@pytest.mark.parametrize("text", ['href="/v1"', "fetch('/v1')", "`/v1/${id}`", "url(/a.svg)", 'src="//host/a"'])
def test_an_address_that_is_absolute_is_found(text: str) -> None:
    assert ABSOLUTE.search(text)


@pytest.mark.parametrize("text", ['href="v1"', "fetch('./v1')", 'src="../a.js"', "/** A comment. */", "a / b", "'/'"])
def test_other_text_is_not(text: str) -> None:
    assert not ABSOLUTE.search(text)

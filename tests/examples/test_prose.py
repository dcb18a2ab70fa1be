"""Comments and docstrings are written in the English of the field."""

from __future__ import annotations

import pytest

from support.documents import ROOT
from tools.prose import problems, prose_of

PACKAGES = ["server", "operator", "tests", "tools", "bench"]


@pytest.mark.parametrize("package", PACKAGES)
def test_prose_has_as_few_words_of_a_dialect_as_that_of_well_known_projects(package: str) -> None:
    assert problems([ROOT / package]) == []


def test_comments_and_docstrings_are_prose_and_other_strings_are_not() -> None:
    source = '"""Module."""\nX = 1\n"""Attribute."""\ndef f():\n    """Function."""\n    return "text"  # comment\n'
    assert sorted(prose_of(source).split()) == ["Attribute.", "Function.", "Module.", "comment"]

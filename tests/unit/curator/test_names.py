"""The names of Curator's nodes, and their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.curator.names import (
    MAX_PRIORITY,
    MIN_PRIORITY,
    AmbiguousNames,
    Name,
    Recipe,
    in_order,
    is_shard,
    read,
    recipe_of,
)

PRIORITIES = st.integers(MIN_PRIORITY, MAX_PRIORITY)
EPOCHS = st.integers(1, 2**63 - 1)
SEQUENCES = st.integers(0, 2**31 - 1)
IDS = st.text(st.characters(exclude_characters="/|", exclude_categories=["Cc", "Cs"]), min_size=1)


def priority_name(priority: int, sequence: int) -> str:
    """As DistributedPriorityQueue writes it, and ZooKeeper completes it."""
    return f"queue-{'0' if priority < 0 else '1'}{priority & 0xFFFFFFFF:08X}{sequence:010d}"


def delay_name(epoch: int, sequence: int) -> str:
    return f"queue-|{epoch:08X}|{sequence:010d}"


def id_name(own: str, sequence: int) -> str:
    return f"queue-|{own}|{sequence:010d}"


def known(node: str, recipe: Recipe) -> Name:
    name = read(node, recipe)
    assert name is not None, node
    return name


def order(nodes: list[str], recipe: Recipe) -> list[str]:
    return [name.node for name in in_order(known(node, recipe) for node in nodes)]


@pytest.mark.parametrize(
    ("node", "priority"),
    [
        ("queue-1000000000000000003", 0),
        ("queue-1000000050000000003", 5),
        ("queue-0FFFFFFFF0000000003", -1),
        ("queue-0800000000000000003", MIN_PRIORITY),
        ("queue-17FFFFFFF0000000003", MAX_PRIORITY),
        ("queue-100000005-000000003", 5),
        ("queue-10000000500000000030000000009", 5),
    ],
)
def test_c28_a_name_shows_a_priority(node: str, priority: int) -> None:
    assert known(node, Recipe.PRIORITY).priority == priority


@given(st.lists(st.tuples(PRIORITIES, SEQUENCES), unique_by=lambda each: each[1]))
def test_c28_smaller_priorities_come_first_and_equal_ones_by_their_sequence(made: list[tuple[int, int]]) -> None:
    nodes = [priority_name(*each) for each in made]
    assert [known(node, Recipe.PRIORITY).priority for node in nodes] == [priority for priority, _ in made]
    assert order(nodes, Recipe.PRIORITY) == [priority_name(*each) for each in sorted(made)]


@given(st.lists(st.one_of(st.builds(priority_name, PRIORITIES, SEQUENCES), st.from_regex(r"\Aqueue-[0-9]{10}\Z"))))
def test_a_requeued_item_has_the_priority_that_it_sorts_by(nodes: list[str]) -> None:
    """Its name has none, so Curator delivers it where the name sorts."""
    names = in_order(known(node, Recipe.PRIORITY) for node in nodes)
    assert [name.node for name in names] == sorted(nodes)
    priorities = [name.priority for name in names]
    assert priorities == sorted(priorities)


def test_a_requeued_item_of_a_priority_queue_comes_first() -> None:
    assert known("queue-0000000007", Recipe.PRIORITY).priority == MIN_PRIORITY


@given(st.lists(st.tuples(EPOCHS, SEQUENCES), unique_by=lambda each: each[1]))
def test_c26_delayed_items_come_by_their_time(made: list[tuple[int, int]]) -> None:
    nodes = [delay_name(*each) for each in made]
    assert [known(node, Recipe.DELAY).due for node in nodes] == [due for due, _ in made]
    assert order(nodes, Recipe.DELAY) == [delay_name(*each) for each in sorted(made)]


def test_a_requeued_item_of_a_delay_queue_is_due() -> None:
    assert known("queue-0000000009", Recipe.DELAY).due == 0
    assert order([delay_name(5, 1), "queue-0000000009"], Recipe.DELAY) == ["queue-0000000009", delay_name(5, 1)]


@given(st.lists(st.tuples(IDS, SEQUENCES), unique_by=lambda each: each[1]))
def test_c30_items_with_ids_come_in_the_order_of_their_puts(made: list[tuple[str, int]]) -> None:
    nodes = [id_name(*each) for each in made]
    assert [known(node, Recipe.ID).id for node in nodes] == [own for own, _ in made]
    in_puts = sorted(made, key=lambda each: each[1])
    assert order(nodes, Recipe.ID) == [id_name(*each) for each in in_puts]


@pytest.mark.parametrize("recipe", [Recipe.QUEUE, Recipe.SIMPLE])
@given(sequences=st.lists(SEQUENCES, unique=True))
def test_other_items_come_in_the_order_of_their_puts(recipe: Recipe, sequences: list[int]) -> None:
    prefix = "qn-" if recipe is Recipe.SIMPLE else "queue-"
    nodes = [f"{prefix}{sequence:010d}" for sequence in sequences]
    assert order(nodes, recipe) == [f"{prefix}{sequence:010d}" for sequence in sorted(sequences)]


@pytest.mark.parametrize(
    ("node", "recipe"),
    [
        ("notes", Recipe.QUEUE),
        ("queue-", Recipe.QUEUE),
        ("queue-123", Recipe.QUEUE),
        ("queue-0000000001x", Recipe.QUEUE),
        ("queue-0000000001\n", Recipe.QUEUE),
        ("queue-1000000050000000003", Recipe.QUEUE),
        ("qn-0000000001", Recipe.QUEUE),
        ("queue-1800000000000000003", Recipe.PRIORITY),
        ("queue-0700000000000000003", Recipe.PRIORITY),
        ("queue-10000000a0000000003", Recipe.PRIORITY),
        ("queue-|0000000A|0000000003", Recipe.PRIORITY),
        ("queue-|A|0000000003", Recipe.DELAY),
        ("queue-|0000000000A|0000000003", Recipe.DELAY),
        ("queue-|FFFFFFFFFFFFFFFF|0000000003", Recipe.DELAY),
        ("queue-||0000000003", Recipe.ID),
        ("queue-|a|b|0000000003", Recipe.ID),
        ("queue-0000000001", Recipe.SIMPLE),
    ],
)
def test_c20_a_name_that_a_recipe_does_not_make_is_foreign(node: str, recipe: Recipe) -> None:
    assert read(node, recipe) is None


@pytest.mark.parametrize(
    ("nodes", "recipe"),
    [
        ([], None),
        (["notes", "queue-x"], None),
        (["queue-0000000001", "notes"], Recipe.QUEUE),
        (["queue-0000000001", "queue-1000000050000000003"], Recipe.PRIORITY),
        (["queue-0000000001", "queue-|018F3A2B4C5|0000000003"], Recipe.ID),
        (["queue-|198F3A2B4C5|0000000003", "queue-0000000001"], Recipe.DELAY),
        (["queue-|198F3A2B4C5|0000000003", "queue-|19876543210|0000000004"], Recipe.DELAY),
        (["queue-|198F3A2B4C5|0000000003", "queue-|x|0000000004"], Recipe.ID),
        (["qn-0000000001"], Recipe.SIMPLE),
    ],
)
def test_names_show_their_recipe(nodes: list[str], recipe: Recipe | None) -> None:
    assert recipe_of(nodes) is recipe


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        (
            ["queue-|DEADBEEF|0000000003"],
            "the text between the bars of queue-|DEADBEEF|0000000003 may be a time or an ID",
        ),
        (["queue-|15551234567|0000000003"], "may be a time or an ID"),
        (["qn-0000000001", "queue-0000000001"], "there are both qn-0000000001 and queue-0000000001"),
        (["queue-1000000050000000003", "queue-|a|0000000003"], "no recipe creates both"),
    ],
    ids=["hex digits of no time of ours", "a telephone number", "simple and not", "priorities and ids"],
)
def test_names_that_could_be_one_or_the_other_are_not_guessed(nodes: list[str], complaint: str) -> None:
    with pytest.raises(AmbiguousNames) as raised:
        recipe_of(nodes)
    assert complaint in str(raised.value)


def test_a_shard_is_known_by_its_name() -> None:
    assert is_shard("queue-6f9c1d8e-0b1a-4f0e-9c55-3a1f0c9be001")
    assert not is_shard("queue-0000000001")

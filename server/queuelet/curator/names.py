"""The names of Curator's nodes: which recipe made them, what they say, and the order that they stand for.

ZooKeeper puts a sequence behind each name: ten digits, or a minus and nine or ten once it has counted past 2**31.
Before it stands, by recipe:

- queue (DistributedQueue): `queue-`
- priority (DistributedPriorityQueue): `queue-`, `0` below zero and `1` otherwise, and the int32 in 8 hex digits
- delay (DistributedDelayQueue): `queue-|`, the epoch in milliseconds in 8 hex digits or more, `|`
- id (DistributedIdQueue): `queue-|`, the id, `|`
- simple (SimpleDistributedQueue): `qn-`

A consumer that fails has its item put back under the plain name of the first recipe, whichever the queue is (but for
`id`). That name has no priority and no epoch: Curator delivers it where its letters sort, mostly first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

LEAST_PRIORITY, MOST_PRIORITY = -(2**31), 2**31 - 1

_LARGEST_EPOCH = 2**63 - 1
"""A Java long."""

# Early Curators requeued an item under its old name, and ZooKeeper added one more each time (CURATOR-56).
_SEQUENCE = r"(?:[0-9]{10}|-[0-9]{9,10})+"
_PLAIN = re.compile(f"queue-{_SEQUENCE}")
_PRIORITY = re.compile(f"queue-(?:1[0-7]|0[89A-F])[0-9A-F]{{7}}{_SEQUENCE}")
_BARRED = re.compile(rf"(?P<before>queue-)\|(?P<id>[^|]+)\|(?P<after>{_SEQUENCE})")
_SIMPLE = re.compile(f"qn-{_SEQUENCE}")
_SHARD = re.compile(r"queue-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_EPOCH = re.compile(r"[0-9A-F]{8}|[1-9A-F][0-9A-F]{8,15}")
_EPOCH_OF_OUR_TIME = re.compile(r"[1-9A-F][0-9A-F]{10}")
"""Between 2004 and 2527."""


class Recipe(StrEnum):
    """A kind of queue that Curator has."""

    QUEUE = "queue"
    PRIORITY = "priority"
    DELAY = "delay"
    ID = "id"
    SIMPLE = "simple"

    @property
    def has_frames(self) -> bool:
        """Whether its nodes hold items as `items` reads them, and not one item as it is."""
        return self is not Recipe.SIMPLE


class AmbiguousNames(ValueError):
    """The names do not tell which recipe made them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """The name of a node, read."""

    node: str
    """All of it."""

    rank: tuple[int, str]
    """Smaller ones are delivered first."""

    priority: int = 0
    """An int32; smaller comes first."""

    due: int = 0
    """When it may be delivered first, in milliseconds since 1970; 0 for at once."""

    id: str = ""
    """The id that was given with the item, with `_` for each `/` and `|` in it."""


def read(node: str, recipe: Recipe) -> Name | None:
    """Return what a name says, None if it is none that this recipe gives to an item."""
    if recipe is Recipe.SIMPLE:
        return Name(node=node, rank=(0, node)) if _SIMPLE.fullmatch(node) else None
    barred = _BARRED.fullmatch(node)
    match recipe:
        case Recipe.PRIORITY if _PRIORITY.fullmatch(node) or _PLAIN.fullmatch(node):
            return Name(node=node, rank=(0, node), priority=_priority(node))
        case Recipe.DELAY if barred:
            due = _epoch(barred["id"])
            return None if due is None else Name(node=node, rank=(due, node), due=due)
        case Recipe.ID if barred:
            return Name(node=node, rank=(0, barred["before"] + barred["after"]), id=barred["id"])
        case Recipe.QUEUE | Recipe.DELAY | Recipe.ID if _PLAIN.fullmatch(node):
            return Name(node=node, rank=(0, node))
    return None


def _priority(node: str) -> int:
    """Return the priority that stands for where a name sorts.

    The nine hex digits that begin a prioritized name are its priority plus 2**32. Those that begin a plain one stand
    for none, and yet Curator sorts by them.
    """
    digits = node.removeprefix("queue-")[:9]
    return min(max(int(digits, 16) - 2**32, LEAST_PRIORITY), MOST_PRIORITY)


def _epoch(digits: str) -> int | None:
    if not _EPOCH.fullmatch(digits):
        return None
    epoch = int(digits, 16)
    return epoch if epoch <= _LARGEST_EPOCH else None


def is_item(node: str) -> bool:
    """Tell whether any recipe gives this name to an item."""
    return any(read(node, recipe) for recipe in Recipe)


def is_shard(node: str) -> bool:
    """Tell whether this is the name of a whole queue, one of those that a QueueSharder spreads its items over."""
    return _SHARD.fullmatch(node) is not None


def recipe_of(nodes: Iterable[str]) -> Recipe | None:
    """Return which recipe made these nodes, None if none of them is Curator's.

    Raises:
        AmbiguousNames: it could be one or the other, and a wrong guess would lose ids or delays.
    """
    examples: dict[Recipe, str] = {}
    barred: list[str] = []
    for node in nodes:
        if _SIMPLE.fullmatch(node):
            examples[Recipe.SIMPLE] = node
        elif _PLAIN.fullmatch(node):
            examples[Recipe.QUEUE] = node
        elif _PRIORITY.fullmatch(node):
            examples[Recipe.PRIORITY] = node
        elif match := _BARRED.fullmatch(node):
            barred.append(match["id"])
            examples[Recipe.ID] = node
    if barred:
        # Found as ids, which they may be.
        example = examples.pop(Recipe.ID)
        examples[_delay_or_id(barred, example)] = example
    # Items that were requeued have plain names in every queue but a simple one.
    plain = examples.pop(Recipe.QUEUE, None)
    if Recipe.SIMPLE in examples and plain:
        examples[Recipe.QUEUE] = plain
    if len(examples) > 1:
        one, other = sorted(examples.values())[:2]
        raise AmbiguousNames(f"both {one} and {other} are there, and no one recipe makes both")
    return next(iter(examples), Recipe.QUEUE if plain else None)


def _delay_or_id(texts: list[str], example: str) -> Recipe:
    """Tell epochs from ids. An id may be any text, so that one like an epoch of our time could still be one."""
    if not all(_EPOCH.fullmatch(text) for text in texts):
        return Recipe.ID
    # Eleven digits that are all decimal may as well be telephone numbers.
    if all(map(_EPOCH_OF_OUR_TIME.fullmatch, texts)) and not all(map(str.isdecimal, texts)):
        return Recipe.DELAY
    raise AmbiguousNames(f"what {example} has between its bars may be a time or an id")


def in_order(names: Iterable[Name]) -> list[Name]:
    """Return names in the order in which Curator delivers their items."""
    return sorted(names, key=lambda name: name.rank)

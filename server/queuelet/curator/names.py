"""The names of Curator's nodes: which recipe created them, what they contain, and their order.

ZooKeeper appends a sequence number to each name: ten digits, or a minus sign and nine or ten digits once the number has
overflowed 2**31. The part before it depends on the recipe:

- queue (DistributedQueue): `queue-`
- priority (DistributedPriorityQueue): `queue-`, `0` below zero and `1` otherwise, and the int32 in 8 hex digits
- delay (DistributedDelayQueue): `queue-|`, the epoch in milliseconds in 8 hex digits or more, `|`
- id (DistributedIdQueue): `queue-|`, the ID, `|`
- simple (SimpleDistributedQueue): `qn-`

If a consumer fails, its item is put back under the plain name of the first recipe, except in an `id` queue. That name
has no priority and no epoch, so Curator delivers the item where the name sorts, mostly first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MIN_PRIORITY, MAX_PRIORITY = -(2**31), 2**31 - 1

_MAX_EPOCH = 2**63 - 1
"""The largest Java long."""

# Early versions of Curator requeued an item under its old name, so ZooKeeper appended one more each time (CURATOR-56).
_SEQUENCE = r"(?:[0-9]{10}|-[0-9]{9,10})+"
_PLAIN = re.compile(f"queue-{_SEQUENCE}")
_PRIORITY = re.compile(f"queue-(?:1[0-7]|0[89A-F])[0-9A-F]{{7}}{_SEQUENCE}")
_BARRED = re.compile(rf"(?P<before>queue-)\|(?P<id>[^|]+)\|(?P<after>{_SEQUENCE})")
_SIMPLE = re.compile(f"qn-{_SEQUENCE}")
_SHARD = re.compile(r"queue-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_EPOCH = re.compile(r"[0-9A-F]{8}|[1-9A-F][0-9A-F]{8,15}")
_EPOCH_OF_OUR_TIME = re.compile(r"[1-9A-F][0-9A-F]{10}")
"""An epoch between 2004 and 2527."""


class Recipe(StrEnum):
    """A kind of queue in Curator."""

    QUEUE = "queue"
    PRIORITY = "priority"
    DELAY = "delay"
    ID = "id"
    SIMPLE = "simple"

    @property
    def has_frames(self) -> bool:
        """Whether its nodes contain framed items, as `items` parses them, instead of one plain item."""
        return self is not Recipe.SIMPLE


class AmbiguousNames(ValueError):
    """The names fit more than one recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """The parsed name of a node."""

    node: str
    """The whole name."""

    rank: tuple[int, str]
    """The sort key of the delivery order."""

    priority: int = 0
    """An int32; smaller values are delivered first."""

    due: int = 0
    """The earliest time of delivery, in milliseconds since 1970; 0 for at once."""

    id: str = ""
    """The ID that was given with the item, with `_` for each `/` and `|` in it."""


def read(node: str, recipe: Recipe) -> Name | None:
    """Parse a name. Return None if this recipe does not give such a name to an item."""
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
    """Return the priority that corresponds to the place where a name sorts.

    The nine hex digits at the start of a prioritized name are its priority plus 2**32. Those at the start of a plain
    name have no such meaning, but Curator sorts by them all the same.
    """
    digits = node.removeprefix("queue-")[:9]
    return min(max(int(digits, 16) - 2**32, MIN_PRIORITY), MAX_PRIORITY)


def _epoch(digits: str) -> int | None:
    if not _EPOCH.fullmatch(digits):
        return None
    epoch = int(digits, 16)
    return epoch if epoch <= _MAX_EPOCH else None


def is_item(node: str) -> bool:
    """Return whether any recipe gives this name to an item."""
    return any(read(node, recipe) for recipe in Recipe)


def is_shard(node: str) -> bool:
    """Return whether this is the name of a whole queue, one of those that a QueueSharder spreads its items over."""
    return _SHARD.fullmatch(node) is not None


def recipe_of(nodes: Iterable[str]) -> Recipe | None:
    """Return which recipe created these nodes; None if none of them is Curator's.

    Raises:
        AmbiguousNames: More than one recipe fits, and a wrong guess would lose IDs or delays.
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
        # They were collected as IDs, but may be delays.
        example = examples.pop(Recipe.ID)
        examples[_delay_or_id(barred, example)] = example
    # Requeued items have plain names in all kinds of queues but simple ones.
    plain = examples.pop(Recipe.QUEUE, None)
    if Recipe.SIMPLE in examples and plain:
        examples[Recipe.QUEUE] = plain
    if len(examples) > 1:
        one, other = sorted(examples.values())[:2]
        raise AmbiguousNames(f"there are both {one} and {other}, and no recipe creates both")
    return next(iter(examples), Recipe.QUEUE if plain else None)


def _delay_or_id(texts: list[str], example: str) -> Recipe:
    """Distinguish epochs from IDs. An ID may be any text, even one that looks like a current epoch."""
    if not all(_EPOCH.fullmatch(text) for text in texts):
        return Recipe.ID
    # Eleven decimal digits may be telephone numbers instead.
    if all(map(_EPOCH_OF_OUR_TIME.fullmatch, texts)) and not all(map(str.isdecimal, texts)):
        return Recipe.DELAY
    raise AmbiguousNames(f"the text between the bars of {example} may be a time or an ID")


def in_order(names: Iterable[Name]) -> list[Name]:
    """Return names in the order in which Curator delivers their items."""
    return sorted(names, key=lambda name: name.rank)

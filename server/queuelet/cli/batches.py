"""Splits items into batches that are well below the server's limits for one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

ITEMS = 1_000
"""The most items in one call. A server accepts 10,000 by default."""

BYTES = 1024 * 1024
"""The most bytes in one call, unless a single item is larger. A server accepts 4 MiB by default."""

_Item = TypeVar("_Item")


def batches(items: Iterable[_Item], size: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """Yield the items in order, in batches."""
    batch: list[_Item] = []
    held = 0
    for item in items:
        if batch and (len(batch) == ITEMS or held + size(item) > BYTES):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size(item)
    if batch:
        yield batch

"""Answers that wait until what they tell of is kept."""

from __future__ import annotations

from collections.abc import Awaitable

from queuelet.core.queue import Queue

_MEMORY, _DISK = 1, 2
"""The numbers of `Durability`."""

DURABILITY_2 = {False: bytes((0x10, _MEMORY)), True: bytes((0x10, _DISK))}
"""The field `durability = 2` of a batch's answer, by whether the store is durable."""

DURABILITY_3 = {False: bytes((0x18, _MEMORY)), True: bytes((0x18, _DISK))}
"""The field `durability = 3` of a single message's answer, by whether the store is durable."""


def after_commit(queue: Queue, answer: bytes | Awaitable[bytes]) -> bytes | Awaitable[bytes]:
    """Return an answer, or what to wait for where the call waits or the queue's store has yet to write what it did.

    Awaiting it raises `StoreFailed` where it is not known what became of that.
    """
    if not queue.is_durable:
        return answer
    if not isinstance(answer, bytes):
        return _waited(queue, answer)
    commit = queue.commit()
    return answer if commit is None else _after(commit, answer)


def once_defined(queue: Queue, answer: bytes) -> bytes | Awaitable[bytes]:
    """Return an answer, or what to wait for until the queue's definition is kept, or that it is gone."""
    commit = queue.store.commit()
    return answer if commit is None else _after(commit, answer)


async def _waited(queue: Queue, answer: Awaitable[bytes]) -> bytes:
    waited = await answer
    commit = queue.commit()
    if commit is not None:
        await commit
    return waited


async def _after(commit: Awaitable[None], answer: bytes) -> bytes:
    await commit
    return answer

"""Holds responses back until the changes they report are committed."""

from __future__ import annotations

from collections.abc import Awaitable

from queuelet.core.queue import Queue
from queuelet.definition import Durability
from queuelet.server.endpoint import Call
from queuelet.wire.errors import NEGZ_SERVICE

DURABILITY_2 = {each: bytes((0x10, each)) for each in Durability}
"""The field `durability = 2` in the response of a batch, by the durability of its queue."""

DURABILITY_3 = {each: bytes((0x18, each)) for each in Durability}
"""The field `durability = 3` in the response about a single message, by the durability of its queue."""


def about_one(queue: Queue, response: bytes, call: Call) -> bytes:
    """Return the response about a single message, with its durability unless the caller is a client of negz/q."""
    return response if call.service == NEGZ_SERVICE else response + DURABILITY_3[queue.durability]


def after_commit(queue: Queue, response: bytes | Awaitable[bytes]) -> bytes | Awaitable[bytes]:
    """Return the response, or an awaitable for it if the call has to wait or its changes are not committed yet.

    The awaitable raises `StoreFailed` if the store failed, so that it is unknown whether the changes are durable.
    """
    if not queue.is_durable:
        return response
    if not isinstance(response, bytes):
        return _waited(queue, response)
    commit = queue.commit()
    return response if commit is None else _after(commit, response)


def once_defined(queue: Queue, response: bytes) -> bytes | Awaitable[bytes]:
    """Return the response, or an awaitable for it if the queue's definition or deletion is not committed yet."""
    commit = queue.store.commit()
    return response if commit is None else _after(commit, response)


async def _waited(queue: Queue, response: Awaitable[bytes]) -> bytes:
    waited = await response
    commit = queue.commit()
    if commit is not None:
        await commit
    return waited


async def _after(commit: Awaitable[None], response: bytes) -> bytes:
    await commit
    return response

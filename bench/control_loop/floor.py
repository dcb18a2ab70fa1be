"""The lower bound: the writes that an operator makes for a new Queue, made by the client itself.

No server, decision or watch is involved. The rest is the cost of so many writes in the API server, its store and this
Python's HTTP client. No operator that makes these writes can be faster.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from bench.control_loop.client import WRITERS, write
from bench.control_loop.cluster import NAMESPACE, QUEUES, Object

_MERGE_PATCH = "application/merge-patch+json"


class Floor:
    """Writes a finalizer and a status to each created object, while `running`."""

    def __init__(self, session: aiohttp.ClientSession, status: Object) -> None:
        """Take the session, and the status that the operator wrote for such a Queue."""
        self._session = session
        self._status = status
        self._made: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def on_response(self, name: str, response: bytes) -> None:
        """Take a created object: its writes start as soon as a worker is free."""
        self._made.put_nowait((name, response))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write with as many workers as the operator has."""
        async with asyncio.TaskGroup() as group:
            hands = [group.create_task(self._work(), name="floor") for _ in range(WRITERS)]
            yield
            for hand in hands:
                hand.cancel()

    async def _work(self) -> None:
        while True:
            name, response = await self._made.get()
            meta = json.loads(response)["metadata"]
            path, uid = f"{QUEUES.path}/{name}", meta["uid"]
            finalizer = {"uid": uid, "resourceVersion": meta["resourceVersion"], "finalizers": [QUEUES.finalizer]}
            await self._patch(path, {"metadata": finalizer})
            status = self._status | {"queueID": uid, "queueName": f"{NAMESPACE}.{name}"}
            await self._patch(f"{path}/status", {"metadata": {"uid": uid}, "status": status})

    async def _patch(self, path: str, patch: Object) -> None:
        # Read the response, because the connection is reused, but ignore the content.
        await write(self._session, "PATCH", path, json.dumps(patch).encode(), _MERGE_PATCH)

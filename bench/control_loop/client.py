"""The client that creates and watches objects. It is the same for every contender."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from time import monotonic

import aiohttp

from bench.control_loop.cluster import Cluster, Kind, Object
from bench.errors import Failed

WRITERS = 32
"""Concurrent requests that create objects."""

OnResponse = Callable[[str, bytes], None]
"""Called with the name of each created object, and the response."""

_STUCK_AFTER = 180.0
"""Seconds without another ready object after which the run is aborted."""


def is_ready(an_object: Object) -> bool:
    """Return whether an object is ready for its current generation."""
    status = an_object.get("status", {})
    return status.get("observedGeneration") == an_object["metadata"]["generation"] and any(
        each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()
    )


class Watch:
    """One watch of all objects of a kind, which records when each was first seen ready."""

    def __init__(self, check: Callable[[], None], wanted: Callable[[Object], bool]) -> None:
        """Take the test for being ready.

        `check` raises `Failed` if a process has ended, because then the objects never become ready.
        """
        self._check = check
        self._wanted = wanted
        self.ready: dict[str, float] = {}
        """The time by name, on the clock `monotonic`."""
        self.version = ""
        """The resource version to resume at."""
        self.reading: asyncio.Task[None] | None = None
        """The task that reads the watch. It ends only by failing."""

    async def all_ready(self, names: Iterable[str]) -> None:
        """Wait until all of these were seen ready; raise `Failed` if there is no progress."""
        names = set(names)
        last_progress = monotonic()
        count = 0
        while len(self.ready) < len(names) or not names <= self.ready.keys():
            await asyncio.sleep(0.01)
            if self.reading and self.reading.done():
                self.reading.result()
            self._check()
            if len(self.ready) > count:
                count, last_progress = len(self.ready), monotonic()
            elif monotonic() - last_progress > _STUCK_AFTER:
                raise Failed(f"{count:,} of {len(names):,} objects are ready, and no more for {_STUCK_AFTER:.0f} s")

    def see(self, line: bytes) -> None:
        """Process an event."""
        # Only one of several events per object matters, and decoding all of them would be the client's largest cost.
        if b'"status":"True"' not in line:
            if line.startswith(b'{"type":"ERROR"'):
                raise Failed(f"the watch failed: {line[:300].decode(errors='replace')}")
            return
        an_object = json.loads(line)["object"]
        name = an_object["metadata"]["name"]
        self.version = an_object["metadata"]["resourceVersion"]
        if name not in self.ready and self._wanted(an_object):
            self.ready[name] = monotonic()


@asynccontextmanager
async def watching(
    cluster: Cluster, kind: Kind, check: Callable[[], None], wanted: Callable[[Object], bool] = is_ready
) -> AsyncIterator[Watch]:
    """Watch the objects of a kind, from now on."""
    watch = Watch(check, wanted)
    async with cluster.session(1) as session:
        async with session.get(kind.path, params={"limit": "1"}) as response:
            watch.version = (await response.json())["metadata"]["resourceVersion"]
        watch.reading = asyncio.create_task(_follow(session, kind, watch), name="watch")
        try:
            yield watch
        finally:
            watch.reading.cancel()
            with suppress(asyncio.CancelledError, Failed):
                await watch.reading


async def _follow(session: aiohttp.ClientSession, kind: Kind, watch: Watch) -> None:
    """Watch, and resume if the API server ends the watch, which it does when it has no time to send."""
    while True:
        query = {"watch": "true", "resourceVersion": watch.version, "timeoutSeconds": "7200"}
        async with session.get(kind.path, params=query) as stream:
            rest = b""
            async for chunk in stream.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    watch.see(line)


async def create(
    session: aiohttp.ClientSession, kind: Kind, names: Iterable[str], on_response: OnResponse | None = None
) -> dict[str, float]:
    """Create objects, 32 at a time; return when each was about to be sent."""
    sent: dict[str, float] = {}
    left = iter(names)

    async def writer() -> None:
        for name in left:
            an_object = kind.object(name)
            sent[name] = monotonic()
            async with session.post(kind.path, json=an_object) as response:
                body = await response.read()
            if on_response:
                on_response(name, body)

    async with asyncio.TaskGroup() as writers:
        for _ in range(WRITERS):
            writers.create_task(writer())
    return sent

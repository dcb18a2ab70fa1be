"""Follows the Queue objects of a cluster while the console is open: lists them once, then watches.

After an interruption the watch resumes from the last version that it has seen. Only if the API server no longer knows
that version are the objects listed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import aiohttp
import structlog

from queuelet.backoff import Backoff
from queuelet.console.kubernetes import PAGE, ApiProblem, Body, PageTooLargeError, QueueApi
from queuelet.console.queue_objects import MAX_OBJECTS, ObjectTable, QueueObject, class_of, queue_object_of

log = structlog.get_logger()

RETRY_AFTER = 1.0
"""Seconds after which a failed request is tried again, at first."""

MAX_RETRY = 60.0
"""The most seconds between two tries. A right that is granted has an effect within this time."""

Changed = Callable[[str, QueueObject | None], None]
"""Is called with the name of a queue, and with its object as it is now; None if there is none any more."""


class ObjectWatch:
    """The objects of one queue class, for all consoles of a process."""

    def __init__(
        self,
        api: QueueApi,
        *,
        namespaces: Sequence[str] = (),
        queue_class: str = "default",
        most: int = MAX_OBJECTS,
    ) -> None:
        """Make it. It makes no request before `run`.

        Args:
            api: reads the objects.
            namespaces: the namespaces to read; empty for all.
            queue_class: only objects of this class are shown.
            most: the most objects that are kept.
        """
        self.objects = ObjectTable(most)
        self._api = api
        self._namespaces = tuple(namespaces) or ("",)
        self._class = queue_class
        self._problems: dict[str, str] = {}
        self._listed: set[str] = set()
        self._logged = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What browsers have to know of the watch."""
        problem = next(iter(self._problems.values()), "")
        return {"problem": problem, "cut": self.objects.is_cut, "listed": len(self._listed) == len(self._namespaces)}

    async def run(self, changed: Changed, noted: Callable[[], None]) -> None:
        """Follow the objects until this is cancelled, and then forget them: they cost nothing while no page is open.

        Args:
            changed: is called for each change.
            noted: is called when `facts` have changed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for namespace in self._namespaces:
                    group.create_task(_Follower(self, self._api, namespace, changed, noted).run())
        finally:
            self.objects.clear()
            self._problems.clear()
            self._listed.clear()

    def is_ours(self, body: Body) -> bool:
        """Whether an object is of the class."""
        return class_of(body) == self._class

    def listed(self, namespace: str) -> None:
        """Note that the objects of a namespace are known, and that they are watched."""
        self._listed.add(namespace)
        self._problems.pop(namespace, None)
        if self._logged and not self._problems and len(self._listed) == len(self._namespaces):
            self._logged = ""
            log.info("queue objects are shown")

    def failed(self, namespace: str, problem: str) -> None:
        """Note why the objects of a namespace are not up to date. Each problem is logged once."""
        self._problems[namespace] = problem
        if problem != self._logged:
            self._logged = problem
            log.warning("queue objects are not shown", error=problem)


class _Follower:
    """Follows the objects of one namespace, or of all."""

    def __init__(
        self, watch: ObjectWatch, api: QueueApi, namespace: str, changed: Changed, noted: Callable[[], None]
    ) -> None:
        self._watch = watch
        self._api = api
        self._namespace = namespace
        self._changed = changed
        self._noted = noted
        self._version = ""
        self._page = PAGE

    async def run(self) -> None:
        backoff = Backoff(RETRY_AFTER, MAX_RETRY)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                async with self._api.session() as session:
                    while True:
                        began = loop.time()
                        await self._follow(session)
                        # An end at once, as of a proxy, must not become a flood of requests.
                        await asyncio.sleep(max(0.0, RETRY_AFTER - (loop.time() - began)))
                        backoff.reset()
            except ApiProblem as error:
                if error.is_gone:
                    self._version = ""
                else:
                    self._failed(error.status, str(error))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._failed(0, f"the API server does not respond: {str(error) or type(error).__name__}")
            except (ValueError, KeyError, TypeError) as error:
                # Something between here and the API server responds with something else.
                self._failed(0, f"the response is not that of an API server: {error}")
            if loop.time() - began > MAX_RETRY:
                backoff.reset()
            await asyncio.sleep(backoff.next_delay())

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        if not self._version:
            self._version = await self._list(session)
        watch = self._api.watch(session, self._namespace, self._version, self._succeeded)
        async with aclosing(watch) as events:
            async for event in events:
                self._take(event)

    async def _list(self, session: aiohttp.ClientSession) -> str:
        """Read all objects, and return the version from which to watch."""
        unseen = set(self._watch.objects.names(self._namespace))
        self._watch.objects.is_cut = False
        token = version = ""
        while True:
            try:
                page = await self._api.page(session, self._namespace, most=self._page, token=token)
            except PageTooLargeError:
                self._page = max(1, self._page // 4)
                continue
            version = page.version
            for body in page.items:
                each = queue_object_of(body)
                if self._watch.is_ours(body):
                    unseen.discard(each.queue_name)
                    self._put(each)
            token = page.following
            if not token:
                break
        for name in unseen:
            self._remove(name)
        return version

    def _take(self, event: Body) -> None:
        """Apply an event of the watch, and remember its version."""
        body = event["object"]
        if event["type"] != "BOOKMARK":
            each = queue_object_of(body)
            if event["type"] == "DELETED" or not self._watch.is_ours(body):
                self._remove(each.queue_name)
            else:
                self._put(each)
        self._version = body["metadata"]["resourceVersion"]

    def _put(self, each: QueueObject) -> None:
        if self._watch.objects.put(each):
            self._changed(each.queue_name, each)

    def _remove(self, queue_name: str) -> None:
        if self._watch.objects.remove(queue_name):
            self._changed(queue_name, None)

    def _succeeded(self) -> None:
        self._watch.listed(self._namespace)
        self._noted()

    def _failed(self, status: int, why: str) -> None:
        remedy = self._api.remedies.get(status)
        self._watch.failed(self._namespace, f"{why}; {remedy}" if remedy else why)
        self._noted()

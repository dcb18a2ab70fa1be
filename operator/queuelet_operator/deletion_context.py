"""What is around an object whose queue cannot be removed now: its namespace, and the Service of the server."""

from __future__ import annotations

import asyncio
from time import monotonic

from queuelet import clock
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.plan.model import Home
from queuelet_operator.plan.resources import Body

FRESH = 1.0
"""Seconds for which what was found is told again: many deletions in one namespace ask once."""

KEPT = 60.0
"""Seconds for which the uid of a namespace is kept."""


class Surroundings:
    """Looks around."""

    def __init__(self, api: KubernetesApi, server_service: str) -> None:
        """Take the API server, and the server's Service as namespace/name; it may be empty."""
        self._api = api
        self._server_service = server_service
        self._known: dict[str, Home] = {}
        self._uids: dict[str, tuple[float, asyncio.Future[str]]] = {}

    async def look_around(self, namespace: str) -> Home:
        """Find out whether the namespace is being deleted, and whether the server's Service is gone."""
        now = clock.now()
        known = self._known.get(namespace)
        if known and now < known.seen_at + FRESH:
            return known
        home = Home(
            namespace_is_terminating=await self._is_terminating(namespace),
            server_is_gone=await self._server_is_gone(),
            seen_at=now,
        )
        self._known = {each: kept for each, kept in self._known.items() if now < kept.seen_at + FRESH}
        self._known[namespace] = home
        return home

    async def uid_of_namespace(self, name: str, *, seen_at: float) -> str:
        """Return the uid of the namespace of an object that was seen at a time of the monotonic clock.

        What was asked for since then is true for as long as the object is there, since no object outlives its
        namespace: so many objects that are seen together ask once.
        """
        asked_at, uid = self._uids.get(name, (float("-inf"), None))
        if uid is None or asked_at < seen_at:
            uid = asyncio.ensure_future(self._get_uid(name))
            now = monotonic()
            self._uids = {each: kept for each, kept in self._uids.items() if now < kept[0] + KEPT}
            self._uids[name] = (now, uid)
        try:
            return await asyncio.shield(uid)
        except ApiError:
            self._uids.pop(name, None)
            raise

    async def _get_uid(self, name: str) -> str:
        try:
            return str((await self._api.get_namespace(name))["metadata"]["uid"])
        except ApiError as error:
            if error.is_gone:
                return ""
            raise

    async def _is_terminating(self, namespace: str) -> bool:
        try:
            return _is_going(await self._api.get_namespace(namespace))
        except ApiError as error:
            if error.is_gone:
                return True
            raise

    async def _server_is_gone(self) -> bool:
        if not self._server_service:
            return False
        namespace, _, name = self._server_service.partition("/")
        try:
            return _is_going(await self._api.get_service(namespace, name))
        except ApiError as error:
            if error.is_gone:
                return True
            raise


def _is_going(body: Body) -> bool:
    return "deletionTimestamp" in body["metadata"]

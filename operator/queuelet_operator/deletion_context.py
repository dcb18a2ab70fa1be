"""Looks up whether a deletion may give up on its queue: the state of its namespace and of the server's Service."""

from __future__ import annotations

import asyncio
from time import monotonic

from queuelet import clock
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.plan.model import DeletionContext
from queuelet_operator.plan.resources import Body

CACHED_FOR = 1.0
"""Seconds for which a result is cached, so that many deletions in one namespace cost one lookup."""

UID_CACHED_FOR = 60.0
"""Seconds for which the uid of a namespace is cached."""


class DeletionContextReader:
    """Looks up namespaces and the server's Service, which is given as namespace/name, or empty if there is none."""

    def __init__(self, api: KubernetesApi, server_service: str) -> None:
        self._api = api
        self._server_service = server_service
        self._known: dict[str, DeletionContext] = {}
        self._uids: dict[str, tuple[float, asyncio.Future[str]]] = {}

    async def read(self, namespace: str) -> DeletionContext:
        """Return whether the namespace is being deleted and whether the server's Service is gone. Raises `ApiError`."""
        now = clock.now()
        known = self._known.get(namespace)
        if known and now < known.seen_at + CACHED_FOR:
            return known
        context = DeletionContext(
            namespace_is_terminating=await self._is_terminating(namespace),
            server_is_gone=await self._server_is_gone(),
            seen_at=now,
        )
        self._known = {each: cached for each, cached in self._known.items() if now < cached.seen_at + CACHED_FOR}
        self._known[namespace] = context
        return context

    async def uid_of_namespace(self, name: str, *, seen_at: float) -> str:
        """Return the uid of the namespace of an object that was first seen at `seen_at`, in seconds by `monotonic`.

        A lookup that began after that is valid for the object's lifetime, because no object outlives its namespace.
        Many objects that are seen together therefore share one lookup. Raises `ApiError`.
        """
        asked_at, uid = self._uids.get(name, (float("-inf"), None))
        if uid is None or asked_at < seen_at:
            uid = asyncio.ensure_future(self._get_uid(name))
            now = monotonic()
            self._uids = {each: cached for each, cached in self._uids.items() if now < cached[0] + UID_CACHED_FOR}
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
            return _is_being_deleted(await self._api.get_namespace(namespace))
        except ApiError as error:
            if error.is_gone:
                return True
            raise

    async def _server_is_gone(self) -> bool:
        if not self._server_service:
            return False
        namespace, _, name = self._server_service.partition("/")
        try:
            return _is_being_deleted(await self._api.get_service(namespace, name))
        except ApiError as error:
            if error.is_gone:
                return True
            raise


def _is_being_deleted(body: Body) -> bool:
    return "deletionTimestamp" in body["metadata"]

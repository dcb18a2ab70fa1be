"""What is around an object whose queue cannot be removed now: its namespace, and the Service of the server."""

from __future__ import annotations

from time import time

from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.resources import Body
from queuelet_operator.steps import Home

FRESH = 1.0
"""Seconds for which what was found is told again: many deletions in one namespace ask once."""


class Surroundings:
    """Looks around."""

    def __init__(self, api: KubernetesApi, server_service: str) -> None:
        """Take the API server, and the server's Service as namespace/name; it may be empty."""
        self._api = api
        self._server_service = server_service
        self._known: dict[str, Home] = {}

    async def look_around(self, namespace: str) -> Home:
        """Find out whether the namespace is being deleted, and whether the server's Service is gone."""
        now = time()
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

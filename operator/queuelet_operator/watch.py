"""kopf, as it is used here: one watch that feeds the controller.

The handler makes no call and never raises. There are no handlers for creation, change, deletion, timers or daemons:
they write annotations into every object and cost patches of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
import kopf
import structlog

from queuelet_operator.controller import Controller
from queuelet_operator.plan.resources import GROUP, PLURAL, VERSION

log = structlog.get_logger()

RESTART_AFTER = 1.0
"""Seconds between the end of a watch by an error and the next."""

RESTART_EVERY = 300
"""Seconds after which a watch is ended by the API server and begun again: one that fell silent is noticed by then."""


async def watch_queues(
    controller: Controller,
    open_session: Callable[[], aiohttp.ClientSession],
    server: str,
    *,
    namespaces: tuple[str, ...],
    queues_are_known: Callable[[], Awaitable[None]],
) -> None:
    """Tell the controller of each Queue as it is and as it changes, until told to stop by a signal.

    kopf's own runner would end with all tasks that it did not know before, ours among them; so its tasks are run here.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401  # kopf's arguments
        # kopf closes it, at its end and after a 401.
        return kopf.AiohttpSession(server=server, aiohttp_session=open_session())

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def seen(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401  # kopf's arguments
        body = event["object"]
        try:
            if event["type"] == "DELETED":
                controller.object_gone(body)
            else:
                controller.object_seen(body)
        except Exception:
            log.exception("a Queue cannot be read", queue=body.get("metadata", {}).get("name"))

    while True:
        # kopf looks once which kinds there are, and waits for ever where ours is not among them.
        await queues_are_known()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            # By default kopf asks for the user's name, and in the image the user has none.
            identity=cast("Any", "queuelet-operator"),
        )
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        errors = [task.exception() for task in done if not task.cancelled() and task.exception()]
        if not errors:
            return
        # 410 in the place of a list, or another error than 410 in a watch, are the end for kopf, and not for us.
        log.warning("the watch ended; it begins anew", error=str(errors[0]))
        await asyncio.sleep(RESTART_AFTER)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no essence of objects, and makes none: an eighth of the operator's time went into what nobody reads."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002  # kopf's
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002  # kopf's
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Do nothing."""


class _NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers: there is one, and it has none."""

    def fetch(self, *, key: str, body: kopf.Body) -> kopf.ProgressRecord | None:  # noqa: ARG002  # kopf's
        return None

    def store(self, *, key: str, record: kopf.ProgressRecord, body: kopf.Body, patch: kopf.Patch) -> None:
        """Do nothing."""

    def purge(self, *, key: str, body: kopf.Body, patch: kopf.Patch) -> None:
        """Do nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Do nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    # Neither namespaces nor definitions are watched, which needs more rights.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    # kopf takes a finalizer of its name from every object that it has no handler of deletions for: ours is not its own.
    settings.persistence.finalizer = f"{GROUP}/not-used"
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    settings.watching.server_timeout = RESTART_EVERY
    settings.watching.client_timeout = RESTART_EVERY + 10
    # A Queue at its bounds is 200 KiB of JSON with its managedFields, and more when parsed.
    settings.watching.chunk_size = 50
    # A worker has a task of its own for each object, and keeps the object's whole JSON for as long as it is idle.
    settings.queueing.idle_timeout = 0.01
    return settings

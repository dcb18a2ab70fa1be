"""The watch of Queues: kopf with a single event handler that feeds the controller.

The handler makes no call and never raises. kopf's handlers for creation, change, deletion, timers and daemons are not
used, because they write annotations into every object, which costs extra patches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
import kopf
import structlog

from queuelet.tasks import first_ended
from queuelet_operator.controller import Controller
from queuelet_operator.plan.resources import GROUP, PLURAL, VERSION

log = structlog.get_logger()

RESTART_AFTER = 1.0
"""Seconds between a watch that failed and the next one."""

RESTART_EVERY = 300
"""Seconds after which the API server ends a watch, so that a silently broken one is replaced by then."""


async def watch_queues(
    controller: Controller,
    open_session: Callable[[], aiohttp.ClientSession],
    server: str,
    *,
    namespaces: tuple[str, ...],
    queues_are_known: Callable[[], Awaitable[None]],
) -> None:
    """Pass each Queue and each change of one to the controller, until kopf stops because of a signal.

    kopf's tasks are run here instead of by its own runner, because that would also cancel the operator's other tasks.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401  # kopf's arguments
        # kopf closes the session when it stops and after a 401.
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
            log.exception("Queue could not be parsed", queue=body.get("metadata", {}).get("name"))

    while True:
        # kopf lists the kinds only once, and would wait for ever if Queue is not among them.
        await queues_are_known()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            # kopf's default is the user's name, and the user in the image has none.
            identity=cast("Any", "queuelet-operator"),
        )
        ended = await first_ended(*tasks)
        errors = [task.exception() for task in ended if not task.cancelled() and task.exception()]
        if not errors:
            return
        # kopf stops after a 410 for a list and after any other error in a watch. The operator starts it again.
        log.warning("watch failed; restarting it", error=str(errors[0]))
        await asyncio.sleep(RESTART_AFTER)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Stores no essence of objects and computes none, because that took an eighth of the operator's CPU time."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002  # kopf's
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002  # kopf's
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Do nothing."""


class _NoProgress(kopf.ProgressStorage):
    """Stores no progress of handlers, because the only handler has none."""

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
    # Watching namespaces and definitions would need more permissions.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    # kopf removes its finalizer from every object without a deletion handler, so it must not be the operator's one.
    settings.persistence.finalizer = f"{GROUP}/not-used"
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    settings.watching.server_timeout = RESTART_EVERY
    settings.watching.client_timeout = RESTART_EVERY + 10
    # A Queue of the largest size is 200 KiB of JSON with its managedFields, and more when parsed.
    settings.watching.chunk_size = 50
    # kopf has one worker task per object, and an idle one holds the object's whole JSON.
    settings.queueing.idle_timeout = 0.01
    return settings

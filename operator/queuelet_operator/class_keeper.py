"""Holds the queue class for this installation, and detects if another installation has it.

Two operators of one class would overwrite each other's statuses and take over each other's queues.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import time

import structlog

from queuelet_operator.class_claim import Claim, claim_name, claims, holder, maker, namespace_of
from queuelet_operator.event_recorder import event_about
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan.model import Notice
from queuelet_operator.plan.resources import Body
from queuelet_operator.plan.status import timestamp
from queuelet_operator.settings import Settings

log = structlog.get_logger()

LOOK_EVERY = 3.0
"""Seconds between two checks of the claims, multiplied by their number."""


class ClassKeeper:
    """Checks the claims of the class, and holds those that are free."""

    def __init__(self, settings: Settings, api: KubernetesApi, metrics: Metrics) -> None:
        self._settings = settings
        self._api = api
        self._metrics = metrics
        self._claims = claims(settings.queue_class, settings.namespaces)
        self._has_it = False
        self._readable: set[Claim] = set()
        self._complaints: dict[Claim, str] = {}
        self._complaint_about_lists = ""

    async def other(self) -> str:
        """Return the other installation that has the class in a namespace of this one; empty if there is none.

        If there is none, this installation holds the claims from now on. Raises `ApiError` if the claims cannot be read
        or written.
        """
        found = [(claim, body) for claim in self._claims if (body := await self._read(claim)) is not None]
        held = {claim for claim, body in found if holder(body) == self._settings.instance}
        # A process that was restarted has the class too, so that it does not yield to a claim without a holder.
        self._has_it = self._has_it or held.issuperset(claim for claim in self._claims if claim.can_hold)
        free = [(claim, body) for claim, body in found if claim not in held]
        other = await self._other_holder_of(free)
        self._metrics.class_conflict.set(bool(other))
        if other:
            return other
        for claim, body in free:
            if claim.can_hold:
                await self._hold(claim, body)
        self._has_it = True
        return ""

    async def until_taken(self) -> str:
        """Wait until another installation has the class, and return it."""
        while True:
            await self.pause()
            try:
                other = await self.other()
            except ApiError as error:
                log.debug("claim of the queue class could not be read", error=str(error))
                continue
            if other:
                return other

    async def pause(self) -> None:
        """Sleep until the next check."""
        await asyncio.sleep(LOOK_EVERY * len(self._claims))

    def reason(self, other: str) -> str:
        """Return the sentence that explains why this installation does not act."""
        return (
            f"queue class {self._settings.queue_class!r} is served by the installation {other}; give this one another "
            "queue class, or uninstall the other"
        )

    async def report(self, other: str) -> None:
        """Log that another installation has the class, and post an Event about the Lease."""
        settings = self._settings
        log.error("not acting: another installation serves the queue class", other=other, instance=settings.instance)
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "namespace": settings.lease_namespace,
            "name": settings.lease_name,
        }
        notice = Notice(reason="QueueClassTaken", message=f"not acting: {self.reason(other)}", is_warning=True)
        try:
            await self._api.post_event(settings.lease_namespace, event_about(lease, notice, timestamp(time())))
        except ApiError as error:
            log.warning("Event not posted", reason=notice.reason, error=str(error))

    async def _read(self, claim: Claim) -> Body | None:
        """Return a claim, None if it does not exist or the operator is not permitted to read it."""
        if claim not in self._readable and not await self._api.may_read_claim(claim):
            if claim.can_hold:
                self._complain(claim, "the operator is not permitted to get it")
            return None
        self._readable.add(claim)
        try:
            return await self._api.get_claim(claim)
        except ApiError as error:
            if error.is_gone:
                return None
            if error.code == HTTPStatus.FORBIDDEN:
                self._readable.discard(claim)
                return None
            raise

    async def _other_holder_of(self, claims: list[tuple[Claim, Body]]) -> str:
        """Return the other installation that has one of these claims or one in a namespace, empty if none does."""
        for _, body in claims:
            if other := await self._other_holder(body):
                return other
        # An installation that has the class in the whole cluster keeps it: the others wait for it.
        if self._settings.namespaces or self._has_it:
            return ""
        return await self._other_holder_in_a_namespace()

    async def _other_holder_in_a_namespace(self) -> str:
        """Return another installation that serves the class in single namespaces, empty if none does.

        A claim that no operator holds does not count. Otherwise two installations could each wait for the other.
        """
        try:
            found = await self._api.claims_in_namespaces(claim_name(self._settings.queue_class))
        except ApiError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            if self._complaint_about_lists != str(error):
                log.warning(
                    "cannot check whether releases for single namespaces have the queue class", error=str(error)
                )
            self._complaint_about_lists = str(error)
            return ""
        for each in found:
            other = holder(each)
            if other not in {"", self._settings.instance} and not await self._is_gone(other):
                return f"{other} in namespace {each['metadata']['namespace']}"
        return ""

    async def _other_holder(self, claim: Body) -> str:
        """Return the other installation that has a claim, empty if none does."""
        # An installation that serves the class continues to do so if the manifests of another overwrite its claim.
        other = holder(claim) or ("" if self._has_it else maker(claim))
        return "" if other in {"", self._settings.instance} or await self._is_gone(other) else other

    async def _hold(self, claim: Claim, body: Body) -> None:
        try:
            await self._api.hold_claim(claim, self._settings.instance, str(body["metadata"]["resourceVersion"]))
        except ApiError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            self._complain(claim, str(error))
        else:
            log.info("holding the queue class", claim=claim.name, namespace=claim.namespace)
            self._complain(claim, "")

    async def _is_gone(self, instance: str) -> bool:
        """Return whether the namespace of an installation no longer exists, and therefore no operator in it."""
        namespace = namespace_of(instance)
        if not namespace:
            return False
        try:
            await self._api.get_namespace(namespace)
        except ApiError as error:
            if error.code == HTTPStatus.FORBIDDEN:
                return False
            if error.is_gone:
                return True
            raise
        return False

    def _complain(self, claim: Claim, why: str) -> None:
        """Log why a claim cannot be read or held, unless that was logged before."""
        if why and self._complaints.get(claim) != why:
            log.warning("cannot hold the queue class", claim=claim.name, namespace=claim.namespace, error=why)
        self._complaints[claim] = why

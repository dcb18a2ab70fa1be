"""Leader election: of several operators, the one that holds the Lease leads, and the others are standbys."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
import structlog
from kubernetes.aio.client import ApiClient, ApiException, Configuration, V1Lease, V1ObjectMeta
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from queuelet import clock
from queuelet_operator.settings import Settings

log = structlog.get_logger()


def identity() -> str:
    """Return a name for this process that is unique in the cluster."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


async def lead(
    settings: Settings,
    configuration: Configuration,
    act: Callable[[Callable[[], bool]], Awaitable[None]],
    *,
    holder: str,
) -> bool:
    """Acquire the Lease, then run `act` while it is held. `act` gets a function that returns whether it is still held.

    Returns True if `act` returned: then the Lease is released, so that a standby does not have to wait for its expiry.
    Returns False if the Lease was lost. Raises what `act` raised.
    """
    async with ApiClient(configuration) as client:
        lock = _Lease(settings, holder, client)
        acting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tasks: list[asyncio.Task[object]] = []

        async def acted() -> None:
            current = asyncio.current_task()
            if current:
                tasks.append(current)
            try:
                await act(lock.is_held)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001  # it is raised below
                acting.set_exception(error)
            else:
                acting.set_result(None)

        async def stopped() -> None:
            """Do nothing, because the code below handles every way in which leading can end."""

        config = Config(lock, 15, 10, 2, onstarted_leading=acted, onstopped_leading=stopped)
        # Set after the construction, because the library's check refuses periods below a second, which tests use.
        config.lease_duration = settings.lease_duration
        config.renew_deadline = settings.lease_renew_deadline
        config.retry_period = settings.lease_retry_period
        election = asyncio.create_task(LeaderElection(config).run(), name="leader election")
        lost = asyncio.create_task(lock.until_lost(settings.lease_retry_period), name="end of the Lease")
        tasks += [election, lost]
        try:
            await asyncio.wait({election, lost, acting}, return_when=asyncio.FIRST_COMPLETED)
            if not acting.done():
                log.error("the Lease was lost", lease=settings.lease_name, holder=holder)
        finally:
            await _end(tasks, lock)
        if acting.done():
            acting.result()
            return True
        return False


async def _end(tasks: Sequence[asyncio.Task[object]], lock: _Lease) -> None:
    """Stop leading, and only then release the Lease."""
    was_held = lock.is_held()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if was_held:
        await lock.release()


class _Lease(LeaseLock):
    """The official client's lock, with two changes.

    An unreachable API server is a failed attempt instead of the end of the election. And the time for which another
    holder has been silent is measured by `queuelet.clock`, because the client uses the wall clock: if that steps, the
    client takes the Lease from a live holder, or waits for hours for a dead one.
    """

    def __init__(self, settings: Settings, holder: str, client: ApiClient) -> None:
        super().__init__(settings.lease_name, settings.lease_namespace, holder, client)
        self._duration = settings.lease_duration
        self._deadline = settings.lease_renew_deadline
        self._timeout = self._deadline / 2
        self._other: tuple[str | None, ...] = ()
        """The holder and times in the Lease when another holder was last seen to renew it."""
        self._other_since = 0.0
        """When that renewal was first seen, in seconds by `queuelet.clock`."""
        self._held_until = 0.0
        """Until when this process holds the Lease, in seconds by `queuelet.clock`; 0 before it did."""
        self._is_lost = False

    def is_held(self) -> bool:
        """Return whether this process holds the Lease. A standby waits for longer than the deadline used here."""
        return not self._is_lost and clock.now() < self._held_until

    async def until_lost(self, period: float) -> None:
        """Return once the Lease was held and is no longer."""
        while not self._held_until or self.is_held():
            left = self._held_until - clock.now()
            await asyncio.sleep(min(period, left) if left > 0 else period)

    async def get(self, name: str, namespace: str) -> tuple[bool, LeaderElectionRecord | Exception | None]:  # type: ignore[override]  # the same, written shorter
        try:
            async with asyncio.timeout(self._timeout):
                found, record = await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return False, ApiException(status=0, reason=repr(error))
        if self._held_until and isinstance(record, LeaderElectionRecord):
            self._is_lost = record.holder_identity not in {None, self.identity}
        if isinstance(record, LeaderElectionRecord) and record.holder_identity not in {None, self.identity}:
            self._note_other(record)
        else:
            self._other = ()
        return found, record

    def _note_other(self, record: LeaderElectionRecord) -> None:
        """Make the client wait for another holder that is alive, and take the Lease of one that is not."""
        now = clock.now()
        seen = (record.holder_identity, record.acquire_time, record.renew_time)
        if seen != self._other:
            self._other, self._other_since = seen, now
        # The client waits as long as the record changes, and takes the Lease if the record has no renew time.
        record.renew_time = str(now) if self._other_lives() else None

    def _other_lives(self) -> bool:
        """Return whether another holder may still lead."""
        return bool(self._other) and clock.now() < self._other_since + self._duration

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        # The library's method fails, because it passes pretty=True, which its own check refuses (release 37.0.2).
        began = clock.now()
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            async with asyncio.timeout(self._timeout):
                self.lease_reference = await self.api_instance.create_namespaced_lease(namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("the Lease was not created", lease=f"{namespace}/{name}", error=str(error))
            return False
        self._held_until = began + self._deadline
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        if self._other_lives():
            # The wall clock stepped just after the client's check.
            return False
        began = clock.now()
        try:
            async with asyncio.timeout(self._timeout):
                is_done = await super().update(name, namespace, updated_record)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        if is_done:
            self._held_until = began + self._deadline
        return is_done

    async def release(self) -> None:
        """Release the Lease, so that a standby gets it at once."""
        try:
            async with asyncio.timeout(self._timeout):
                # The Lease is read again, because the library does not store the result of its last renewal.
                lease = await self.api_instance.read_namespaced_lease(self.name, self.namespace)
                if lease.spec is None or lease.spec.holder_identity != self.identity:
                    return
                lease.spec.lease_duration_seconds = 1
                lease.spec.holder_identity = ""
                await self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("the Lease was not released; it will expire", error=str(error))

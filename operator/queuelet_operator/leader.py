"""One of several operators acts: the one that holds the Lease. The others wait for it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import structlog
from kubernetes.aio.client import ApiClient, ApiException, Configuration, V1Lease, V1ObjectMeta
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from queuelet_operator.settings import Settings

log = structlog.get_logger()


def identity() -> str:
    """Return a name for this process that no other has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


async def lead(
    settings: Settings, configuration: Configuration, act: Callable[[], Awaitable[None]], *, holder: str
) -> bool:
    """Wait for the Lease, then act for as long as it is held.

    Returns True if the acting ended by itself: then the Lease is given back, so that another does not wait for it to
    run out. Returns False if the Lease was lost.
    """
    async with ApiClient(configuration) as client:
        lock = _Lease(settings.lease_name, settings.lease_namespace, holder, client, settings.lease_renew_deadline)
        acting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def acted() -> None:
            try:
                await act()
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001  # it is raised below
                acting.set_exception(error)
            else:
                acting.set_result(None)

        async def stopped() -> None:
            log.error("the Lease was lost", lease=settings.lease_name, holder=holder)

        config = Config(lock, 15, 10, 2, onstarted_leading=acted, onstopped_leading=stopped)
        # Set one by one, since the library's own check takes no periods below a second, which tests use.
        config.lease_duration = settings.lease_duration
        config.renew_deadline = settings.lease_renew_deadline
        config.retry_period = settings.lease_retry_period
        election = asyncio.create_task(LeaderElection(config).run(), name="leader election")
        try:
            await asyncio.wait({election, acting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not election.done():
                election.cancel()
            if acting.done():
                await lock.release()
        if acting.done():
            acting.result()
            return True
        election.result()
        return False


class _Lease(LeaseLock):
    """The official client's lock. An API server that is away is a try that failed, and not the end of the election."""

    def __init__(self, name: str, namespace: str, holder: str, client: ApiClient, timeout: float) -> None:
        super().__init__(name, namespace, holder, client)
        self._timeout = timeout / 2

    async def get(self, name: str, namespace: str) -> tuple[bool, LeaderElectionRecord | Exception | None]:  # type: ignore[override]  # the same, written shorter
        try:
            async with asyncio.timeout(self._timeout):
                return await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return False, ApiException(status=0, reason=repr(error))

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        # The library's own asks for a pretty answer in a way that its own check refuses (release 37.0.2).
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            async with asyncio.timeout(self._timeout):
                self.lease_reference = await self.api_instance.create_namespaced_lease(namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("the Lease was not created", lease=f"{namespace}/{name}", error=str(error))
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                return await super().update(name, namespace, updated_record)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def release(self) -> None:
        """Let the next one have it at once."""
        try:
            async with asyncio.timeout(self._timeout):
                # Read anew: the library does not keep what its last renewal made of it.
                lease = await self.api_instance.read_namespaced_lease(self.name, self.namespace)
                if lease.spec is None or lease.spec.holder_identity != self.identity:
                    return
                lease.spec.lease_duration_seconds = 1
                lease.spec.holder_identity = ""
                await self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("the Lease could not be given back; it runs out by itself", error=str(error))

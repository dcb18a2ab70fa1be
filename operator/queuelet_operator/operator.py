"""The operator process: waits until it holds the Lease, then runs the controller and the watch of Queues."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from time import time

import aiohttp
import structlog
from kubernetes.aio.client import Configuration

from queuelet import __version__
from queuelet.addresses import split_address
from queuelet.logs import configure_logs
from queuelet.reminders import REMIND_EVERY
from queuelet.tasks import first_ended
from queuelet_operator.class_keeper import ClassKeeper
from queuelet_operator.controller import Controller
from queuelet_operator.credentials import OperatorCredentials
from queuelet_operator.event_recorder import EventRecorder
from queuelet_operator.health import Health, OperatorHttpPort
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi, login, open_session
from queuelet_operator.leader import identity, lead
from queuelet_operator.metrics import Metrics
from queuelet_operator.settings import Settings
from queuelet_operator.watch import watch_queues

log = structlog.get_logger()

ASK_AGAIN = 2.0
"""Seconds between two checks whether the API server serves Queues."""


async def operate(settings: Settings) -> int:
    """Run an operator until SIGTERM or ^C, then return 0. Return 1 if it lost the Lease or the class, or failed."""
    configure_logs(debug=settings.debug)
    configuration = await login()
    metrics, health = Metrics(), Health()
    credentials = OperatorCredentials(settings.connection)
    metrics.watch_files(credentials.figures)
    health.problems = lambda: credentials.problems(time())
    http = OperatorHttpPort(health, metrics, settings.http_hosts)
    metrics_port = await http.listen(*split_address(settings.metrics))
    checks = asyncio.create_task(_check_credentials(credentials), name="credentials")
    session = open_session(configuration, metrics, connections=settings.workers + 8, watch_began=health.watch_began)
    try:
        async with session:
            operator = Operator(settings, configuration, session, metrics, health)
            log.info("started", version=__version__, holder=operator.holder, metrics_port=metrics_port)
            return await operator.run()
    except Exception:
        log.exception("stopped by an error; another operator takes over, or this one after its restart")
        return 1
    finally:
        checks.cancel()
        await http.stop()


async def _check_credentials(credentials: OperatorCredentials) -> None:
    """Check every minute for expiring certificates. A standby does so too, because it has to be able to take over."""
    while True:
        credentials.check(time())
        await asyncio.sleep(REMIND_EVERY)


class Operator:
    """One operator: a standby until it gets the Lease, and then the leader."""

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        session: aiohttp.ClientSession,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._metrics = metrics
        self._health = health
        self._api = KubernetesApi(session, configuration.host)
        self._class = ClassKeeper(settings, self._api, metrics)
        self._stopped = asyncio.Event()
        self.holder = identity()
        """Its identity in the Lease."""

    async def run(self) -> int:
        """Wait for the Lease and lead. Return 0 after a signal, 1 if the Lease or the class was lost."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stopped.set)
        leading = asyncio.create_task(self._lead(), name="standby")
        stopping = asyncio.create_task(self._stopped.wait(), name="stop")
        await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        was_asked = self._stopped.is_set() or (leading.done() and not leading.cancelled() and leading.result())
        for task in (leading, stopping):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        log.info("stopped")
        return 0 if was_asked else 1

    async def _lead(self) -> bool:
        """Wait for the Lease and lead. Return True if a signal ended that, False if the Lease or the class was lost."""
        await self._queues_are_known()
        await self._class_is_free()
        self._health.is_ready = True
        settings = self._settings
        log.info("waiting for the Lease", lease=f"{settings.lease_namespace}/{settings.lease_name}")
        leading = asyncio.create_task(
            lead(settings, self._configuration, self._act, holder=self.holder), name="leader election"
        )
        taken = asyncio.create_task(self._class.until_taken(), name="claim of the class")
        try:
            await asyncio.wait({leading, taken}, return_when=asyncio.FIRST_COMPLETED)
            if leading.done():
                return leading.result()
            # After its restart the process waits until the class is free, and reports that.
            log.error("stopping: another installation serves the queue class", other=taken.result())
            return False
        finally:
            for task in (taken, leading):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _queues_are_known(self) -> None:
        """Wait until the API server can be reached and serves Queues."""
        logged = ""
        while True:
            try:
                if await self._api.serves_queues():
                    return
                obstacle = "the API server does not serve the kind Queue; apply crds/queues.yaml"
            except ApiError as error:
                obstacle = str(error)
            if obstacle != logged:
                log.warning("waiting for the API server", error=obstacle)
                logged = obstacle
            await asyncio.sleep(ASK_AGAIN)

    async def _class_is_free(self) -> None:
        """Wait until no other installation holds the queue class."""
        reported = ""
        while True:
            try:
                other = await self._class.other()
            except ApiError as error:
                log.warning("claim of the queue class could not be read", error=str(error))
            else:
                if not other:
                    self._health.waits_for = ""
                    return
                if other != reported:
                    reported, self._health.waits_for = other, self._class.reason(other)
                    await self._class.report(other)
            await self._class.pause()

    def _open_watch_session(self) -> aiohttp.ClientSession:
        """Return a session for kopf, which closes it when it stops or when the token is refused."""
        return open_session(self._configuration, self._metrics, connections=8, watch_began=self._health.watch_began)

    async def _act(self, is_held: Callable[[], bool]) -> None:
        """Run the controller and all that it needs, as the leader, until a signal ends the watch."""
        self._api.may_write = is_held
        log.info("leading", holder=self.holder)
        self._metrics.leads.set(1)
        recorder = EventRecorder(self._api, self._metrics)
        self._health.controller = controller = Controller(self._settings, self._api, recorder, self._metrics)
        controller.link.may_call = is_held
        tasks = [
            asyncio.create_task(recorder.run(), name="Events"),
            asyncio.create_task(controller.run(), name="controller"),
            asyncio.create_task(self._health.compare_counts(self._api, self._settings.namespaces), name="counts"),
        ]
        # The watch starts last, because the other tasks process what it reports.
        tasks.append(
            asyncio.create_task(
                watch_queues(
                    controller,
                    self._open_watch_session,
                    self._configuration.host,
                    namespaces=self._settings.namespaces,
                    queues_are_known=self._queues_are_known,
                ),
                name="watch of the Queues",
            )
        )
        for task in await first_ended(*tasks):
            task.result()

"""The operator process: it waits for its turn, and then keeps queues as their objects say."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

import aiohttp
import structlog
from kubernetes.aio.client import Configuration

from queuelet import __version__
from queuelet.addresses import split_address
from queuelet.logs import configure_logs
from queuelet_operator.class_claim import name_of_claim, other_claimant
from queuelet_operator.controller import Controller
from queuelet_operator.health import Health, HttpEndpoints
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi, login, open_session
from queuelet_operator.leader import identity, lead
from queuelet_operator.metrics import Metrics
from queuelet_operator.recorder import Recorder
from queuelet_operator.settings import Settings
from queuelet_operator.watch import watch_queues

log = structlog.get_logger()

ASK_AGAIN = 2.0
"""Seconds between two questions whether the API server knows Queues."""


async def operate(settings: Settings) -> int:
    """Run an operator until SIGTERM or ^C, then return 0; return 1 where another has taken over."""
    configure_logs(debug=settings.debug)
    configuration = await login()
    metrics, health = Metrics(), Health()
    http = HttpEndpoints(health, metrics, settings.http_hosts)
    metrics_port = await http.listen(*split_address(settings.metrics))
    session = open_session(configuration, metrics, connections=settings.workers + 8, watch_began=health.watch_began)
    try:
        async with session:
            operator = Operator(settings, configuration, session, metrics, health)
            log.info("started", version=__version__, holder=operator.holder, metrics_port=metrics_port)
            return await operator.run()
    except Exception:
        log.exception("ended by an error; another operator takes over, or this one when it is started again")
        return 1
    finally:
        await http.stop()


class Operator:
    """One operator: a standby at first, then the one that acts."""

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        session: aiohttp.ClientSession,
        metrics: Metrics,
        health: Health,
    ) -> None:
        """Take the settings, the way to the API server, and where to tell how it goes."""
        self._settings = settings
        self._configuration = configuration
        self._metrics = metrics
        self._health = health
        self._api = KubernetesApi(session, configuration.host)
        self._stopped = asyncio.Event()
        self.holder = identity()
        """What the Lease knows it by."""

    async def run(self) -> int:
        """Wait for the turn and act, until told to stop (0) or until the Lease is lost (1)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stopped.set)
        leading = asyncio.create_task(self._lead(), name="standby")
        stopping = asyncio.create_task(self._stopped.wait(), name="stop")
        await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        was_told = self._stopped.is_set() or (leading.done() and not leading.cancelled() and leading.result())
        for task in (leading, stopping):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        log.info("stopped")
        return 0 if was_told else 1

    async def _lead(self) -> bool:
        """Act when it is this one's turn; tell whether it ended because it was told to."""
        await self._queues_are_known()
        await self._class_is_free()
        self._health.is_ready = True
        settings = self._settings
        log.info("waiting for the Lease", lease=f"{settings.lease_namespace}/{settings.lease_name}")
        return await lead(settings, self._configuration, self._act, holder=self.holder)

    async def _queues_are_known(self) -> None:
        """Wait until the API server is there and serves Queues."""
        told = ""
        while True:
            try:
                if await self._api.serves_queues():
                    return
                trouble = "the API server does not know the kind Queue: apply crds/queues.yaml"
            except ApiError as error:
                trouble = str(error)
            if trouble != told:
                log.warning("cannot start yet", error=trouble)
                told = trouble
            await asyncio.sleep(ASK_AGAIN)

    async def _class_is_free(self) -> None:
        """Wait until no other installation claims the queue class: two would overwrite each other's statuses."""
        settings = self._settings
        if settings.namespaces:
            # The rights are those in these namespaces only, and which those are was chosen.
            return
        said = ""
        while True:
            try:
                claim = await self._api.get_cluster_role(name_of_claim(settings.queue_class))
            except ApiError as error:
                if not error.is_gone:
                    log.warning("cannot read which installation claims the queue class", error=str(error))
                return
            other = other_claimant(claim, settings.instance)
            if not other:
                self._health.waits_for = ""
                return
            if other != said:
                self._health.waits_for = (
                    f"queue class {settings.queue_class!r} is claimed by {other}; give this installation another "
                    "queue class, or uninstall the other"
                )
                log.warning(
                    "not acting: another installation claims the queue class", other=other, instance=settings.instance
                )
                said = other
            await asyncio.sleep(ASK_AGAIN)

    def _open_watch_session(self) -> aiohttp.ClientSession:
        """Return a session for kopf, which closes it: at its end, and where a token is refused."""
        return open_session(self._configuration, self._metrics, connections=8, watch_began=self._health.watch_began)

    async def _act(self, is_held: Callable[[], bool]) -> None:
        """Keep the queues, until told to stop."""
        self._api.may_write = is_held
        log.info("leading", holder=self.holder)
        self._metrics.leads.set(1)
        recorder = Recorder(self._api, self._metrics)
        self._health.controller = controller = Controller(self._settings, self._api, recorder, self._metrics)
        controller.link.may_call = is_held
        tasks = [
            asyncio.create_task(recorder.run(), name="Events"),
            asyncio.create_task(controller.run(), name="controller"),
            asyncio.create_task(self._health.compare_counts(self._api, self._settings.namespaces), name="counts"),
        ]
        # The last to start and to end: what it tells is worked on by the others.
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
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

"""The server process: settings, ports, drain and exit."""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import gethostname
from time import time, time_ns
from typing import TYPE_CHECKING

import structlog
import uvloop

from queuelet import __version__
from queuelet.addresses import reason_of, split_address
from queuelet.bounds import Bounds, fitting
from queuelet.certificates import FileFigures
from queuelet.clock import CLOCK, now_ns
from queuelet.console.kubernetes import Account
from queuelet.console.object_watch import ObjectWatch
from queuelet.core.budget import MemoryBudget
from queuelet.core.manager import Manager
from queuelet.core.storage import Store
from queuelet.core.tokens import Tokens
from queuelet.definition import StoreKind
from queuelet.errors import StoreFailed
from queuelet.fairness import LINE
from queuelet.gateway.application import IDLE_SECONDS, GatewayPort
from queuelet.logs import configure_logs
from queuelet.reminders import REMIND_EVERY
from queuelet.server.audit import audited
from queuelet.server.call_log import logged
from queuelet.server.credentials import BearerToken, Credentials
from queuelet.server.endpoint import Endpoint
from queuelet.server.forwarding.peers import Peers, PeerSettings
from queuelet.server.forwarding.table import Forwarding
from queuelet.server.handlers.service import Service
from queuelet.server.history import HistorySampler
from queuelet.server.http import ServerHttpPort
from queuelet.server.incoming import IncomingLimit
from queuelet.server.latency import Latencies
from queuelet.server.lifecycle import Lifecycle
from queuelet.server.local_calls import LocalCalls
from queuelet.server.memory import available_bytes, resident_bytes
from queuelet.server.metrics import server_registry
from queuelet.server.timer import AlarmTimer
from queuelet.server.transports import make_transport
from queuelet.shutdown import stopped_by_signals
from queuelet.stores.disk import DamagedStore, DiskStore, StoreDamaged
from queuelet.stores.memory import MemoryStore
from queuelet.stores.postgres.address import Address, AddressFile
from queuelet.stores.postgres.schema import checked_schema
from queuelet.stores.postgres.settings import PostgresSettings
from queuelet.tls_files import TlsFiles
from queuelet.web.connections import HttpConnections
from queuelet.web.tls import ServingTls

if TYPE_CHECKING:
    from queuelet.server.shards import Shards
    from queuelet.stores.postgres.stats import PostgresStats
    from queuelet.stores.postgres.store import PostgresStore

log = structlog.get_logger()

LINGER = 2.0
"""The most seconds that a draining server keeps responding UNAVAILABLE to new calls before it closes the port.

A call that reaches gRPC while the port closes ends with CANCELLED instead, from which the client cannot conclude that
the call was not executed.
"""

USUAL_HTTP = "127.0.0.1:8080"
"""The address of the gateway unless another is given: only for this machine, or for this Pod."""

YOUNG_OBJECTS = 10_000
"""New objects between two runs of the garbage collector: runs are rare, and each pauses the process 2 ms at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of a server; `queuelet server --help` has a flag for each."""

    listen: str = ":10002"
    """The address of the gRPC port: `host:port`, or `:port` for all addresses."""

    metrics: str = ":10003"
    """The address of the HTTP port with metrics and health."""

    http: str | None = None
    """The address of the gateway: the REST API. Empty for none; if None, `USUAL_HTTP` unless that port is taken."""

    http_read_only: bool = False
    """Whether the gateway refuses calls that change anything."""

    data_dir: Path | None = None
    """The folder of the Disk store; if None, there is no Disk store."""

    postgres: str | None = None
    """The connection string of the PostgreSQL store; if None and there is no file, there is no such store."""

    postgres_file: Path | None = None
    """A file with the connection string, which is read again for each connection."""

    postgres_schema: str = "queuelet"
    """The schema of the PostgreSQL store's tables."""

    postgres_lease: float = 5.0
    """Seconds after which another server may take over the PostgreSQL store of one that has stopped or is frozen."""

    shards: int = 1
    """How many shards the PostgreSQL store has; fixed when its tables are created."""

    advertise: str | None = None
    """How other servers reach this one: `host:port`. Setting it makes this server one of several, and so do shards.

    By default the host name and the port of `listen`. Port 0 stands for the port that was opened.
    """

    debug: bool = False
    """Whether to log each call."""

    grace: float = 25.0
    """Seconds that calls in flight get at a drain; less than the 30 seconds that Kubernetes gives a Pod."""

    memory_watermark: int | None = None
    """Accounted memory in bytes above which messages are refused; by default 80 % of the memory limit."""

    quit_from_anywhere: bool = False
    """Whether others than loopback may call /quitquitquit."""

    metrics_tags: tuple[str, ...] = ()
    """The keys of queue tags that get series in the metrics."""

    http_hosts: tuple[str, ...] = ()
    """Names that the `Host` of an HTTP request may have, in addition to IP addresses and names of local networks."""

    cors: tuple[str, ...] = ()
    """Origins of other sites whose pages may use the gateway."""

    no_console: bool = False
    """Whether the gateway serves the REST API without the console."""

    hide_payloads: bool = False
    """Whether the gateway returns the sizes of payloads instead of payloads when messages are browsed or tailed."""

    queue_objects: Path | None = None
    """The folder with the token of a Pod's ServiceAccount; if None, the console shows no Queue objects."""

    queue_objects_namespaces: tuple[str, ...] = ()
    """The namespaces whose Queue objects the console shows; empty for all."""

    queue_objects_class: str = "default"
    """The queue class of the Queue objects that the console shows."""

    peer_tls_ca: Path | None = None
    """The certificate authority of the other servers; if None, those that the system trusts."""

    peer_tls_name: str | None = None
    """The name in the certificates of the other servers, if it is not their address."""
    transport: str = "grpc"
    """The transport of the gRPC port: one of `TRANSPORTS`."""

    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    token_file: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def is_one_of_many(self) -> bool:
        """Whether several servers may share the queues in PostgreSQL."""
        return self.advertise is not None or self.shards > 1


class Server:
    """A server: `start` it, then `wait` until it has drained after `request_stop`."""

    def __init__(self, settings: Settings) -> None:
        """Build the server and open the Disk store if there is one. Must be called in the server's event loop.

        Raises:
            OSError, ValueError: a file named in the settings or another setting cannot be used.
            StoreFailed: the folder of the Disk store cannot be used.
        """
        self._settings = settings
        self._tls = _tls_files(settings)
        token = BearerToken(settings.token_file) if settings.token_file else None
        self._credentials = Credentials(self._tls, token)
        watermark = settings.memory_watermark or available_bytes() * 8 // 10
        budget = MemoryBudget(watermark, used=resident_bytes())
        bounds = settings.bounds
        incoming = IncomingLimit(budget, bounds.incoming_bytes or available_bytes() // 8, bounds.connections)
        self._tokens = Tokens(time_ns())
        stores: dict[StoreKind, Store] = {} if settings.is_one_of_many else {StoreKind.MEMORY: MemoryStore(budget)}
        self._disk: DiskStore | DamagedStore | None = None
        self._is_clock_set = False
        """Whether the clock continues that of a store, or is in use."""
        if settings.data_dir:
            disk = self._disk = self._open_disk(settings.data_dir, budget)
            stores[StoreKind.DISK] = disk
            if isinstance(disk, DiskStore):
                self._tokens.begin_at(disk.first_token)
                self._is_clock_set = True
                # Set only once, because the clock must not step while the process runs, even if the store is reopened.
                CLOCK.offset = disk.clock.offset
        self._shards = self._make_shards(settings, budget) if settings.is_one_of_many else None
        self._postgres = None if self._shards else self._make_postgres(settings, budget)
        if self._postgres:
            stores[StoreKind.POSTGRES] = self._postgres
        self.manager = self._make_manager(stores, budget)
        self._alarm_timer = AlarmTimer(self.manager.alarms)
        LINE.share = bounds.long_work_share
        self._lifecycle = Lifecycle()
        self._service = Service(self.manager, self._lifecycle, started=time_ns(), directory=self._shards)
        self._sampler = HistorySampler(self.manager, self._service.histories)
        latencies = Latencies()
        self._peers = self._make_peers(settings, token)
        endpoints = self._make_endpoints(latencies, token)
        self._transport = make_transport(settings.transport, endpoints, settings.bounds, incoming)
        connections = HttpConnections(bounds.http_seconds, bounds.http_connections)
        gateway = HttpConnections(bounds.http_seconds, bounds.gateway_connections, idle_seconds=IDLE_SECONDS)
        self._http = ServerHttpPort(
            manager=self.manager,
            connections=connections,
            registry=server_registry(
                latencies=latencies,
                budget=budget,
                incoming=incoming,
                http=connections,
                gateway=gateway,
                long_work=LINE,
                disk=self._disk.stats if self._disk else None,
                postgres=self._postgres_stats(),
                shards=self._shards.figures if self._shards else None,
                credentials=self._file_figures,
            ),
            is_ready=lambda: not self.is_stopping,
            problems=self._problems,
            quit_requested=self.request_stop,
            quit_from_anywhere=settings.quit_from_anywhere,
            hosts=settings.http_hosts,
            tag_keys=settings.metrics_tags,
        )
        self._gateway = GatewayPort(
            caller=LocalCalls(endpoints),
            connections=gateway,
            bounds=bounds,
            read_only=settings.http_read_only,
            hosts=settings.http_hosts,
            origins=settings.cors,
            shutdown_timeout=settings.grace,
            objects=_object_watch(settings),
            has_console=not settings.no_console,
            hides_payloads=settings.hide_payloads,
        )
        self._stop = asyncio.Event()
        self.port = 0
        """The gRPC port; 0 before `start`."""
        self.metrics_port = 0
        """The HTTP port; 0 before `start`."""
        self.gateway_port = 0
        """The gateway's port; 0 before `start`, and if there is none."""

    async def start(self) -> None:
        """Connect to the PostgreSQL store if there is one, open the ports and serve.

        If the database cannot be used, the other stores are served until it can.

        Raises:
            OSError: a port cannot be opened.
        """
        if self._postgres:
            await self._postgres.open()
            if self._postgres.problem:
                log.error("serving without the postgres store until it can be used", error=self._postgres.problem)
        self._is_clock_set = self._is_clock_set or self._shards is None
        self.port = self._transport.listen(_grpc_address(self._settings.listen), self._tls)
        if self._shards:
            await self._shards.start(_advertised(self._settings, self.port))
        self.metrics_port = await self._http.listen(*split_address(self._settings.metrics))
        self.gateway_port = await self._listen_gateway()
        self._alarm_timer.start()
        self._sampler.start()
        self._watch = asyncio.create_task(self._check_credentials())
        await self._transport.start()
        log.info(
            "serving",
            version=__version__,
            listen=self._settings.listen,
            port=self.port,
            transport=self._transport.name,
            metrics=self._settings.metrics,
            metrics_port=self.metrics_port,
            http=USUAL_HTTP if self._settings.http is None else self._settings.http,
            http_port=self.gateway_port,
            data_dir=str(self._settings.data_dir or ""),
            postgres=self._place_of_postgres(),
            **({"advertise": self._shards.address, "shards": self._settings.shards} if self._shards else {}),
            tls=self._tls is not None,
            memory_watermark=self.manager.budget.watermark,
        )
        if CLOCK.behind_ns():
            log.warning(
                "the wall clock was stepped; times of messages are by the server's own clock",
                stepped_seconds=CLOCK.behind_ns() / 1e9,
            )
        if self._tls is None and not _is_loopback(self._settings.listen):
            log.warning("serving plain text on more than loopback; use --tls-cert and --tls-key, or a trusted network")

    async def _listen_gateway(self) -> int:
        """Open the gateway's port, if there is one; return its number."""
        address = USUAL_HTTP if self._settings.http is None else self._settings.http
        if not address:
            return 0
        try:
            tls = ServingTls(self._tls).context if self._tls else None
            return await self._gateway.listen(*split_address(address), tls)
        except OSError as error:
            if self._settings.http is not None:
                raise OSError(f"--http {address}: {reason_of(error)}; give another address, or '' for none") from error
            log.warning(
                "serving without REST, because its usual port cannot be opened; give another one with --http, "
                "or --http '' for none",
                http=address,
                error=reason_of(error),
            )
            return 0

    def _make_endpoints(self, latencies: Latencies, token: BearerToken | None) -> list[Endpoint]:
        """Return all methods. A method that is forwarded is audited and logged by the server that does the work."""
        tables = audited(self._service.tables(), self.manager)
        if self._settings.debug:
            tables = logged(tables)
        if self._shards and self._peers:
            store = self._shards.store
            forwarding = Forwarding(self._shards, self._peers, self.manager, store.shard_of, store.note_absent)
            tables = forwarding.forwarded(tables)
        guard = token.check if token else None
        return [
            Endpoint(service, method, lifecycle=self._lifecycle, latencies=latencies, guard=guard)
            for service, methods in tables.items()
            for method in methods
        ]

    def _make_peers(self, settings: Settings, token: BearerToken | None) -> Peers | None:
        """Return what calls the other servers; None if there are none.

        Raises:
            OSError: a file cannot be read.
        """
        if self._shards is None:
            return None
        peers = PeerSettings(
            tls=self._tls, authority=settings.peer_tls_ca, name=settings.peer_tls_name or "", token=token
        )
        return Peers(peers, self._shards.changed)

    def _make_manager(self, stores: dict[StoreKind, Store], budget: MemoryBudget) -> Manager:
        """Return the manager of the queues, which are loaded."""
        manager = Manager(
            stores,
            bounds=self._settings.bounds,
            budget=budget,
            tokens=self._tokens,
            placement=self._shards.store if self._shards else None,
            now=now_ns(),
        )
        if self._shards:
            self._shards.serve(manager)
        return manager

    def _open_disk(self, folder: Path, budget: MemoryBudget) -> DiskStore | DamagedStore:
        """Open the store of a data folder. If its file is damaged, the queues in memory are served without it."""
        try:
            disk = DiskStore(
                folder,
                budget=budget,
                on_failed=self._disk_failed,
                on_reopened=lambda: self._disk_reopened(disk),
                on_progress=lambda doing: log.info("migrating the disk store", doing=doing),
                on_damaged=lambda queue, message, why: log.error(
                    "damaged message set aside", queue=queue, message=message, error=why
                ),
            )
        except StoreDamaged as error:
            damaged = DamagedStore(folder, error.message)
            log.error("disk store damaged; serving without it", error=damaged.problem)  # noqa: TRY400  # no traceback
            return damaged
        return disk

    def _disk_failed(self, why: str) -> None:
        log.error("disk store failed", error=why)
        self.manager.suspend(StoreKind.DISK, StoreFailed(why))

    def _disk_reopened(self, disk: DiskStore) -> None:
        self._tokens.begin_at(disk.first_token)
        self.manager.load(StoreKind.DISK, now=now_ns())
        log.info("disk store recovered", queues=sum(queue.is_durable for queue in self.manager))

    def _make_postgres(self, settings: Settings, budget: MemoryBudget) -> PostgresStore | None:
        """Return the PostgreSQL store, which is not connected yet; None if there is none."""
        database = _postgres_settings(settings)
        if database is None:
            return None
        with _postgres_extra():
            from queuelet.stores.postgres.store import PostgresStore  # noqa: PLC0415  # it needs an extra
        postgres = PostgresStore(
            database,
            budget=budget,
            on_failed=self._postgres_failed,
            on_reopened=lambda: self._postgres_opened(postgres),
            on_damaged=_log_damaged,
        )
        return postgres

    def _make_shards(self, settings: Settings, budget: MemoryBudget) -> Shards:
        """Return what shares the shards with other servers.

        Raises:
            ValueError: a setting is wrong.
        """
        database = _postgres_settings(settings)
        if database is None or settings.data_dir:
            raise ValueError(
                "--advertise, --shards: only possible with --postgres or --postgres-file and without --data-dir, "
                "because several servers can share only the queues in PostgreSQL"
            )
        if settings.advertise:
            _check_advertised(settings.advertise)
        with _postgres_extra():
            from queuelet.server.shards import Shards  # noqa: PLC0415  # it needs an extra
        return Shards(database, budget=budget, opened=self._continue_clock, damaged=_log_damaged)

    def _postgres_failed(self, why: str) -> None:
        log.error("postgres store failed", error=why)
        self.manager.suspend(StoreKind.POSTGRES, StoreFailed(why))

    def _postgres_opened(self, postgres: PostgresStore) -> None:
        self._tokens.begin_at(postgres.first_token)
        self._continue_clock(postgres)
        self.manager.load(StoreKind.POSTGRES, now=now_ns())
        log.info(
            "postgres store opened",
            queues=sum(queue.store is postgres for queue in self.manager),
            durability=postgres.durability.name,
        )

    def _continue_clock(self, postgres: PostgresStore) -> None:
        # The clock must not step while stores are served, but stored times must not be in its future either.
        offset = postgres.clock.offset
        CLOCK.offset = max(CLOCK.offset, offset) if self._is_clock_set else offset
        self._is_clock_set = self._is_clock_set or self._shards is not None

    def _postgres_stats(self) -> Callable[[], PostgresStats] | None:
        if self._shards:
            return self._shards.store.stats
        return self._postgres.stats if self._postgres else None

    def _place_of_postgres(self) -> str:
        if self._shards:
            return self._shards.place
        return self._postgres.place if self._postgres else ""

    def _problems(self) -> list[str]:
        """Return the problems of stores and credentials, one sentence each."""
        self._credentials.check(time())
        stores = [store.problem for store in self.manager.states.values() if store.problem]
        return stores + self._credentials.problems(time())

    def _file_figures(self) -> list[FileFigures]:
        self._credentials.check(time())
        return self._credentials.figures()

    async def _check_credentials(self) -> None:
        """Check every minute for changed files and expiring certificates, even if there are no calls."""
        while True:
            self._credentials.check(time())
            await asyncio.sleep(REMIND_EVERY)

    def request_stop(self) -> None:
        """Start draining; `wait` returns once the server has stopped."""
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether a drain has begun."""
        return self._stop.is_set()

    async def wait(self) -> None:
        """Serve until a stop is requested, then drain: refuse new calls, and end each call in flight with a status."""
        await self._stop.wait()
        log.info("draining", grace=self._settings.grace)
        await self._transport.not_serving()
        if self._shards:
            # The next owners serve while this server still forwards calls to them.
            await self._shards.leave(self._settings.grace / 2)
        self._service.stop()
        await self._lifecycle.quiet(min(LINGER, self._settings.grace))
        await asyncio.gather(self._transport.stop(self._settings.grace), self._gateway.stop())
        self._alarm_timer.stop()
        self._sampler.stop()
        self._watch.cancel()
        held = {queue.label: queue.depth for queue in self.manager if queue.depth and not queue.is_durable}
        if self._peers:
            await self._peers.close()
        for store in (self._disk, self._postgres, self._shards):
            if store:
                await store.close()
        await self._http.stop()
        log.info("stopped", messages_lost=sum(held.values()), queues=held)


async def serve(settings: Settings) -> None:
    """Run a server until SIGTERM, SIGINT or /quitquitquit. A second signal ends the process immediately."""
    server = Server(settings)
    with stopped_by_signals(server.request_stop, lambda: server.is_stopping):
        await server.start()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 20, 50)
        await server.wait()


def run(settings: Settings) -> None:
    """Run a server in this process, and configure its logs."""
    configure_logs(debug=settings.debug)
    bounds = _with_files_for(settings.bounds)
    uvloop.run(serve(replace(settings, bounds=bounds)))


def _with_files_for(bounds: Bounds) -> Bounds:
    """Raise the process's limit of open files, because shells start it with 1,024; lower bounds that still need more.

    Raises:
        ValueError: the limit is too low for even a few connections.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY:
        return bounds
    lowered = fitting(bounds, most)
    if lowered != bounds:
        log.warning(
            "connection limits lowered, because the process may open few files; raise ulimit -n",
            files=most,
            connections=lowered.connections,
            http_connections=lowered.http_connections,
            gateway_connections=lowered.gateway_connections,
        )
    return lowered


def _postgres_settings(settings: Settings) -> PostgresSettings | None:
    """Return how the PostgreSQL store uses its database, None if there is none.

    Raises:
        ValueError: a setting is wrong.
    """
    if settings.postgres and settings.postgres_file:
        raise ValueError("--postgres, --postgres-file: give only one of them")
    address: Address | AddressFile
    if settings.postgres:
        try:
            address = Address(settings.postgres)
        except ValueError as error:
            raise ValueError(f"--postgres: the connection string {error}") from None
    elif settings.postgres_file:
        address = AddressFile(settings.postgres_file)
    else:
        return None
    try:
        schema = checked_schema(settings.postgres_schema)
    except ValueError as error:
        raise ValueError(f"--postgres-schema: {error}") from None
    return PostgresSettings(
        address=address,
        schema=schema,
        name=f"{gethostname()}{settings.listen}",
        lease_seconds=settings.postgres_lease,
        shards=settings.shards,
    )


def _advertised(settings: Settings, port: int) -> str:
    """Return how other servers reach this one, whose gRPC port was opened."""
    if settings.advertise:
        host, separator, given = settings.advertise.rpartition(":")
        return f"{host}{separator}{given if given != '0' else port}"
    return f"{split_address(settings.listen)[0] or gethostname()}:{port}"


def _check_advertised(address: str) -> None:
    """Raise ValueError unless other servers can connect to this address."""
    try:
        host, _ = split_address(address)
    except ValueError as error:
        raise ValueError(f"--advertise: {error}") from None
    if not host:
        raise ValueError(f"--advertise: {address!r} has no host; write how other servers reach this one: host:port")


def _log_damaged(queue: str, message: str, why: str) -> None:
    log.error("damaged message set aside", queue=queue, message=message, error=why)


@contextmanager
def _postgres_extra() -> Iterator[None]:
    """Import what needs the extra `postgres` in this context. Raises ValueError with the remedy if it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise ValueError(
            "--postgres: package asyncpg is not installed; run: pip install 'queuelet[server,postgres]'"
        ) from error


def _grpc_address(address: str) -> str:
    host, port = split_address(address)
    return f"[{host}]:{port}" if ":" in host else f"{host or '[::]'}:{port}"


def _is_loopback(address: str) -> bool:
    return split_address(address)[0] in {"localhost", "127.0.0.1", "::1"}


def _object_watch(settings: Settings) -> ObjectWatch | None:
    """Return what reads Queue objects for the console; None if there is nothing to read.

    Raises:
        ValueError: this process is not in a Pod.
    """
    if settings.queue_objects is None:
        return None
    account = Account.of_pod(settings.queue_objects)
    namespaces, queue_class = settings.queue_objects_namespaces, settings.queue_objects_class
    return ObjectWatch(account, namespaces=namespaces, queue_class=queue_class)


def _tls_files(settings: Settings) -> TlsFiles | None:
    return TlsFiles.of(settings.tls_cert, settings.tls_key, settings.tls_client_ca, flags="--tls")

"""Metrics, collected at scrape time from plain integers.

The path of a message uses no metrics library: queues and latencies count in integers, and this module turns them into
Prometheus families. The first three have negz/q's names, labels and help texts, word for word (docs/compatibility.md,
Q30 and Q31), so that its dashboards keep working.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import NamedTuple, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from queuelet import __version__
from queuelet.certificates import FileFigures
from queuelet.core.budget import MemoryBudget
from queuelet.core.queue import Queue
from queuelet.server.ages import oldest_lease_age, oldest_ready_age
from queuelet.server.incoming import IncomingLimit
from queuelet.server.latency import Latencies
from queuelet.stores.disk.stats import DiskStats
from queuelet.stores.durable.histograms import Distribution
from queuelet.stores.postgres.stats import PostgresStats
from queuelet.web.credential_metrics import CredentialMetrics

TAG_VALUE_BYTES = 128
"""The longest tag value in a series, in bytes; the rest is cut off."""

CHUNK = 100
"""How many queues are turned into text at a time, which takes about 1 ms, before other calls run."""


class _QueueFamily(NamedTuple):
    """A metric family with samples for each queue."""

    make: Callable[[], CounterMetricFamily | GaugeMetricFamily]
    samples: Callable[[Queue, int], Iterable[tuple[list[str], float]]]


def _counter(name: str, text: str, value: Callable[[Queue], int]) -> _QueueFamily:
    """Return a counter whose series for a queue begins with the queue's first event."""

    def samples(queue: Queue, _: int) -> Iterable[tuple[list[str], float]]:
        count = value(queue)
        return [([queue.id], count)] if count else []

    return _QueueFamily(lambda: CounterMetricFamily(name, text, labels=["queue"]), samples)


def _gauge(name: str, text: str, value: Callable[[Queue, int], float | None]) -> _QueueFamily:
    def samples(queue: Queue, now: int) -> Iterable[tuple[list[str], float]]:
        measured = value(queue, now)
        return [] if measured is None else [([queue.id], measured)]

    return _QueueFamily(lambda: GaugeMetricFamily(name, text, labels=["queue"]), samples)


def _errors(queue: Queue, _: int) -> Iterable[tuple[list[str], float]]:
    counts = {"Full": queue.refused_full, "NotFound": queue.refused_empty, "UnknownError": queue.refused_memory}
    return [([queue.id, kind], count) for kind, count in counts.items() if count]


def _info(queue: Queue, _: int) -> Iterable[tuple[list[str], float]]:
    definition = queue.definition
    namespace = definition.owner.name.split("/")[-2] if definition.owner and "/" in definition.owner.name else ""
    return [([queue.id, definition.name, namespace, definition.store.name.capitalize()], 1)]


_FAMILIES = (
    _counter("queue_messages_enqueued", "Number of queued messages.", lambda queue: queue.tally.enqueued),
    _counter("queue_messages_consumed", "Number of consumed messages.", lambda queue: queue.tally.consumed),
    _QueueFamily(
        lambda: CounterMetricFamily(
            "queue_errors",
            "Number of errors encountered while enqueuing or consuming messages.",
            labels=["queue", "type"],
        ),
        _errors,
    ),
    _counter("queuelet_queue_messages_purged", "Messages removed by purge.", lambda queue: queue.tally.purged),
    _counter("queuelet_queue_leases", "Leases given, redeliveries included.", lambda queue: queue.tally.leased),
    _counter(
        "queuelet_queue_redeliveries",
        "Leases given on messages that had been delivered before.",
        lambda queue: queue.tally.redelivered,
    ),
    _counter("queuelet_queue_acks", "Messages acknowledged.", lambda queue: queue.tally.acked),
    _counter("queuelet_queue_nacks", "Leases returned by Nack.", lambda queue: queue.tally.nacked),
    _counter(
        "queuelet_queue_leases_released",
        "Leases returned because their stream ended.",
        lambda queue: queue.tally.released,
    ),
    _counter("queuelet_queue_leases_expired", "Leases that expired.", lambda queue: queue.tally.expired),
    _counter("queuelet_queue_leases_extended", "Leases extended by Extend.", lambda queue: queue.tally.extended),
    _counter("queuelet_queue_messages_died", "Messages that became dead.", lambda queue: queue.tally.buried),
    _counter(
        "queuelet_queue_messages_redriven",
        "Dead messages that were made ready again.",
        lambda queue: queue.tally.redriven,
    ),
    _QueueFamily(
        lambda: GaugeMetricFamily("queuelet_queue_messages", "Messages by state.", labels=["queue", "state"]),
        lambda queue, _: [([queue.id, state], count) for state, count in queue.counts._asdict().items()],
    ),
    _gauge(
        "queuelet_queue_damaged_messages",
        "Messages that are set aside because they are damaged on disk.",
        lambda queue, _: queue.damaged or None,
    ),
    _gauge(
        "queuelet_queue_oldest_ready_age_seconds",
        "Time since the first ready message was added.",
        oldest_ready_age,
    ),
    _gauge(
        "queuelet_queue_oldest_lease_age_seconds",
        "Time since the oldest current lease was given.",
        oldest_lease_age,
    ),
    _gauge(
        "queuelet_queue_limit", "The most messages the queue holds; -1 if unlimited.", lambda q, _: q.definition.limit
    ),
    _gauge("queuelet_queue_stored_bytes", "Bytes of the stored messages.", lambda queue, _: queue.stored_bytes),
    _gauge("queuelet_queue_waiting_calls", "Calls that wait on the queue.", lambda queue, _: len(queue.waiters)),
    _counter(
        "queuelet_queue_waiting_refused",
        "Calls that were refused because too many wait on the queue, in total or of one address.",
        lambda queue: queue.waiters.refused,
    ),
    _QueueFamily(
        lambda: GaugeMetricFamily(
            "queuelet_queue_info", "Name and store of a queue.", labels=["queue", "name", "namespace", "store"]
        ),
        _info,
    ),
)


def _tag_family(keys: Collection[str]) -> _QueueFamily:
    """Return the family with the tags of these keys only, because all tags of all queues could be megabytes."""

    def samples(queue: Queue, _: int) -> Iterable[tuple[list[str], float]]:
        # A dict to remove duplicates, because different values may be the same once they are cut.
        pairs = {(key, _cut(value)): None for key, value in queue.definition.tags if key in keys}
        return [([queue.id, key, value], 1) for key, value in pairs]

    return _QueueFamily(
        lambda: GaugeMetricFamily(
            "queuelet_queue_tag_info",
            "The tags of a queue whose keys --metrics-tag names, one series for each tag.",
            labels=["queue", "key", "value"],
        ),
        samples,
    )


def _cut(value: str) -> str:
    return value if len(value) * 4 <= TAG_VALUE_BYTES else value.encode()[:TAG_VALUE_BYTES].decode(errors="ignore")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFigures:
    """The shards, as a server that shares them with others sees them."""

    servers: int
    """How many servers live."""
    shards: int
    """How many shards there are."""
    owned: int
    """How many of them this server owns."""
    without_owner: int
    """How many of them no server owns."""
    taken_free: int
    """How many this server has taken that others had given up, or that never had an owner."""
    taken_lapsed: int
    """How many it has taken whose owner had let its lease end."""
    given: int
    """How many it has handed over."""
    lost: int
    """How many others have taken over because it made no progress for a lease."""


class HttpFigures(Protocol):
    """The counters of an HTTP port."""

    open: int
    stalled: int
    too_many: int


class LongWork(Protocol):
    """The counters of long work."""

    seconds: float

    @property
    def waiting(self) -> int:
        """How many pieces of work wait for a time slice."""


class ServerMetrics(Collector):
    """The metrics of the server that are not a queue's."""

    def __init__(  # noqa: PLR0913  # each is a part of its own, and all are named
        self,
        *,
        latencies: Latencies,
        budget: MemoryBudget,
        incoming: IncomingLimit,
        http: HttpFigures,
        gateway: HttpFigures,
        long_work: LongWork,
        disk: Callable[[], DiskStats] | None,
        postgres: Callable[[], PostgresStats] | None,
        shards: Callable[[], ShardFigures] | None,
    ) -> None:
        """Collect from these; `disk`, `postgres` and `shards` return the figures of those, None if there is none."""
        self._latencies = latencies
        self._budget = budget
        self._incoming = incoming
        self._http = http
        self._gateway = gateway
        self._long_work = long_work
        self._disk = disk
        self._postgres = postgres
        self._shards = shards

    def collect(self) -> Iterator[Metric]:
        """Return the metric families."""
        yield from self._latencies.collect()
        yield from _families(
            GaugeMetricFamily,
            (
                "memory_accounted_bytes",
                "Memory of the process at its start, plus that of messages, queues and waiting calls.",
                self._budget.used,
            ),
            ("memory_watermark_bytes", "Accounted memory above which messages are refused.", self._budget.watermark),
        )
        yield from _incoming_families(self._incoming)
        yield from _http_families("http", "the HTTP port", self._http)
        yield from _http_families("gateway", "the gateway", self._gateway)
        yield from _long_work_families(self._long_work)
        if self._disk:
            yield from _disk_families(self._disk())
        if self._postgres:
            yield from _postgres_families(self._postgres())
        if self._shards:
            yield from _shard_families(self._shards())
        build = InfoMetricFamily("queuelet_build", "The version that is running.", labels=["version"])
        build.add_metric([__version__], {})
        yield build


def _families(kind: type[GaugeMetricFamily | CounterMetricFamily], *rows: tuple[str, str, float]) -> Iterator[Metric]:
    """Yield a family with one sample for each name, help text and value."""
    for name, text, value in rows:
        family = kind(f"queuelet_{name}", text)
        family.add_metric([], value)
        yield family


def _incoming_families(incoming: IncomingLimit) -> Iterator[Metric]:
    yield from _families(
        GaugeMetricFamily,
        ("connections", "Open connections to the gRPC port.", incoming.connections),
        ("connection_calls_max", "The most open calls of a single connection.", incoming.most_calls),
        ("incoming_bytes", "Estimate of the bytes of incomplete requests and open calls.", incoming.held),
    )
    yield from _families(
        CounterMetricFamily,
        (
            "connections_cut",
            "Connections that were cut because they held too much, or were idle while nearly too many were open.",
            incoming.cut,
        ),
        (
            "requests_timed_out",
            "Calls that were ended because their request was not complete in time.",
            incoming.timed_out,
        ),
    )


def _http_families(prefix: str, port: str, figures: HttpFigures) -> Iterator[Metric]:
    yield from _families(GaugeMetricFamily, (f"{prefix}_connections", f"Open connections to {port}.", figures.open))
    closed = CounterMetricFamily(
        f"queuelet_{prefix}_connections_closed", f"Connections to {port} that the server closed.", labels=["reason"]
    )
    closed.add_metric(["stood_still"], figures.stalled)
    closed.add_metric(["too_many"], figures.too_many)
    yield closed


def _long_work_families(work: LongWork) -> Iterator[Metric]:
    yield from _families(
        CounterMetricFamily,
        ("long_work_seconds", "Time spent on long work, such as Browse or Purge by a selector.", work.seconds),
    )
    yield from _families(
        GaugeMetricFamily, ("long_work_waiting", "Pieces of long work that wait for a time slice.", work.waiting)
    )


def _disk_families(disk: DiskStats) -> Iterator[Metric]:
    yield from _families(
        GaugeMetricFamily,
        ("disk_open", "1 if the Disk store is open, 0 while it is being reopened after a failure.", disk.is_open),
        ("disk_full", "1 while the Disk store refuses messages because its disk is full.", disk.is_full),
        ("disk_file_bytes", "The size of the Disk store's file.", disk.file_bytes),
        ("disk_file_free_bytes", "Free space within the Disk store's file.", disk.free_bytes),
        ("disk_available_bytes", "Free space on the disk of the Disk store.", disk.disk_free_bytes),
        ("disk_window_bytes", "Committed messages that the Disk store holds in memory.", disk.window_bytes),
    )
    yield from _families(
        CounterMetricFamily,
        ("disk_failures", "How often the Disk store failed and had to be reopened.", disk.failures),
        ("disk_damaged_messages", "Messages that were found damaged on disk and set aside.", disk.damaged_found),
    )
    yield _histogram("queuelet_disk_commit_changes", "Messages added or removed in one commit.", disk.changes)
    yield _histogram("queuelet_disk_commit_seconds", "Duration of a commit, its fsync included.", disk.commit_seconds)


def _postgres_families(postgres: PostgresStats) -> Iterator[Metric]:
    yield from _families(
        GaugeMetricFamily,
        ("postgres_open", "1 if the server owns the queues in PostgreSQL, 0 while it does not.", postgres.is_open),
        ("postgres_replicated", "1 if commits wait for a standby of the database.", postgres.is_replicated),
        ("postgres_full", "1 while messages are refused because the disk of the database is full.", postgres.is_full),
        ("postgres_dead_rows", "Removed messages whose space is not free after the last VACUUM.", postgres.dead_rows),
        ("postgres_table_bytes", "The table of messages with its indexes.", postgres.table_bytes),
        ("postgres_window_bytes", "Committed messages of PostgreSQL held in memory.", postgres.window_bytes),
    )
    yield from _families(
        CounterMetricFamily,
        ("postgres_failures", "How often the PostgreSQL store failed and had to connect again.", postgres.failures),
        ("postgres_damaged_messages", "Messages found damaged in PostgreSQL and set aside.", postgres.damaged_found),
    )
    yield _histogram(
        "queuelet_postgres_commit_changes", "Messages added or removed in one commit to PostgreSQL.", postgres.changes
    )
    yield _histogram(
        "queuelet_postgres_commit_seconds",
        "Duration of a commit to PostgreSQL, the wait for a standby included.",
        postgres.commit_seconds,
    )


def _shard_families(shards: ShardFigures) -> Iterator[Metric]:
    yield from _families(
        GaugeMetricFamily,
        ("servers", "The servers that share the queues, as this one sees them.", shards.servers),
        ("shards", "The shards of the queues in PostgreSQL.", shards.shards),
        ("shards_owned", "The shards that this server owns.", shards.owned),
        ("shards_without_owner", "The shards that no server owns, as this one sees them.", shards.without_owner),
    )
    taken = CounterMetricFamily("queuelet_shards_taken", "Shards that this server has taken.", labels=["reason"])
    taken.add_metric(["free"], shards.taken_free)
    taken.add_metric(["lapsed"], shards.taken_lapsed)
    yield taken
    yield from _families(
        CounterMetricFamily,
        ("shards_given_up", "Shards that this server has handed over.", shards.given),
        ("shards_lost", "Shards that others took over because this server made no progress.", shards.lost),
    )


def _histogram(name: str, text: str, seen: Distribution) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text)
    bounds = [*map(str, seen.bounds), "+Inf"]
    family.add_metric([], list(zip(bounds, map(float, accumulate(seen.buckets)), strict=True)), seen.total)
    return family


class _Families(Collector):
    """A collector of given families, because the library's writer takes a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def server_registry(  # noqa: PLR0913  # each is a part of its own, and all are named
    *,
    latencies: Latencies,
    budget: MemoryBudget,
    incoming: IncomingLimit,
    http: HttpFigures,
    gateway: HttpFigures,
    long_work: LongWork,
    disk: Callable[[], DiskStats] | None = None,
    postgres: Callable[[], PostgresStats] | None = None,
    shards: Callable[[], ShardFigures] | None = None,
    credentials: Callable[[], Iterable[FileFigures]] = list,
) -> CollectorRegistry:
    """Return the registry of all metrics but the queues': the server, its stores, the process and the platform."""
    registry = CollectorRegistry()
    registry.register(
        ServerMetrics(
            latencies=latencies,
            budget=budget,
            incoming=incoming,
            http=http,
            gateway=gateway,
            long_work=long_work,
            disk=disk,
            postgres=postgres,
            shards=shards,
        )
    )
    registry.register(CredentialMetrics(credentials))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def _text(family: _QueueFamily, queues: Iterable[Queue], now: int, *, head: bool) -> bytes:
    metric = family.make()
    for queue in queues:
        for labels, value in family.samples(queue, now):
            metric.add_metric(labels, value)
    text = generate_latest(_Families([metric]))
    # Not `splitlines`, because it also splits at a carriage return, which a tag may contain.
    return text if head else b"".join(line + b"\n" for line in text.split(b"\n") if line and not line.startswith(b"#"))


def exposition(
    registry: CollectorRegistry, queues: Iterable[Queue], now: int, tag_keys: Collection[str] = ()
) -> Iterator[bytes]:
    """Yield all metrics in Prometheus' text format, in pieces, so that the caller can do other work in between.

    Args:
        registry: the metrics that are not a queue's.
        queues: the queues.
        now: the present time in nanoseconds since 1970.
        tag_keys: the keys of queue tags that get series.
    """
    for metric in registry.collect():
        yield generate_latest(_Families([metric]))
    queues = list(queues)
    families = (*_FAMILIES, _tag_family(tag_keys)) if tag_keys else _FAMILIES
    for family in families:
        head = True
        remaining = iter(queues)
        while chunk := list(islice(remaining, CHUNK)):
            yield _text(family, chunk, now, head=head)
            head = False

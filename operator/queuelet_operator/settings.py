"""The operator's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from queuelet.client import Connection
from queuelet_operator.plan.model import Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The operator's settings. Each is a flag, and an environment variable `QUEUELET_OPERATOR_<FLAG>`."""

    server: str = "localhost:10002"
    """The queue server, as host:port."""

    server_tls_ca: Path | None = None
    """The CA that signed the server's certificate. Any of the three files enables TLS."""

    server_tls_cert: Path | None = None
    server_tls_key: Path | None = None

    server_token_file: Path | None = None
    """A file with the server's bearer token; it is read for each call."""

    server_insecure: bool = False
    """Whether the token may be sent to another machine without TLS."""

    server_service: str = ""
    """The server's Service, as namespace/name. Once it is deleted, deletions no longer wait for the server."""

    address: str = ""
    """The server's address for clients, as host:port, written to each status; empty for the same as `server`."""

    queue_class: str = "default"
    """The operator serves Queues with this spec.queueClassName."""

    instance: str = "queuelet"
    """The prefix of the owner of each queue on the server. Two operators on one server need two instances."""

    namespaces: tuple[str, ...] = ()
    """The namespaces whose Queues to serve; empty for all."""

    lease_namespace: str = "default"
    """The namespace of the Lease that elects one of several operators as the leader."""

    lease_name: str = "queuelet-operator"

    lease_duration: int = 15
    """Seconds after which a standby replaces a leader that does not renew the Lease."""

    lease_renew_deadline: float = 10.0
    """Seconds after which a leader stops if it cannot renew the Lease; less than the duration."""

    lease_retry_period: float = 2.0
    """Seconds between two attempts to acquire or renew the Lease."""

    metrics: str = ":10004"
    """The address of the HTTP port for metrics and health, as host:port; :port for all addresses."""

    http_hosts: tuple[str, ...] = ()
    """Values that the HTTP port accepts as the Host of a request, besides IP addresses and names of local networks."""

    release_after: float = 600.0
    """Seconds of an outage of the server after which deletions no longer wait for it."""

    outage_after: float = 10.0
    """Seconds of an outage after which statuses report it, so that they do not report a restart."""

    counts_every: float = 30.0
    """Minimum seconds between two writes of a Queue's status that only update message counts."""

    resync: float = 600.0
    """Seconds between two checks of every Queue, in case a watch missed a change. A check that finds none is free."""

    workers: int = 32
    """How many Queues are reconciled concurrently, which bounds the concurrent requests to the API server."""

    debug: bool = False
    """Whether to log each step."""

    @property
    def connection(self) -> Connection:
        """How to reach the server."""
        return Connection(
            server=self.server,
            tls_ca=self.server_tls_ca,
            tls_cert=self.server_tls_cert,
            tls_key=self.server_tls_key,
            token_file=self.server_token_file,
            insecure=self.server_insecure,
            # The server link retries by itself, with one call for all queues.
            retry_for=0,
        )

    @property
    def policy(self) -> Policy:
        """The settings that decisions depend on."""
        return Policy(
            instance=self.instance,
            address=self.address or self.server,
            outage_after=self.outage_after,
            counts_every=self.counts_every,
            release_after=self.release_after,
        )

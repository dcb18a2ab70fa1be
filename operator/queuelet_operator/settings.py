"""What an operator is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from queuelet.client import Connection
from queuelet_operator.plan.model import Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What an operator is started with. Each is a flag, and an environment variable `QUEUELET_OPERATOR_<FLAG>`."""

    server: str = "localhost:10002"
    """The queue server, as host:port."""

    server_tls_ca: Path | None = None
    """The authority that signed the server's certificate. Any of the three files turns TLS on."""

    server_tls_cert: Path | None = None
    server_tls_key: Path | None = None

    server_token_file: Path | None = None
    """A file with the server's bearer token; read at each call."""

    server_insecure: bool = False
    """Whether the token may be sent without TLS to another machine."""

    server_service: str = ""
    """The server's Service, as namespace/name: if it is deleted, deletions do not wait for the server any more."""

    address: str = ""
    """Where programs reach the server, for the status of each Queue; by default the same as `server`."""

    queue_class: str = "default"
    """The Queues to serve: those with this spec.queueClassName."""

    instance: str = "queuelet"
    """What the queues' owners begin with in the server. Two operators on one server need two instances."""

    namespaces: tuple[str, ...] = ()
    """The namespaces to look after; none for all."""

    lease_namespace: str = "default"
    """Where the Lease is by which one of several operators acts."""

    lease_name: str = "queuelet-operator"

    lease_duration: int = 15
    """Seconds after which a silent operator is replaced."""

    lease_renew_deadline: float = 10.0
    """Seconds in which the acting operator must reach the API server to go on; below the duration."""

    lease_retry_period: float = 2.0
    """Seconds between two looks at the Lease."""

    metrics: str = ":10004"
    """Where metrics and health are served over HTTP."""

    http_hosts: tuple[str, ...] = ()
    """Names that a request on the HTTP port may be sent to, besides addresses and names of local networks."""

    release_after: float = 600.0
    """Seconds since the server went away after which a deletion no longer waits for it."""

    outage_after: float = 10.0
    """Seconds that the server may be away before statuses say so: a restart is no outage."""

    counts_every: float = 30.0
    """Seconds between two writes of a Queue's status that bring nothing but new counts."""

    resync: float = 600.0
    """Seconds between two looks at every Queue. A net under the watches: it costs no call where all is well."""

    workers: int = 32
    """How many Queues are worked on at the same time, and so how many requests the API server gets at once."""

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
            # The link tries again by itself, with one call for all queues.
            retry_for=0,
        )

    @property
    def policy(self) -> Policy:
        """What decisions depend on."""
        return Policy(
            instance=self.instance,
            address=self.address or self.server,
            outage_after=self.outage_after,
            counts_every=self.counts_every,
            release_after=self.release_after,
        )

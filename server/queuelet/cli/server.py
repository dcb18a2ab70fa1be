"""The command `server`, which runs a server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from queuelet.bounds import Bounds
from queuelet.cli.failures import Failure
from queuelet.cli.options import FILE, GLOBAL, Command, Seconds, WholeNumber, cors_option, http_hosts_option

if TYPE_CHECKING:
    from types import ModuleType

BOUNDS = Bounds()

MAX_MESSAGE_BYTES = 1024**3
"""The largest message, in bytes; protobuf's own limit is twice as much."""

_UNITS = {
    unit: base**power
    for power, prefix in enumerate(["", "K", "M", "G", "T"])
    for unit, base in ((prefix, 1000), (f"{prefix}i" if prefix else "", 1024))
}


class Size(click.ParamType[int]):
    """A number of bytes, with the units of Kubernetes: 1048576, 1024Ki, 1Mi, 1M."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the size in bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKMGT]?i?)B?", str(value))
        size = int(float(match[1]) * _UNITS.get(match[2].upper().replace("I", "i"), 0)) if match else 0
        if not size:
            self.fail(f"{value!r} is not a size; write bytes, or a number and Ki, Mi, Gi, K, M or G.", param, ctx)
        return size


class SizeOrNothing(Size):
    """A number of bytes, or 0 for nothing."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the size in bytes."""
        return 0 if str(value) == "0" else super().convert(value, param, ctx)


class MessageSize(Size):
    """A number of bytes that is possible for a protobuf message."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the size in bytes."""
        size = super().convert(value, param, ctx)
        if size > MAX_MESSAGE_BYTES:
            self.fail(f"{value!r} is too large for a message; use at most 1Gi.", param, ctx)
        return size


class MemoryShare(Size):
    """A number of bytes, or a percentage of this process's memory limit: 512Mi, 80%."""

    name = "size or percentage"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the size in bytes."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", str(value))
        if not match:
            return super().convert(value, param, ctx)
        share = float(match[1]) / 100
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not a share of the memory; write 1% to 100%.", param, ctx)
        return int(_memory_limit() * share)


class Share(click.ParamType[float]):
    """A share: 80% or 0.8."""

    name = "percentage"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share as a number above 0 and up to 1."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", str(value))
        share = float(match[1]) / (100 if match[2] else 1) if match else 0
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not a share; write 1% to 100%.", param, ctx)
        return share


class SettingOption(click.Option):
    """A flag whose default is that of `queuelet.server.Settings`, which is imported on demand."""

    def get_default(self, ctx: click.Context, call: bool = True) -> object:  # noqa: ARG002, FBT001, FBT002  # click's
        """Return the default."""
        return getattr(_server().Settings(), self.name)


AT_LEAST_1 = WholeNumber(min=1)


message_bytes_option = click.option(
    "--max-message-bytes",
    "message_bytes",
    type=MessageSize(),
    default=BOUNDS.message_bytes,
    show_default=f"{BOUNDS.message_bytes >> 20}Mi",
    metavar="SIZE",
    help="The largest request or response. Above the default, clients have to raise their own limit too.",
)


gateway_connections_option = click.option(
    "--max-gateway-connections",
    "gateway_connections",
    type=AT_LEAST_1,
    default=BOUNDS.gateway_connections,
    help="The most connections to the console and the REST API; above it, connections of the address with the most are "
    "closed.",
)

http_timeout_option = click.option(
    "--http-timeout",
    "http_seconds",
    type=Seconds(above=True),
    default=BOUNDS.http_seconds,
    show_default=f"{BOUNDS.http_seconds:g}s",
    metavar="DURATION",
    help="How long an HTTP connection may take to send a complete request, or stall while it reads a response.",
)


@click.command(
    cls=Command,
    verb="serve",
    examples="""
    queuelet server
    queuelet server --data-dir data
    queuelet server --listen 127.0.0.1:10002 --metrics 127.0.0.1:10003 --memory-watermark 512Mi
    queuelet server --tls-cert tls.crt --tls-key tls.key --token-file token
    """,
)
@click.option(
    "--listen",
    cls=SettingOption,
    envvar="Q_LISTEN",
    metavar="ADDRESS",
    help="Address of the gRPC port; :port for all addresses.",
)
@click.option(
    "--metrics",
    cls=SettingOption,
    envvar="Q_METRICS",
    metavar="ADDRESS",
    help="Address of the HTTP port: metrics and health.",
)
@click.option(
    "--http",
    cls=SettingOption,
    metavar="ADDRESS",
    show_default="127.0.0.1:8080, or none if that port is taken",
    help="Address of the console and the REST API; '' for none.",
)
@click.option(
    "--http-read-only",
    is_flag=True,
    help="Refuse calls to the REST API that change anything, also from the console. gRPC is not affected.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder of the Disk store, created if necessary. Without it the server has no Disk queues.",
)
@click.option(
    "--postgres",
    metavar="URL",
    help="Connection string of the PostgreSQL store: postgresql://user@host/database. Other users of the machine can "
    "read it, so a password is refused here; give it in --postgres-file, or in the environment variable.",
)
@click.option(
    "--postgres-file",
    type=FILE,
    help="File with that connection string; read again for each connection, so that a password may change.",
)
@click.option(
    "--postgres-schema",
    cls=SettingOption,
    metavar="NAME",
    help="Schema of the tables in that database, created if necessary.",
)
@click.option(
    "--postgres-lease",
    cls=SettingOption,
    type=Seconds(1, 3_600),
    show_default="5s",
    metavar="DURATION",
    help="How long after a crash, or a freeze, of this server another one may take over its queues in PostgreSQL.",
)
@click.option(
    "--shards",
    type=WholeNumber(min=1, max=256),
    default=1,
    show_default=True,
    metavar="COUNT",
    help="How many parts the queues in PostgreSQL have, each served by one of several servers. Fixed when the tables "
    "are created.",
)
@click.option(
    "--advertise",
    metavar="ADDRESS",
    show_default="the host name and the port of --listen",
    help="How other servers reach this one: host:port. With it, or with several shards, servers share the queues in "
    "PostgreSQL, and there are no Memory and Disk queues.",
)
@click.option("-d", "--debug", is_flag=True, envvar="Q_DEBUG", help="Log each call.")
@click.option(
    "--grace",
    cls=SettingOption,
    type=Seconds(),
    show_default="25s",
    metavar="DURATION",
    help="How long calls in flight may take when the server stops. Keep it below the Pod's grace period.",
)
@click.option(
    "--memory-watermark",
    type=MemoryShare(),
    metavar="SIZE|SHARE",
    show_default="80%",
    help="Refuse new messages above this memory usage: 512Mi, 2G, or a share of the process's memory limit.",
)
@message_bytes_option
@click.option("--max-queues", "queues", type=AT_LEAST_1, default=BOUNDS.queues, help="The most queues.")
@click.option("--max-batch", "batch", type=AT_LEAST_1, default=BOUNDS.batch, help="The most items in one call.")
@click.option(
    "--max-waiting", "waiting", type=AT_LEAST_1, default=BOUNDS.waiting, help="The most calls that wait on one queue."
)
@click.option(
    "--max-waiting-per-peer",
    "waiting_per_peer",
    type=AT_LEAST_1,
    default=BOUNDS.waiting_per_peer,
    help="The most calls from one address that wait on one queue. Clients behind a proxy share its address.",
)
@click.option(
    "--max-connections",
    "connections",
    type=AT_LEAST_1,
    default=BOUNDS.connections,
    help="The most connections to the gRPC port; lowered if the process cannot open that many files.",
)
@click.option(
    "--max-streams",
    "streams",
    type=AT_LEAST_1,
    default=BOUNDS.streams,
    help="The most concurrent calls on one connection.",
)
@click.option(
    "--max-incoming-bytes",
    "incoming_bytes",
    type=MemoryShare(),
    default=BOUNDS.incoming_bytes,
    show_default="12.5%",
    metavar="SIZE|SHARE",
    help="The most memory for incomplete requests of all connections; above it, the largest connection is cut.",
)
@click.option(
    "--history-bytes",
    type=SizeOrNothing(),
    default=BOUNDS.history_bytes,
    show_default=f"{BOUNDS.history_bytes >> 20}Mi",
    metavar="SIZE",
    help="The most memory for the histories of queues; above it, their steps become longer. 0 keeps no histories.",
)
@click.option(
    "--request-timeout",
    "request_seconds",
    type=Seconds(above=True),
    default=BOUNDS.request_seconds,
    show_default=f"{BOUNDS.request_seconds:g}s",
    metavar="DURATION",
    help="How long a request may take to arrive completely.",
)
@click.option(
    "--long-work-share",
    type=Share(),
    default=BOUNDS.long_work_share,
    show_default="80%",
    metavar="SHARE",
    help="The share of the time for all long work together, such as Browse or Purge with a selector.",
)
@click.option(
    "--max-http-connections",
    "http_connections",
    type=AT_LEAST_1,
    default=BOUNDS.http_connections,
    help="The most connections to the HTTP port; above it, connections of the address with the most are closed.",
)
@gateway_connections_option
@http_timeout_option
@click.option("--max-tags", "tags", type=AT_LEAST_1, default=BOUNDS.tags, help="The most tags on a queue or message.")
@click.option(
    "--max-tag-key-bytes",
    "tag_key_bytes",
    type=AT_LEAST_1,
    default=BOUNDS.tag_key_bytes,
    help="The longest key of a tag.",
)
@click.option(
    "--max-tag-value-bytes",
    "tag_value_bytes",
    type=AT_LEAST_1,
    default=BOUNDS.tag_value_bytes,
    help="The longest value of a tag.",
)
@click.option("--quit-from-anywhere", is_flag=True, help="Allow /quitquitquit from other machines, not only loopback.")
@click.option(
    "--metrics-tag",
    "metrics_tags",
    multiple=True,
    metavar="KEY",
    help="Add series for the queues' tags with this key to the metrics, values cut at 128 bytes; repeatable. "
    "In the environment variable, separate keys with spaces.",
)
@http_hosts_option
@cors_option
@click.option("--no-console", is_flag=True, help="Serve the REST API without the console.")
@click.option(
    "--hide-payloads",
    is_flag=True,
    help="Show sizes instead of payloads on the console and in Browse and Tail of the REST API. Consumers still get "
    "payloads.",
)
@click.option(
    "--queue-objects",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Show the conditions of Queue objects on the console. The folder has token and ca.crt of a Pod's "
    "ServiceAccount that may get, list and watch queues.queuelet.dev.",
)
@click.option(
    "--queue-objects-namespace",
    "queue_objects_namespaces",
    multiple=True,
    metavar="NAME",
    show_default="all",
    help="Read Queue objects in this namespace only; repeatable. In the environment variable, separate names with "
    "spaces.",
)
@click.option(
    "--queue-objects-class",
    cls=SettingOption,
    metavar="NAME",
    help="Show Queue objects with this spec.queueClassName.",
)
@click.option(
    "--transport",
    cls=SettingOption,
    type=click.Choice(["auto", "native", "grpc"]),
    help="What serves the gRPC port: 'grpc' is the gRPC library, 'native' costs less CPU for each call and needs the "
    "package grpc-sansio, 'auto' is 'native' if that package is installed. Clients see no difference.",
)
@click.option("--tls-cert", type=FILE, help="Serve TLS with this certificate; reloaded when the file changes.")
@click.option("--tls-key", type=FILE, help="The certificate's key.")
@click.option("--tls-client-ca", type=FILE, help="Accept only clients with a certificate of this authority.")
@click.option(
    "--peer-tls-ca",
    type=FILE,
    show_default="those that the system trusts",
    help="The certificate authority of the other servers that share the queues. They get this server's certificate.",
)
@click.option(
    "--peer-tls-name",
    metavar="NAME",
    show_default="their addresses",
    help="The name in the certificates of the other servers.",
)
@click.option("--token-file", type=FILE, help="Accept only calls with the bearer token in this file.")
@click.pass_context
def server(context: click.Context, /, **flags: Any) -> None:  # noqa: ANN401  # fields of Settings and of Bounds
    """Run a queue server until SIGTERM or ^C.

    Logs JSON lines to standard error, with the message "serving" once the ports are open. On the first signal, it
    drains: it waits for calls in flight for up to --grace and exits with 0. On a second signal, it exits immediately.

    Open the address of --http in a browser to see the queues: by default http://127.0.0.1:8080.
    """
    _refuse_client_options(context)
    _refuse_shown_password(context)
    bounds = Bounds(**{each.name: flags.pop(each.name) for each in fields(Bounds) if each.name in flags})
    module = _server()
    module.run(module.Settings(**flags, bounds=bounds))


def _server() -> ModuleType:
    """Import the server on demand, because it has dependencies that clients do not install."""
    with server_extra():
        import queuelet.server as module  # noqa: PLC0415
    return module


@contextmanager
def server_extra() -> Iterator[None]:
    """Import what needs the extra `server` in this context. Raises `Failure` with the remedy if it is not installed."""
    # Disable gRPC's own log lines, because they are not JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("queuelet"):
            raise
        raise Failure(
            f"cannot serve: package {error.name} is not installed; run: pip install 'queuelet[server]'"
        ) from error


def _memory_limit() -> int:
    """Return how many bytes of memory this process may use."""
    _server()
    from queuelet.server.memory import available_bytes  # noqa: PLC0415  # part of the server, which `_server` imports

    return available_bytes()


def _refuse_shown_password(context: click.Context) -> None:
    """Refuse a password on the command line, where every user of the machine can read it."""
    url = context.params.get("postgres")
    if not url or context.get_parameter_source("postgres") is not ParameterSource.COMMANDLINE:
        return
    if ("@" in url and ":" in url.partition("://")[2].rpartition("@")[0]) or "password=" in url:
        raise click.UsageError(
            "--postgres: a password on the command line can be read by other users of the machine; write the URL into "
            "a file and give --postgres-file.",
            context,
        )


def _refuse_client_options(context: click.Context) -> None:
    """Refuse global options, because `queuelet --tls-cert FILE server` would serve without TLS."""
    for option in GLOBAL:
        if context.parent and context.parent.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{max(option.opts, key=len)}: an option of client commands; give the server's options after 'server'.",
                context,
            )

"""The command that runs a server."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from queuelet.bounds import Bounds
from queuelet.cli.failures import Failure
from queuelet.cli.options import FILE, GLOBAL, Command, Seconds, WholeNumber, http_hosts_option
from queuelet.server.memory import available_bytes

if TYPE_CHECKING:
    from types import ModuleType

BOUNDS = Bounds()

LARGEST_MESSAGE = 1024**3
"""Protobuf ends at twice that."""

_UNITS = {
    unit: base**power
    for power, prefix in enumerate(["", "K", "M", "G", "T"])
    for unit, base in ((prefix, 1000), (f"{prefix}i" if prefix else "", 1024))
}


class Size(click.ParamType[int]):
    """A number of bytes, in the units of Kubernetes: 1048576, 1024Ki, 1Mi, 1M."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKMGT]?i?)B?", str(value))
        size = int(float(match[1]) * _UNITS.get(match[2].upper().replace("I", "i"), 0)) if match else 0
        if not size:
            self.fail(f"{value!r} is not a size: write bytes, or a number and Ki, Mi, Gi, K, M or G.", param, ctx)
        return size


class MessageSize(Size):
    """A number of bytes that a message of protobuf can have."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in bytes."""
        size = super().convert(value, param, ctx)
        if size > LARGEST_MESSAGE:
            self.fail(f"{value!r} is too large for a message: use at most 1Gi.", param, ctx)
        return size


class MemoryShare(Size):
    """A number of bytes, or a share of what this process may use: 512Mi, 80%."""

    name = "size or percentage"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in bytes."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", str(value))
        if not match:
            return super().convert(value, param, ctx)
        share = float(match[1]) / 100
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not a share of the memory: write 1% to 100%.", param, ctx)
        return int(available_bytes() * share)


class Share(click.ParamType[float]):
    """A part of a whole: 80%, or 0.8."""

    name = "percentage"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it as a number from above 0 to 1."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", str(value))
        share = float(match[1]) / (100 if match[2] else 1) if match else 0
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not a share: write 1% to 100%.", param, ctx)
        return share


class SettingOption(click.Option):
    """A flag whose default is that of `queuelet.server.Settings`, looked up when it is needed."""

    def get_default(self, ctx: click.Context, call: bool = True) -> object:  # noqa: ARG002, FBT001, FBT002  # click's
        """Return the default."""
        return getattr(_server().Settings(), self.name)


AT_LEAST_1 = WholeNumber(min=1)


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
@click.option("--listen", cls=SettingOption, envvar="Q_LISTEN", help="Where to serve gRPC; :port is on all addresses.")
@click.option("--metrics", cls=SettingOption, envvar="Q_METRICS", help="Where to serve metrics and health by HTTP.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep Disk queues in this folder, which is made if it is not there. Without it there are none.",
)
@click.option("-d", "--debug", is_flag=True, envvar="Q_DEBUG", help="Log each call.")
@click.option(
    "--grace",
    cls=SettingOption,
    type=Seconds(),
    metavar="DURATION",
    help="How long calls under way may take to end when the server stops. Keep it below what a Pod is given.",
)
@click.option(
    "--memory-watermark",
    type=MemoryShare(),
    metavar="SIZE|SHARE",
    show_default="80%",
    help="The memory at which no more messages are taken: 512Mi, 2G, or a share of what the process may use.",
)
@click.option(
    "--max-message-bytes",
    "message_bytes",
    type=MessageSize(),
    default=BOUNDS.message_bytes,
    metavar="SIZE",
    help="The largest request or reply. Clients must be told too where it is more than the default.",
)
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
    help="The most calls from one address that wait on one queue. Clients behind one proxy have its address.",
)
@click.option(
    "--max-connections",
    "connections",
    type=AT_LEAST_1,
    default=BOUNDS.connections,
    help="The most connections to the gRPC port; fewer if the process may not open that many files.",
)
@click.option(
    "--max-streams",
    "streams",
    type=AT_LEAST_1,
    default=BOUNDS.streams,
    help="The most calls on one connection.",
)
@click.option(
    "--max-incoming-bytes",
    "incoming_bytes",
    type=MemoryShare(),
    default=BOUNDS.incoming_bytes,
    show_default="12.5%",
    metavar="SIZE|SHARE",
    help="What connections may hold in requests that are not complete; past it the largest connection is cut.",
)
@click.option(
    "--request-timeout",
    "request_seconds",
    type=Seconds(above=True),
    default=BOUNDS.request_seconds,
    metavar="DURATION",
    help="How long a request may take to arrive whole.",
)
@click.option(
    "--long-work-share",
    type=Share(),
    default=BOUNDS.long_work_share,
    show_default="80%",
    metavar="SHARE",
    help="The part of the time that all long work may take together, such as Browse or Purge by a large selector.",
)
@click.option(
    "--max-http-connections",
    "http_connections",
    type=AT_LEAST_1,
    default=BOUNDS.http_connections,
    help="The most connections to the HTTP port; past it those of the address with the most are closed.",
)
@click.option(
    "--http-timeout",
    "http_seconds",
    type=Seconds(above=True),
    default=BOUNDS.http_seconds,
    metavar="DURATION",
    help="How long an HTTP connection may take to send a whole request, or to read more of a response.",
)
@click.option("--max-tags", "tags", type=AT_LEAST_1, default=BOUNDS.tags, help="The most tags on a queue or message.")
@click.option("--max-tag-key-bytes", "tag_key_bytes", type=AT_LEAST_1, default=BOUNDS.tag_key_bytes, help="Of one tag.")
@click.option(
    "--max-tag-value-bytes", "tag_value_bytes", type=AT_LEAST_1, default=BOUNDS.tag_value_bytes, help="Of one tag."
)
@click.option("--quit-from-anywhere", is_flag=True, help="Let /quitquitquit be called from more than loopback.")
@click.option(
    "--metrics-tag",
    "metrics_tags",
    multiple=True,
    metavar="KEY",
    help="Give the queues' tags with this key series in the metrics, values cut at 128 bytes; may be given again. "
    "In the environment, divided by spaces.",
)
@http_hosts_option
@click.option("--tls-cert", type=FILE, help="Serve by TLS, with this certificate; read again when it changes.")
@click.option("--tls-key", type=FILE, help="The certificate's key.")
@click.option("--tls-client-ca", type=FILE, help="Let in only clients with a certificate of this authority.")
@click.option("--token-file", type=FILE, help="Let in only calls with the bearer token in this file.")
@click.pass_context
def server(context: click.Context, /, **flags: Any) -> None:  # noqa: ANN401  # fields of Settings and of Bounds
    """Run a queue server in this process, until SIGTERM or ^C.

    It logs JSON lines on standard error, one with the message "serving" once the ports are open. When told to stop, it
    ends the calls under way and exits with 0; told twice, it exits at once.
    """
    _refuse_client_options(context)
    bounds = Bounds(**{each.name: flags.pop(each.name) for each in fields(Bounds) if each.name in flags})
    module = _server()
    module.run(module.Settings(**flags, bounds=bounds))


def _server() -> ModuleType:
    """Import the server, which clients do without, and which has dependencies of its own."""
    # gRPC's own log lines would stand among ours, and are no JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import queuelet.server as module  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if str(error.name).startswith("queuelet"):
            raise
        raise Failure(
            f"cannot serve: the server needs the package {error.name}: pip install 'queuelet[server]'"
        ) from error
    return module


def _refuse_client_options(context: click.Context) -> None:
    """Refuse global options: `queuelet --tls-cert FILE server` would serve without TLS."""
    for option in GLOBAL:
        if context.parent and context.parent.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{max(option.opts, key=len)} before 'server' is for clients.", context)

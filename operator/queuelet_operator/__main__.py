"""`queuelet-operator`, or `python -m queuelet_operator`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from queuelet.addresses import split_address
from queuelet.cli.options import Seconds, http_hosts_option
from queuelet_operator.settings import Settings

_DEFAULT = Settings()
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_AT_LEAST_1 = click.IntRange(min=1)
_SECONDS = Seconds(above=True)


def _address(_: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        split_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error
    return value


def _namespaced_name(_: click.Context, parameter: click.Parameter, value: str) -> str:
    if value and value.count("/") != 1:
        raise click.BadParameter(f"{value!r} names no Service: write namespace/name", param=parameter)
    return value


class _Command(click.Command):
    """A command that tells the environment variable of every flag."""

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401  # click's
        super().__init__(*args, **settings)
        for option in self.params:
            if isinstance(option, click.Option):
                option.show_envvar = True


@click.command(
    cls=_Command,
    context_settings={
        "auto_envvar_prefix": "QUEUELET_OPERATOR",
        "show_default": True,
        "max_content_width": 120,
        "help_option_names": ["-h", "--help"],
    },
)
@click.option("--server", default=_DEFAULT.server, callback=_address, metavar="HOST:PORT", help="The queue server.")
@click.option("--server-tls-ca", type=_FILE, help="Speak TLS to it, and trust the authority in this file.")
@click.option("--server-tls-cert", type=_FILE, help="The operator's certificate, for mutual TLS.")
@click.option("--server-tls-key", type=_FILE, help="The key of that certificate.")
@click.option("--server-token-file", type=_FILE, help="A file with the server's bearer token.")
@click.option(
    "--server-insecure",
    is_flag=True,
    help="Send the token without TLS, to another machine too: anyone on the network can read it.",
)
@click.option(
    "--server-service",
    default=_DEFAULT.server_service,
    callback=_namespaced_name,
    metavar="NAMESPACE/NAME",
    help="The server's Service. Once it is deleted, the deletion of Queues does not wait for the server any more.",
)
@click.option(
    "--address",
    default=_DEFAULT.address,
    metavar="HOST:PORT",
    show_default="that of --server",
    help="Where programs reach the server, as the status of each Queue tells it.",
)
@click.option(
    "--queue-class", default=_DEFAULT.queue_class, help="Serve the Queues with this spec.queueClassName, and no others."
)
@click.option(
    "--instance",
    default=_DEFAULT.instance,
    help="What the owner of each queue begins with in the server. Two operators on one server need two instances.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    show_default="all",
    help="Look after the Queues of this namespace; may be given again. In the environment, divided by spaces.",
)
@click.option(
    "--lease-namespace",
    default=_DEFAULT.lease_namespace,
    help="Where the Lease is: of several operators the one that holds it acts, and the others wait.",
)
@click.option("--lease-name", default=_DEFAULT.lease_name, help="The name of the Lease.")
@click.option(
    "--lease-duration",
    type=_AT_LEAST_1,
    default=_DEFAULT.lease_duration,
    metavar="SECONDS",
    help="After how long a silent operator is replaced.",
)
@click.option(
    "--lease-renew-deadline",
    type=_SECONDS,
    default=_DEFAULT.lease_renew_deadline,
    metavar="SECONDS",
    help="How long the acting operator goes on without reaching the API server; below the duration.",
)
@click.option(
    "--lease-retry-period",
    type=_SECONDS,
    default=_DEFAULT.lease_retry_period,
    metavar="SECONDS",
    help="How often the Lease is looked at.",
)
@click.option(
    "--metrics",
    default=_DEFAULT.metrics,
    callback=_address,
    metavar="HOST:PORT",
    help="Where to serve metrics and health by HTTP; :port is on all addresses.",
)
@http_hosts_option
@click.option(
    "--release-after",
    type=Seconds(),
    default=_DEFAULT.release_after,
    metavar="SECONDS",
    help="How long a server must not have answered for a deletion to leave the queue behind.",
)
@click.option(
    "--outage-after",
    type=Seconds(),
    default=_DEFAULT.outage_after,
    metavar="SECONDS",
    help="How long the server may be away before the status of each Queue says so.",
)
@click.option(
    "--counts-every",
    type=Seconds(),
    default=_DEFAULT.counts_every,
    metavar="SECONDS",
    help="How often at most the status of a Queue is written for nothing but new counts of messages.",
)
@click.option(
    "--resync",
    type=_SECONDS,
    default=_DEFAULT.resync,
    metavar="SECONDS",
    help="How often to look at every Queue, as a net under the watches.",
)
@click.option(
    "--workers",
    type=_AT_LEAST_1,
    default=_DEFAULT.workers,
    help="How many Queues to work on at the same time, and so how many requests the API server gets at once.",
)
@click.option("-d", "--debug", is_flag=True, help="Log each step.")
def main(**flags: Any) -> None:  # noqa: ANN401  # fields of Settings
    """Make the queues of a running queue server match the Queue objects of a Kubernetes cluster.

    It runs until SIGTERM or ^C, and logs JSON lines on standard error. In a Pod it uses its ServiceAccount; anywhere
    else the kubeconfig of $KUBECONFIG or of your home. Every flag is an environment variable too:
    QUEUELET_OPERATOR_<FLAG>. A duration is in seconds, or has units: 250ms, 5m, 1h30m.
    """
    settings = Settings(**flags)
    if settings.lease_renew_deadline >= settings.lease_duration:
        raise click.UsageError("--lease-renew-deadline must be below --lease-duration, or two operators could act.")
    try:
        settings.connection  # noqa: B018  # it refuses to send a token in plain text
    except ValueError as error:
        raise click.UsageError(f"{error} (--server-insecure).") from error
    import uvloop  # noqa: PLC0415  # --help does without all that
    from kubernetes.aio.config import ConfigException  # noqa: PLC0415

    from queuelet_operator.operator import operate  # noqa: PLC0415

    try:
        sys.exit(uvloop.run(operate(settings)))
    except ConfigException as error:
        raise click.ClickException(f"cannot find a Kubernetes API server: {error}. Set KUBECONFIG.") from error
    except OSError as error:
        raise click.ClickException(f"cannot serve metrics on {settings.metrics}: {error}") from error


if __name__ == "__main__":
    main()

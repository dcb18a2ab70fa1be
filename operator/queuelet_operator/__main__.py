"""`queuelet-operator`, or `python -m queuelet_operator`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from queuelet.addresses import split_address
from queuelet.cli.options import Seconds, http_hosts_option, name_variables
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
        raise click.BadParameter(f"{value!r} is not the name of a Service; use namespace/name", param=parameter)
    return value


class _Command(click.Command):
    """A command whose help shows the environment variable of every flag."""

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401  # click's
        super().__init__(*args, **settings)
        name_variables(self.params, "QUEUELET_OPERATOR")


@click.command(
    cls=_Command,
    context_settings={
        "show_default": True,
        "max_content_width": 120,
        "help_option_names": ["-h", "--help"],
    },
)
@click.option(
    "--server", default=_DEFAULT.server, callback=_address, metavar="HOST:PORT", help="Address of the queue server."
)
@click.option("--server-tls-ca", type=_FILE, help="Use TLS, and trust the CA in this file.")
@click.option("--server-tls-cert", type=_FILE, help="Certificate of the operator, for mutual TLS.")
@click.option("--server-tls-key", type=_FILE, help="Private key of that certificate.")
@click.option("--server-token-file", type=_FILE, help="File with the server's bearer token.")
@click.option(
    "--server-insecure",
    is_flag=True,
    help="Send the token without TLS, even to another machine. Anyone on the network can read it then.",
)
@click.option(
    "--server-service",
    default=_DEFAULT.server_service,
    callback=_namespaced_name,
    metavar="NAMESPACE/NAME",
    help="Service of the server. Once it is deleted, deletions of Queues no longer wait for the server.",
)
@click.option(
    "--address",
    default=_DEFAULT.address,
    metavar="HOST:PORT",
    show_default="that of --server",
    help="Address of the server for clients, which the operator writes to the status of each Queue.",
)
@click.option("--queue-class", default=_DEFAULT.queue_class, help="Serve only Queues with this spec.queueClassName.")
@click.option(
    "--instance",
    default=_DEFAULT.instance,
    help="Prefix of the owner of each queue on the server. Two operators on one server need two instances.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="QUEUELET_OPERATOR_NAMESPACES",
    metavar="NAME",
    show_default="all",
    help="Serve only Queues of this namespace; can be repeated. In the environment, separate names by spaces.",
)
@click.option(
    "--lease-namespace",
    default=_DEFAULT.lease_namespace,
    help="Namespace of the Lease. Of several operators, the one that holds it leads, and the others wait.",
)
@click.option("--lease-name", default=_DEFAULT.lease_name, help="Name of the Lease.")
@click.option(
    "--lease-duration",
    type=_AT_LEAST_1,
    default=_DEFAULT.lease_duration,
    metavar="SECONDS",
    help="Time after which a leader that does not renew the Lease is replaced.",
)
@click.option(
    "--lease-renew-deadline",
    type=_SECONDS,
    default=_DEFAULT.lease_renew_deadline,
    metavar="SECONDS",
    help="Time after which a leader that cannot renew the Lease stops; must be less than --lease-duration.",
)
@click.option(
    "--lease-retry-period",
    type=_SECONDS,
    default=_DEFAULT.lease_retry_period,
    metavar="SECONDS",
    help="Time between two attempts to acquire or renew the Lease.",
)
@click.option(
    "--metrics",
    default=_DEFAULT.metrics,
    callback=_address,
    metavar="HOST:PORT",
    help="Address of the HTTP port for metrics and health; :port listens on all addresses.",
)
@http_hosts_option
@click.option(
    "--release-after",
    type=Seconds(),
    default=_DEFAULT.release_after,
    metavar="SECONDS",
    help="Time for which the server must be unreachable before a deletion leaves the queue behind.",
)
@click.option(
    "--outage-after",
    type=Seconds(),
    default=_DEFAULT.outage_after,
    metavar="SECONDS",
    help="Time for which an outage must last before the status of each Queue reports it.",
)
@click.option(
    "--counts-every",
    type=Seconds(),
    default=_DEFAULT.counts_every,
    metavar="SECONDS",
    help="Minimum time between two writes of a status that only update message counts.",
)
@click.option(
    "--resync",
    type=_SECONDS,
    default=_DEFAULT.resync,
    metavar="SECONDS",
    help="Time between two checks of every Queue, in case a watch missed a change.",
)
@click.option(
    "--workers",
    type=_AT_LEAST_1,
    default=_DEFAULT.workers,
    help="Number of Queues to reconcile concurrently, which bounds the concurrent requests to the API server.",
)
@click.option("-d", "--debug", is_flag=True, help="Log each step.")
def main(**flags: Any) -> None:  # noqa: ANN401  # fields of Settings
    """Make the queues of a running queue server match the Queue objects of a Kubernetes cluster.

    It runs until SIGTERM or ^C and logs JSON lines to standard error. In a Pod it uses the Pod's ServiceAccount,
    elsewhere the kubeconfig in $KUBECONFIG or in your home directory. Each flag can also be set by the environment
    variable QUEUELET_OPERATOR_<FLAG>. A duration is in seconds, or has units: 250ms, 5m, 1h30m.
    """
    settings = Settings(**flags)
    if settings.lease_renew_deadline >= settings.lease_duration:
        raise click.UsageError(
            "--lease-renew-deadline must be less than --lease-duration, because two operators could lead otherwise."
        )
    try:
        settings.connection  # noqa: B018  # it raises if a token would be sent in plain text
    except ValueError as error:
        raise click.UsageError(f"{error} (--server-insecure).") from error
    import uvloop  # noqa: PLC0415  # --help needs none of these, and importing them is slow
    from kubernetes.aio.config import ConfigException  # noqa: PLC0415

    from queuelet_operator.operator import operate  # noqa: PLC0415

    try:
        sys.exit(uvloop.run(operate(settings)))
    except ConfigException as error:
        raise click.ClickException(f"cannot find the Kubernetes API server: {error}. Set KUBECONFIG.") from error
    except OSError as error:
        raise click.ClickException(f"cannot serve metrics on {settings.metrics}: {error}") from error


if __name__ == "__main__":
    main()

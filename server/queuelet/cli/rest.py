"""The command `rest`, which runs a gateway to a server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from queuelet.bounds import Bounds
from queuelet.cli.options import FILE, ClientCommand, Options, Seconds, cors_option, http_hosts_option
from queuelet.cli.server import gateway_connections_option, http_timeout_option, message_bytes_option, server_extra
from queuelet.cli.session import connection_of

if TYPE_CHECKING:
    from types import ModuleType


@click.command(
    cls=ClientCommand,
    verb="serve",
    examples="""
    queuelet rest :10002 --listen 127.0.0.1:8080
    queuelet rest queuelet-server.queuelet:10002 --tls-ca ca.crt --token-file token --listen 127.0.0.1:8080
    queuelet rest :10002 --listen 127.0.0.1:8081 --read-only
    queuelet rest :10002 --serve-tls-cert tls.crt --serve-tls-key tls.key --listen :443
    """,
)
@click.argument(
    "address", metavar="[SERVER]", required=False, help="The server's address, instead of that of --server."
)
@click.option(
    "--listen",
    default=":80",
    envvar="QREST_LISTEN",
    metavar="ADDRESS",
    help="Address of the gateway; :port for all addresses.",
)
@click.option("--read-only", is_flag=True, help="Refuse calls that change anything, also on the console.")
@click.option("-d", "--debug", is_flag=True, envvar="QREST_DEBUG", help="Log each response too.")
@click.option(
    "--close-after",
    type=Seconds(),
    default=60.0,
    show_default="1m",
    envvar="QREST_CLOSE_AFTER",
    metavar="DURATION",
    help="How long requests in flight may take when the gateway stops, before their connections are closed.",
)
@click.option(
    "--kill-after",
    type=Seconds(),
    default=120.0,
    show_default="2m",
    envvar="QREST_KILL_AFTER",
    metavar="DURATION",
    help="How long the gateway may take to stop, before it exits with 1.",
)
@message_bytes_option
@gateway_connections_option
@http_timeout_option
@click.option("--quit-from-anywhere", is_flag=True, help="Allow /quitquitquit from other machines, not only loopback.")
@http_hosts_option
@cors_option
@click.option("--serve-tls-cert", type=FILE, help="Serve HTTPS with this certificate; reloaded when the file changes.")
@click.option("--serve-tls-key", type=FILE, help="The key of that certificate.")
@click.option("--serve-tls-client-ca", type=FILE, help="Accept only clients with a certificate of this authority.")
@click.pass_context
def rest(context: click.Context, /, address: str | None, **flags: Any) -> None:  # noqa: ANN401  # those of GatewaySettings
    """Run a gateway: the REST API and the console of a server, in a process of its own, until SIGTERM or ^C.

    Each request becomes a call to the server, with the request's bearer token, or with that of --token-file if it has
    none. Also serves /metrics, and /quitquitquit for loopback. `queuelet server` has the same at its --http.
    """
    options = context.ensure_object(Options)
    if address:
        options = replace(options, server=address)
    bounds = Bounds(**{name: flags.pop(name) for name in ("message_bytes", "gateway_connections", "http_seconds")})
    module = _gateway()
    module.run(module.GatewaySettings(connection=connection_of(options), bounds=bounds, **flags))


def _gateway() -> ModuleType:
    """Import the gateway on demand, because it has dependencies that clients do not install."""
    with server_extra():
        import queuelet.gateway.process as module  # noqa: PLC0415
    return module

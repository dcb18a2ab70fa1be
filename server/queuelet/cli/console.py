"""The command `console`, which opens the console of a server in a browser."""

from __future__ import annotations

import asyncio
import signal
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from queuelet.cli.failures import report
from queuelet.cli.options import ClientCommand, Options
from queuelet.cli.output import write_line
from queuelet.cli.port_forward import PortForward, Target, service_of
from queuelet.cli.server import server_extra
from queuelet.cli.session import connection_of

if TYPE_CHECKING:
    from types import ModuleType


@click.command(
    cls=ClientCommand,
    verb="open the console",
    examples="""
    queuelet console --kubectl --namespace queuelet
    queuelet console --kubectl --namespace queuelet --context production --token-file token --tls-ca ca.crt
    queuelet console --server queues.example.com:10002 --tls-ca ca.crt --open
    """,
)
@click.option("--kubectl", is_flag=True, help="Reach a server in a cluster through kubectl port-forward.")
@click.option("-n", "--namespace", default="", show_default="that of the context", help="The namespace of the release.")
@click.option("--release", default="", show_default="queuelet", help="The release of the chart.")
@click.option("--service", default="", show_default="that of the release", help="The Service of the server.")
@click.option("--context", "kube_context", default="", show_default="the current one", help="The kubeconfig's context.")
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default="127.0.0.1, a free port",
    metavar="ADDRESS",
    help="Address of the console, on loopback.",
)
@click.option("--open", "opens", is_flag=True, help="Open the address in a browser.")
@click.pass_context
def console(  # noqa: PLR0913  # its flags
    context: click.Context,
    /,
    *,
    kubectl: bool,
    namespace: str,
    release: str,
    service: str,
    kube_context: str,
    listen: str,
    opens: bool,
) -> None:
    """Show the console of a server in a browser on this machine, until ^C, and print its address.

    With --kubectl, the server is one in a cluster that nothing exposes: kubectl port-forward is started, and started
    again whenever it ends.

    With --token-file, the address has a key that works once: the browser that opens it signs in, and the token stays in
    this program. Then the address for another browser is printed.
    """
    given = {"--namespace": namespace, "--release": release, "--service": service, "--context": kube_context}
    if not kubectl and (flag := next((flag for flag, value in given.items() if value), "")):
        raise click.UsageError(f"{flag}: of a server in a cluster; add --kubectl.", context)
    if release and service:
        raise click.UsageError("--service: --release has it already; give one of them.", context)
    _check_loopback(context, listen)
    options = context.ensure_object(Options)
    target = Target(service=service or service_of(release or "queuelet"), namespace=namespace, context=kube_context)

    def announce(address: str) -> None:
        if options.json:
            write_line({"address": address})
        else:
            click.echo(address)
        if opens:
            webbrowser.open(address)

    asyncio.run(_run(options, PortForward(target, report) if kubectl else None, listen, announce))


async def _run(options: Options, forward: PortForward | None, listen: str, announce: Callable[[str], None]) -> None:
    """Serve the console until a signal comes, over a port-forward if there is one."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if forward is None:
        await _serve(options, listen, announce, stop)
        return
    starting = asyncio.ensure_future(forward.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    stopping.cancel()
    # By this name, because a certificate of the server has it for port-forwards.
    options = replace(options, server=f"localhost:{starting.result()}")
    keeping = asyncio.ensure_future(forward.keep())
    try:
        await _serve(options, listen, announce, stop)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _serve(options: Options, listen: str, announce: Callable[[str], None], stop: asyncio.Event) -> None:
    module = _local_console()
    await module.LocalConsole(connection_of(options), announce).run(listen, stop)


def _check_loopback(context: click.Context, listen: str) -> None:
    """Refuse addresses that others can reach, because they could use this program's connection to the server."""
    host = listen.rpartition(":")[0].strip("[]")
    if host not in {"localhost", "127.0.0.1", "::1"}:
        raise click.UsageError(f"--listen: {listen!r} is not on loopback; use `queuelet rest` for others.", context)


def _local_console() -> ModuleType:
    """Import the gateway on demand, because it has dependencies that clients do not install."""
    with server_extra():
        import queuelet.gateway.local_console as module  # noqa: PLC0415
        from queuelet.logs import configure_logs  # noqa: PLC0415
    configure_logs(debug=False)
    return module

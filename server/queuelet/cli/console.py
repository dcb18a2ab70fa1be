"""The command `console`, which opens the console of a server in a browser."""

from __future__ import annotations

import asyncio
import signal
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from queuelet.cli.failures import report
from queuelet.cli.kubectl import Kubectl, PortForward, QueueProxy, Target, service_of
from queuelet.cli.options import ClientCommand, Options
from queuelet.cli.output import write_line
from queuelet.cli.server import server_extra
from queuelet.cli.session import connection_of

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True, kw_only=True, slots=True)
class Flags:
    """The flags of the command, apart from those that say which Service it is."""

    listen: str
    opens: bool
    queue_class: str
    queue_namespaces: tuple[str, ...]


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
@click.option("--queue-class", default="", show_default="default", help="Show Queue objects of this class.")
@click.option(
    "--queue-namespace",
    "queue_namespaces",
    multiple=True,
    metavar="NAME",
    show_default="all",
    help="Read Queue objects in this namespace only, if you may not read those of all; repeatable.",
)
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default="127.0.0.1, a free port",
    metavar="ADDRESS",
    help="Address of the console, on loopback.",
)
@click.option("--open", "opens", is_flag=True, help="Open the address in a browser.")
@click.pass_context
def console(context: click.Context, /, *, kubectl: bool, **flags: Any) -> None:  # noqa: ANN401  # texts and flags
    """Show the console of a server in a browser on this machine, until ^C, and print its address.

    With --kubectl, the server is one in a cluster that nothing exposes: kubectl port-forward is started, and started
    again whenever it ends. The conditions of Queue objects are read with your own rights, by kubectl proxy.

    With --token-file, the address has a key that works once: the browser that opens it signs in, and the token stays in
    this program. Then the address for another browser is printed.
    """
    if not kubectl and (name := next((name for name in _OF_KUBECTL if flags[name]), "")):
        raise click.UsageError(f"{_OF_KUBECTL[name]}: for a server in a cluster; add --kubectl.", context)
    release, service = flags.pop("release"), flags.pop("service")
    if release and service:
        raise click.UsageError("--service: --release has it already; give one of them.", context)
    where = {"namespace": flags.pop("namespace"), "context": flags.pop("kube_context")}
    target = Target(service=service or service_of(release or "queuelet"), **where)
    given = Flags(**{**flags, "queue_class": flags["queue_class"] or "default"})
    _check_loopback(context, given.listen)
    asyncio.run(_run(context.ensure_object(Options), given, target if kubectl else None))


_OF_KUBECTL = {
    "namespace": "--namespace",
    "release": "--release",
    "service": "--service",
    "kube_context": "--context",
    "queue_class": "--queue-class",
    "queue_namespaces": "--queue-namespace",
}
"""The flags that need --kubectl."""


async def _run(options: Options, flags: Flags, target: Target | None) -> None:
    """Serve the console until a signal comes, over a port-forward if there is a target."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if target is None:
        await _serve(options, flags, stop)
        return
    forward = PortForward(target, report)
    if not await _started(forward, stop):
        return
    # By this name, because a certificate of the server has it for port-forwards.
    options = replace(options, server=f"localhost:{forward.port}")
    with TemporaryDirectory(prefix="queuelet-") as folder:
        socket = Path(folder) / "queues"
        async with _kept(forward), _kept(QueueProxy(target.context, socket, report)):
            await _serve(options, flags, stop, socket)


async def _started(program: Kubectl, stop: asyncio.Event) -> bool:
    """Start a program of kubectl; return whether it serves, False if a signal came first."""
    starting = asyncio.ensure_future(program.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


@asynccontextmanager
async def _kept(program: Kubectl) -> AsyncIterator[None]:
    """Keep a program of kubectl running in this context."""
    keeping = asyncio.ensure_future(program.keep())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _serve(options: Options, flags: Flags, stop: asyncio.Event, socket: Path | None = None) -> None:
    """Serve the console until `stop` is set, with the Queue objects behind the socket of a proxy if there is one."""

    def announce(address: str) -> None:
        if options.json:
            write_line({"address": address})
        else:
            click.echo(address)
        if flags.opens:
            webbrowser.open(address)

    module = _local_console()
    objects = module.objects_behind(socket, flags.queue_namespaces, flags.queue_class) if socket else None
    await module.LocalConsole(connection_of(options), announce, objects).run(flags.listen, stop)


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

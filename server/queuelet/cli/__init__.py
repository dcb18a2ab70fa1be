"""The command line: one command runs a server, and the others use one.

Each group of commands has a module: `server.py`, `rest.py`, `console.py`, `queues.py`, `watch.py`, `history.py`,
`declarations.py`, `add.py`, `messages.py`, `move.py`, `dead.py`, `consume.py`, `observe.py`, `leases.py`, `data.py`,
`import_curator.py` and `completion.py`. They share `options.py`, `session.py` (a connection), `batches.py`,
`browsing.py`, `progress.py` and `orphans.py`; `move_plan.py` has the decisions of `move`. `show.py`, `tables.py`,
`sparklines.py` and `output.py` print; `failures.py` has exit codes; `worker.py` runs the commands of `consume`, and
`kubectl.py` runs kubectl for `console`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from queuelet import __version__
from queuelet.cli.failures import INTERRUPTED, USAGE, Failure, explain, report
from queuelet.cli.options import GLOBAL, SETTINGS

SECTIONS = {
    "Server": {
        "server": ("server:server", "Run a queue server."),
        "rest": ("rest:rest", "Run a REST gateway to a server."),
        "console": ("console:console", "Open the console of a server in a browser."),
        "stats": ("queues:stats", "Show statistics of the server or a queue."),
        "servers": ("observe:servers", "List the servers that share the queues, and their shards."),
        "watch": ("watch:watch", "Follow queues as they change."),
        "history": ("history:history", "Show how the numbers of a queue changed."),
    },
    "Queues": {
        "list": ("queues:list_queues", "List queues."),
        "get": ("queues:get", "Show a queue."),
        "new": ("queues:new", "Create a queue."),
        "declare": ("declarations:declare", "Create or update queues."),
        "tag": ("queues:tag", "Add a tag to a queue."),
        "untag": ("queues:untag", "Delete a tag of a queue."),
        "delete": ("queues:delete", "Delete a queue."),
        "remove": ("declarations:remove", "Remove an owner's queues."),
    },
    "Messages": {
        "add": ("add:add", "Add messages to a queue."),
        "pop": ("messages:pop", "Remove messages from a queue and print them."),
        "peek": ("messages:peek", "Print the first message of a queue."),
        "browse": ("messages:browse", "Print the messages of a queue."),
        "tail": ("observe:tail", "Follow what happens to the messages of a queue."),
        "purge": ("messages:purge", "Delete messages."),
        "move": ("move:move", "Move messages to another queue."),
        "dead": ("dead:dead", "List, redrive or purge dead messages."),
    },
    "Consumers": {
        "consumers": ("observe:consumers", "List who takes messages from a queue."),
        "consume": ("consume:consume", "Run a command for each message."),
        "receive": ("leases:receive", "Lease messages and print them."),
        "ack": ("leases:ack", "Acknowledge leased messages, which removes them."),
        "nack": ("leases:nack", "Return leased messages to the queue."),
        "extend": ("leases:extend", "Extend leases."),
    },
    "Data": {
        "backup": ("data:backup", "Back up a store to a file."),
        "restore": ("data:restore", "Restore a store from a backup."),
        "check": ("data:check", "Check a store for damage."),
        "import-curator": ("import_curator:import_curator", "Import a queue of Apache Curator."),
    },
    "Shell": {
        "completion": ("completion:completion", "Print a completion script for your shell."),
    },
}
"""All commands, each with its module, its function and its summary."""


class Commands(click.Group):
    """Commands that are imported on demand, so that --help does not have to import gRPC and protobuf."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's
        """Return the names of all commands."""
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """Return a command."""
        for section in SECTIONS.values():
            if cmd_name in section:
                module, _, name = section[cmd_name][0].partition(":")
                command: click.Command = getattr(import_module(f"queuelet.cli.{module}"), name)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; if there is none, raise an error that suggests similar ones."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the commands into the help."""
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])


cli = Commands(
    name="queuelet",
    params=[*GLOBAL],
    context_settings=SETTINGS,
    subcommand_metavar="COMMAND ...",
    help="""Message queues: run a server, or use one.

    A queue is identified by its ID or its name. Global options may come before or after the command. Every flag can
    also be set by an environment variable. A duration is a number of seconds, or has units: 250ms, 5m, 1h30m. Output
    is a table if it goes to a terminal, otherwise JSON.

    \b
    queuelet server                                   # in one terminal
    queuelet new memory --name orders                 # in another
    echo hello | queuelet add orders
    queuelet consume orders -- cat                    # or: queuelet pop orders

    Exit codes: 0 success, 1 refused or no message, 2 wrong usage, 3 the server is unreachable, did not respond in time
    or is shutting down, 130 interrupted.""",
)
click.version_option(__version__, prog_name="queuelet", message="%(prog)s %(version)s")(cli)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code: int | None = cli.main(arguments, prog_name="queuelet", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except Failure as error:
        report(error.message)
        return error.code
    except click.ClickException as error:
        report(explain(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return code or 0

"""Commands for durable stores. They need no server; only `restore` requires that none runs on the data folder."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import click

from queuelet.cli.failures import REFUSED, Failure
from queuelet.cli.options import FILE, Command
from queuelet.cli.output import messages, to_text, write

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="The server's data folder.",
)

BACK_UP_POSTGRES = (
    "queues in PostgreSQL are backed up with the tools of the database: pg_dump, or the backups of CloudNativePG"
)

RESTORE_POSTGRES = (
    "queues in PostgreSQL are restored with the tools of the database while no server uses it; then run UPDATE "
    "queuelet.owners SET store_epoch = gen_random_uuid(), so that clients see that the queues went back"
)


def _no_postgres(instead: str) -> Callable[[Any], Any]:
    """Return the options of the PostgreSQL store for a command that only says what to use instead."""

    def refuse(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise click.UsageError(f"--{str(parameter.name).replace('_', '-')}: {instead}.", context)

    def decorate(command: Any) -> Any:  # noqa: ANN401  # as click's own
        for option in ("--postgres-file", "--postgres"):
            hidden = click.option(option, hidden=True, is_eager=True, expose_value=False, callback=refuse)
            command = hidden(command)
        return command

    return decorate


@click.command(
    cls=Command,
    verb="back up",
    examples="""
    queuelet backup --data-dir /var/lib/queuelet /backups/queues-monday.db
    kubectl exec queuelet-0 -- queuelet backup --data-dir /data /data/queues.db
    queuelet backup --salvage --data-dir /var/lib/queuelet /backups/readable.db
    """,
)
@data_dir_option
@_no_postgres(BACK_UP_POSTGRES)
@click.argument("file", type=click.Path(path_type=Path), help="The backup file to write; it must not exist.")
@click.option(
    "--salvage",
    is_flag=True,
    help="If pages of messages or of saved responses are damaged, copy what can be read, instead of nothing.",
)
def backup(data_dir: Path, file: Path, *, salvage: bool) -> None:
    """Back up the present state of a Disk store to one file.

    Queues in PostgreSQL are backed up with the tools of the database: pg_dump, or the backups of CloudNativePG.

    A server may keep running on the data folder. The copy is checked before it gets its final name, so a backup file
    that exists is complete. It takes about as much space as the store. The data folder may be mounted read-only. If
    interrupted by ^C or SIGTERM, the command removes its files. If killed, it may leave files whose names begin with
    the name of the backup and .unfinished; these can be deleted.

    Every row is verified by its checksum. Damaged messages are left out, and their number is printed. If more than
    single messages are damaged, the command fails, and says what helps. With --salvage, it skips what cannot be read in
    the tables of messages and of saved responses; damage to another table, such as that of the queues, cannot be
    skipped, and needs an earlier backup.
    """
    with _tidied_on_sigterm():
        copied = _module("disk.backup").back_up(data_dir, file, _say, salvage=salvage)
    _show_copied(file, {"file": str(file)}, copied)


@click.command(
    cls=Command,
    examples="""
    queuelet restore --data-dir /var/lib/queuelet /backups/queues-monday.db
    queuelet restore --data-dir /var/lib/queuelet --force /backups/queues-monday.db
    """,
)
@data_dir_option
@_no_postgres(RESTORE_POSTGRES)
@click.argument("file", type=click.Path(path_type=Path), help="The backup file.")
@click.option("--force", is_flag=True, help="Replace the store that is in the folder; its messages are lost.")
def restore(data_dir: Path, file: Path, *, force: bool) -> None:
    """Restore the store of a data folder from a backup; no server may run on the folder.

    Queues in PostgreSQL are restored with the tools of the database, while no server uses it.

    The backup may also be the file queuelet.db of another data folder; its write-ahead log, if there is one in the same
    folder, is restored too.

    The queues return to the state of the backup: messages consumed since then are back, and messages added since then
    are lost. The store gets a new epoch, from which clients and the operator can see that. The backup is checked first.
    If killed at any moment, the command leaves either the old store or the new one.

    Every row is verified by its checksum. Damaged messages are left out, and their number is printed.
    """
    with _tidied_on_sigterm():
        copied = _module("disk.backup").restore(file, data_dir, force=force, progress=_say)
    _show_copied(data_dir, {"data_dir": str(data_dir)}, copied)


@click.command(
    cls=Command,
    examples="""
    queuelet check --data-dir /var/lib/queuelet
    queuelet check --postgres-file /etc/queuelet/postgres/uri
    """,
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="The server's data folder, to check its Disk store.")
@click.option(
    "--postgres-file", type=FILE, help="File with the connection string of PostgreSQL, to check the queues in it."
)
@click.option(
    "--postgres-schema",
    metavar="NAME",
    default="queuelet",
    show_default=True,
    help="Schema of the tables in PostgreSQL.",
)
def check(data_dir: Path | None, postgres_file: Path | None, postgres_schema: str) -> None:
    """Check a store for damage, and print each problem and what to do. Exits with 1 if there is one.

    Of a Disk store, every page of the database is read. The data folder may be mounted read-only. Of queues in
    PostgreSQL, every row is read and verified by its checksum; the user needs no right to write. A server may keep
    running on either.
    """
    if (data_dir is None) == (postgres_file is None):
        raise click.UsageError("--data-dir, --postgres-file: give one of them.")
    if data_dir is not None:
        problems, remedy = _module("disk.check").check_store(data_dir, _say)
        where, shown = str(data_dir), {"data_dir": str(data_dir)}
    else:
        problems, remedy = _check_postgres(postgres_file, postgres_schema)
        where, shown = str(postgres_file), {"postgres_file": str(postgres_file), "postgres_schema": postgres_schema}
    text = "\n".join([*problems, f"What to do: {remedy}."]) if problems else f"{where}: no damage found."
    _show(text, {**shown, "problems": problems, "remedy": remedy})
    if problems:
        raise click.exceptions.Exit(REFUSED)


def _check_postgres(file: Path | None, schema: str) -> tuple[list[str], str]:
    check = _module("postgres.check")
    try:
        schema = import_module("queuelet.stores.postgres.schema").checked_schema(schema)
    except ValueError as error:
        raise click.UsageError(f"--postgres-schema: {error}.") from None
    address = import_module("queuelet.stores.postgres.address").AddressFile(file)
    problems, remedy = asyncio.run(check.check_tables(address, schema, _say))
    return problems, remedy


def _module(name: str) -> Any:  # noqa: ANN401  # a module
    """Import a module of a store on demand, because it needs a package that only servers install."""
    try:
        return import_module(f"queuelet.stores.{name}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("queuelet"):
            raise
        extras = "server,postgres" if name.startswith("postgres") else "server"
        raise Failure(f"package {error.name} is not installed; run: pip install 'queuelet[{extras}]'") from error


@contextmanager
def _tidied_on_sigterm() -> Iterator[None]:
    """Make SIGTERM end the command as ^C does, so that unfinished files are removed."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _: FrameType | None) -> None:
    raise click.exceptions.Exit(128 + number)


def _say(doing: str) -> None:
    """Report a long step if on a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(f"{doing} ...", err=True)


def _show_copied(target: Path, where: dict[str, Any], copied: Any) -> None:  # noqa: ANN401  # of a module imported late
    """Print what a copy holds. Damaged messages cause a warning and no error, because the copy itself is complete."""
    _show(
        f"{target} holds {messages(copied.messages)}.",
        {**where, "messages": copied.messages, "damaged": copied.damaged},
    )
    if copied.damaged:
        click.echo(
            f"queuelet: {messages(copied.damaged)} left out because they are damaged; "
            "`queuelet check` lists what is damaged; keep the original file if you need them",
            err=True,
        )


def _show(sentence: str, values: dict[str, Any]) -> None:
    """Print the result: a sentence on a terminal, otherwise JSON."""
    write(f"{sentence}\n".encode() if sys.stdout is not None and sys.stdout.isatty() else to_text(values))

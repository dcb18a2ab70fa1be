"""Commands for the data folder of a Disk store. They need no server, and do not mind one, but for `restore`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import click

from queuelet.cli.failures import REFUSED, Failure
from queuelet.cli.options import Command
from queuelet.cli.output import messages, to_text, write

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder that the server keeps its messages in.",
)


@click.command(
    cls=Command,
    verb="back up",
    examples="""
    queuelet backup --data-dir /var/lib/queuelet /backups/queues-monday.db
    kubectl exec queuelet-0 -- queuelet backup --data-dir /data /data/queues.db
    """,
)
@data_dir_option
@click.argument("file", type=click.Path(path_type=Path), help="The backup to make; there must be none of that name.")
def backup(data_dir: Path, file: Path) -> None:
    """Copy a store, as it is at this moment, into one file.

    A server may run on the data folder meanwhile, and needs not be told. The copy is looked through before it gets its
    name, so a file that is there is whole. It needs about as much room as the store. The data folder may be mounted
    read-only. Ended by ^C or SIGTERM, the command leaves nothing; killed outright, it may leave files whose names begin
    with that of the backup and .unfinished, which can be deleted.

    Every row is compared with its checksum. Damaged messages are left out, and how many is printed.
    """
    with _tidied_on_sigterm():
        copied = _stores("backup").back_up(data_dir, file, _say)
    _show_copied(file, {"file": str(file)}, copied)


@click.command(
    cls=Command,
    examples="""
    queuelet restore --data-dir /var/lib/queuelet /backups/queues-monday.db
    queuelet restore --data-dir /var/lib/queuelet --force /backups/queues-monday.db
    """,
)
@data_dir_option
@click.argument("file", type=click.Path(path_type=Path), help="The backup.")
@click.option("--force", is_flag=True, help="Lose the store that is in the folder.")
def restore(data_dir: Path, file: Path, *, force: bool) -> None:
    """Make the store of a data folder from a backup, while no server runs on it.

    The backup may also be the file queuelet.db of another data folder; the log beside it is restored with it.

    The queues are again as they were: messages taken since come back, and messages added since are gone. The store gets
    a new epoch, by which programs and the operator know that. The file is looked through first. Killed at any moment,
    the command leaves the store that was there or the new one.

    Every row is compared with its checksum. Damaged messages are left out, and how many is printed.
    """
    with _tidied_on_sigterm():
        copied = _stores("backup").restore(file, data_dir, force=force, progress=_say)
    _show_copied(data_dir, {"data_dir": str(data_dir)}, copied)


@click.command(
    cls=Command,
    examples="""
    queuelet check --data-dir /var/lib/queuelet
    """,
)
@data_dir_option
def check(data_dir: Path) -> None:
    """Look through a store for damage, and print what is found. Exits with 1 if there is any.

    It reads every page of the database, and a server may run on it meanwhile. The data folder may be mounted read-only.
    """
    problems = list(_stores("check").check_store(data_dir, _say))
    text = "\n".join(problems) if problems else f"{data_dir}: all is well."
    _show(text, {"data_dir": str(data_dir), "problems": problems})
    if problems:
        raise click.exceptions.Exit(REFUSED)


def _stores(name: str) -> Any:  # noqa: ANN401  # a module
    """Import a module of the Disk store: clients do without, and it needs a package that only servers install."""
    try:
        return import_module(f"queuelet.stores.disk.{name}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("queuelet"):
            raise
        raise Failure(f"this needs the package {error.name}: pip install 'queuelet[server]'") from error


@contextmanager
def _tidied_on_sigterm() -> Iterator[None]:
    """Have SIGTERM end the command as ^C does: what is half done is removed first."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _: FrameType | None) -> None:
    raise click.exceptions.Exit(128 + number)


def _say(doing: str) -> None:
    """Tell people what takes so long."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(f"{doing} ...", err=True)


def _show_copied(target: Path, where: dict[str, Any], copied: Any) -> None:  # noqa: ANN401  # of a module imported late
    """Print what a copy holds. What was left out is an error to look at, and none of the copy."""
    _show(
        f"{target} holds {messages(copied.messages)}.",
        {**where, "messages": copied.messages, "damaged": copied.damaged},
    )
    if copied.damaged:
        click.echo(
            f"queuelet: {messages(copied.damaged)} left out because of damage; "
            "keep the file they are in if you need them, `queuelet check` lists them",
            err=True,
        )


def _show(sentence: str, values: dict[str, Any]) -> None:
    """Print what became of it, for people or for scripts."""
    write(f"{sentence}\n".encode() if sys.stdout is not None and sys.stdout.isatty() else to_text(values))

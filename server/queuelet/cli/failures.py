"""Reports failures: one line on standard error, and an exit code for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from queuelet.errors import DeadlineExceeded, QueueletError, ServerDraining, ShardMoved, Unreachable
from queuelet.printable import printable

REFUSED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130
CLOSED_PIPE = 141
"""The exit code by which shells report a program that SIGPIPE ended."""


class Failure(click.ClickException):
    """A command failed."""

    def __init__(self, sentence: str, code: int = REFUSED) -> None:
        super().__init__(sentence)
        self.code = code


def report(sentence: str) -> None:
    """Print a sentence to standard error, in one line."""
    click.echo(f"queuelet: {printable(' '.join(sentence.split()))}", err=True)


@contextmanager
def refused(cannot: str) -> Iterator[None]:
    """Turn errors raised inside into a `Failure` whose message begins with `cannot`."""
    try:
        yield
    except QueueletError as error:
        raise Failure(f"{cannot}: {error.message}", exit_code_of(error)) from error
    except BrokenPipeError as error:
        raise click.exceptions.Exit(CLOSED_PIPE) from error
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{cannot}: {about}{error.strerror or error}") from error
    except ValueError as error:
        raise Failure(f"{cannot}: {error}", USAGE) from error


def exit_code_of(error: QueueletError) -> int:
    """Return the exit code for an error: `UNREACHABLE` if a later retry may succeed."""
    return UNREACHABLE if isinstance(error, Unreachable | DeadlineExceeded | ServerDraining | ShardMoved) else REFUSED


def explain(error: click.ClickException) -> str:
    """Return the message for a failure, with a hint to --help if the usage was wrong."""
    message = error.format_message()
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    verb = getattr(error.ctx.command, "verb", "")
    message = message[:1].lower() + message[1:].rstrip(".")
    return f"{f'cannot {verb}: ' if verb else ''}{message} (see '{error.ctx.command_path} --help')"

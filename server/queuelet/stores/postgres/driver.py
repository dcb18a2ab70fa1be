"""The only module that knows the driver, asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from queuelet.stores.postgres.address import Address

Row = Sequence[Any]
"""A row of a result."""

_SETTINGS = {
    "application_name": "queuelet",
    # A commit is durable, and replicated if the database has synchronous standbys, when it returns.
    "synchronous_commit": "on",
    # Statements are short, so compiling them takes longer than running them.
    "jit": "off",
    # A connection whose client has vanished must not hold locks for long.
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}


_DATA_CORRUPTED = "XX001"

CORRUPTED = frozenset({_DATA_CORRUPTED, "XX002"})
"""The SQLSTATEs of damaged tables and indexes."""

_STATEMENT_SECONDS = 60.0
"""How long a statement may take by default. A database whose machine is gone does not end a connection."""

_READS = {
    # All reads find their rows by an index. Without this a planner whose statistics are old may read whole tables.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""The settings of connections that only read messages."""

_READ_WRITE = SessionAttribute.read_write


class DatabaseError(Exception):
    """The database refused a statement, or the connection to it has failed."""

    def __init__(self, message: str, code: str = "") -> None:
        """Make an error.

        Args:
            message: a text without secrets.
            code: the SQLSTATE of an error of the database; empty if the connection has failed.
        """
        super().__init__(message)
        self.code = code


class Connection:
    """A connection. Each call waits for the one before it."""

    def __init__(self, connection: asyncpg.Connection[Any], address: Address) -> None:
        self._connection = connection
        self.address = address
        """Where it is connected to."""
        self._lock = asyncio.Lock()
        self.warning = ""
        """The last warning of the database; empty if there was none since this was cleared."""
        connection.add_log_listener(self._note_warning)

    async def fetch(self, statement: str, *arguments: object, seconds: float | None = None) -> list[Row]:
        """Run a statement and return its rows.

        Raises:
            DatabaseError: it was refused or took longer than `seconds`, a minute by default, or the connection has
                failed.
        """
        async with self._lock:
            with _translated(self.address):
                return cast("list[Row]", await self._connection.fetch(statement, *arguments, timeout=seconds))

    async def run(self, script: str, *, seconds: float | None = None) -> None:
        """Run one or more statements without arguments, in one transaction if there are several. Raises as `fetch`."""
        async with self._lock:
            with _translated(self.address):
                await self._connection.execute(script, timeout=seconds)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Begin a transaction, commit it at the end, and roll it back if there is an error. Raises as `fetch`."""
        async with self._lock:
            with _translated(self.address):
                async with self._connection.transaction():
                    yield Transaction(self._connection, self.address)

    @asynccontextmanager
    async def snapshot(self, *, seconds: float) -> AsyncIterator[Transaction]:
        """Begin a transaction that only reads, and sees the database as it is now. Raises as `fetch`.

        Args:
            seconds: how long each of its statements may take.
        """
        async with self._lock:
            with _translated(self.address):
                async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                    yield Transaction(self._connection, self.address, seconds)

    async def listen(self, channel: str, notified: Callable[[str], object]) -> None:
        """Call `notified` with the payload of each notification of a channel. Raises as `fetch`."""

        def received(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            notified(str(payload))

        async with self._lock:
            with _translated(self.address):
                await self._connection.add_listener(channel, received)

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self._connection.is_closed()

    def terminate(self) -> None:
        """Close the connection at once. Running calls raise `DatabaseError`."""
        self._connection.terminate()

    async def close(self, seconds: float) -> None:
        """Close the connection in order, or terminate it if that takes longer than `seconds`."""
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            await self._connection.close(timeout=seconds)

    def _note_warning(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        if getattr(message, "severity_en", None) == "WARNING" or getattr(message, "severity", None) == "WARNING":
            self.warning = self.address.without_secrets(str(message))


class Transaction:
    """The statements of a transaction. They raise as `Connection.fetch`."""

    def __init__(
        self, connection: asyncpg.Connection[Any], address: Address, seconds: float = _STATEMENT_SECONDS
    ) -> None:
        self._connection = connection
        self._address = address
        self._seconds = seconds

    async def fetch(self, statement: str, *arguments: object) -> list[Row]:
        """Run a statement and return its rows."""
        with _translated(self._address):
            return cast("list[Row]", await self._connection.fetch(statement, *arguments, timeout=self._seconds))

    async def run(self, script: str) -> None:
        """Run one or more statements without arguments."""
        with _translated(self._address):
            await self._connection.execute(script, timeout=self._seconds)

    async def rows(self, statement: str, count: int) -> AsyncIterator[Row]:
        """Yield the rows of a statement, of which `count` are read at once."""
        with _translated(self._address):
            async for row in self._connection.cursor(statement, prefetch=count, timeout=self._seconds):
                yield cast("Row", row)

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Undo what is done inside if it raises, so that the transaction can go on."""
        with _translated(self._address):
            async with self._connection.transaction():
                yield


async def connect(address: Address, *, schema: str, seconds: float, reads_only: bool = False) -> Connection:
    """Connect to a database that accepts writes.

    Args:
        address: where the database is.
        schema: the schema whose tables statements use.
        seconds: how long to try.
        reads_only: whether only messages are read.

    Raises:
        DatabaseError: the database cannot be reached, or refuses the connection.
    """
    with _translated(address):
        connection = await asyncpg.connect(
            address.url,
            timeout=seconds,
            command_timeout=_STATEMENT_SECONDS,
            server_settings={**_SETTINGS, **(_READS if reads_only else {}), "search_path": schema},
            target_session_attrs=_READ_WRITE,
        )
    return Connection(connection, address)


@contextmanager
def _translated(address: Address) -> Iterator[None]:
    """Raise `DatabaseError` for each error of the driver."""
    try:
        yield
    except asyncpg.TargetServerAttributeNotMatched:
        raise DatabaseError(f"PostgreSQL at {address.shown} is a standby, which accepts no writes") from None
    except asyncpg.PostgresError as error:
        text = f"PostgreSQL: {address.without_secrets(str(error))}"
        raise DatabaseError(text, getattr(error, "sqlstate", None) or "") from None
    except TimeoutError:
        raise DatabaseError(f"PostgreSQL at {address.shown} does not respond") from None
    except OSError as error:
        raise DatabaseError(f"PostgreSQL at {address.shown} cannot be reached: {error.strerror or error}") from None
    except asyncpg.InterfaceError as error:
        raise DatabaseError(f"PostgreSQL at {address.shown}: {address.without_secrets(str(error))}") from None
    except UnicodeDecodeError:
        raise DatabaseError("PostgreSQL: a text in a table is damaged", _DATA_CORRUPTED) from None
    except asyncpg.InternalClientError:  # whose text is about the states of the driver
        raise DatabaseError(f"the connection to PostgreSQL at {address.shown} was lost") from None

"""Reads committed rows without blocking the event loop: a call that needs one that is not in memory is repeated."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from queuelet.core.storage import NotLoaded
from queuelet.errors import StoreFailed
from queuelet.stores.durable import checksums
from queuelet.stores.durable.damage import Damage
from queuelet.stores.durable.places import SEQ_BITS, end_place, first_place
from queuelet.stores.postgres.cache import Changes, Found, RowCache
from queuelet.stores.postgres.driver import Connection, Row

T = TypeVar("T")

_WRONG_CHECKSUM = "its checksum is wrong"

_SECONDS = 10.0
"""How long one read may take."""

_MAX_TOGETHER = 1_000
"""How many rows are read together at most, apart from those that one call needs."""

_SLICE_ROWS, _SLICE_BYTES = 250, 1 << 20
"""After how many rows or bytes of them other calls get their turn while rows are verified."""

_RUN = """
    SELECT place, own_id, checksum, body FROM messages WHERE place = ANY (ARRAY(
        SELECT place FROM (
            SELECT place, sum(octet_length(body)) OVER (ORDER BY place {order}) - octet_length(body) AS before
            FROM messages WHERE place >= $1 AND place < $2 ORDER BY place {order} LIMIT $3
        ) AS few WHERE before < $4
    )) ORDER BY place
"""
"""The first or last messages between two places, up to a number of bytes.

An array, so that the database finds them by the index whatever it knows of the table.
"""

_FIRST, _LAST = _RUN.format(order="ASC"), _RUN.format(order="DESC")

_ROWS = "SELECT place, own_id, checksum, body FROM messages WHERE place = ANY ($1::bigint[])"

_IDS = f"""
    SELECT place, messages.own_id, checksum, body FROM unnest($1::bigint[], $2::bytea[]) AS wanted (number, own_id)
    JOIN messages ON place >> {SEQ_BITS} = wanted.number AND messages.own_id = wanted.own_id ORDER BY place
"""  # noqa: S608  # only our own number

_RESPONSE = "SELECT until, answer, checksum FROM answers WHERE number = $1 AND key = $2"


class PostgresReader:
    """Connections that read, and what they have read. Each call sees all commits so far, or raises `NotLoaded`."""

    reads_at_once = False

    def __init__(
        self,
        connection: Connection,
        browsing: Connection,
        cache: RowCache,
        loop: AbstractEventLoop,
        failed: Callable[[Exception], StoreFailed],
    ) -> None:
        """Make a reader.

        Args:
            connection: the connection of calls that move messages.
            browsing: the connection of calls that only look at messages. They may be many and read many rows, and
                consumers do not wait for them.
            cache: where to store what was read.
            loop: the event loop.
            failed: fails the store because of an error, and returns what to raise.
        """
        self._connection = connection
        self._browsing = browsing
        self._cache = cache
        self._loop = loop
        self._failed = failed
        self._closed = ""
        """Why it reads nothing any more; empty until then."""
        self._loading: dict[object, Future[None]] = {}
        """The reads of runs and responses, by what they read, so that calls which need the same share one."""
        self._all_loading: set[Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rows: _Together[int] = _Together(self._read_rows)
        self._ids: _Together[tuple[int, bytes]] = _Together(self._read_ids)

    def close(self, why: str) -> None:
        """Read nothing any more. Calls that wait for a read get `StoreFailed`."""
        self._closed = why
        for connection in (self._connection, self._browsing):
            connection.terminate()
        for loading in self._all_loading:
            if not loading.done():
                loading.set_exception(StoreFailed(why))
        self._all_loading.clear()
        self._loading.clear()
        self._cache.clear()

    def missing(self, place: int) -> StoreFailed:
        """Return the error to raise if a message that was committed is not stored."""
        return self._failed(StoreFailed(f"the message at place {place} is missing"))

    def require(self, number: int, places: Sequence[int], own_ids: Sequence[bytes]) -> None:
        """Raise `NotLoaded` if some messages are not in memory."""
        unknown = [place for place in places if not self._cache.row(place)[0]]
        if unknown:
            self._load_together(self._rows, number, unknown)
        ids = [own_id for own_id in own_ids if not self._is_known(number, own_id)]
        if ids:
            self._load_together(self._ids, number, [(number, own_id) for own_id in ids])

    def note_committed(
        self, number: int, added: Sequence[int], removed: Sequence[int], own_ids: Iterable[bytes]
    ) -> None:
        """Note what a commit has changed, so that nothing is read that is no longer true."""
        self._cache.note_committed(number, added, removed, own_ids)

    def forget(self, number: int) -> None:
        """Forget what was read under the number of a queue, because its rows will be deleted."""
        self._cache.forget(number)

    def body(self, place: int) -> bytes | Damage | None:
        """Return the message at a place, or its damage; None if there is none."""
        is_known, found = self._cache.row(place)
        if not is_known:
            self._load_together(self._rows, place >> SEQ_BITS, [place])
        return found

    def size(self, place: int) -> int | None:
        """Return the size of the message at a place in bytes, None if there is none."""
        found = self.body(place)
        if found is None:
            return None
        return found.size if isinstance(found, Damage) else len(found)

    def bodies(  # noqa: PLR0913  # two of them by name
        self, place: int, end: int, count: int, max_bytes: int, *, descending: bool = False, is_browse: bool = False
    ) -> list[tuple[int, bytes | Damage]]:
        """Return the first messages from `place` to before `end`, or the last ones, the last one first."""
        found = self._cache.run(place, end, count, max_bytes, descending=descending)
        if found is None:
            number = (end - 1 if descending else place) >> SEQ_BITS
            place, end = max(place, first_place(number)), min(end, end_place(number))
            self._load(
                ("run", place, end, descending, is_browse),
                number,
                partial(self._read_run, place, end, count, max_bytes, descending=descending, is_browse=is_browse),
            )
        return found or []

    def place_of(self, number: int, own_id: bytes) -> int | None:
        """Return the place of a queue's newest message with this producer-given ID, None if there is none."""
        is_known, place = self._cache.place(number, own_id)
        if not is_known:
            self._load_together(self._ids, number, [(number, own_id)])
        return place

    def response(self, number: int, key: bytes) -> bytes | None:
        """Return a saved response, None if there is none or it is damaged."""
        is_known, response = self._cache.response(number, key)
        if not is_known:
            self._load(("response", number, key), number, partial(self._read_response, number, key))
        return response

    # Inside

    def _is_known(self, number: int, own_id: bytes) -> bool:
        """Return whether it is known which message has an ID, and the message itself."""
        is_known, place = self._cache.place(number, own_id)
        return is_known and (place is None or self._cache.row(place)[0])

    def _load(self, what: object, number: int, read: Callable[[Changes], Coroutine[Any, Any, None]]) -> NoReturn:
        """Raise `NotLoaded` for a read of a queue, which begins unless it is under way already."""
        loading = self._loading.get(what)
        if loading is None:
            changes = self._cache.begin(number)
            loading = self._loading[what] = self._begin(partial(read, changes), {number: changes})
            loading.add_done_callback(lambda _: self._loading.pop(what, None))
        raise NotLoaded(loading)

    def _load_together(self, together: _Together[T], number: int, what: Sequence[T]) -> NoReturn:
        """Raise `NotLoaded` for a read of a queue that is done together with those of other calls.

        While one such read is under way, the next one gathers, so that many calls take few round trips.
        """
        wanted = together.wanted
        if wanted is None or len(wanted.what) >= _MAX_TOGETHER:
            wanted = together.wanted = _Wanted()
            wanted.loading = self._begin(partial(together.read, wanted), wanted.changes)
        if number not in wanted.changes:
            wanted.changes[number] = self._cache.begin(number)
        wanted.what.update(dict.fromkeys(what))
        raise NotLoaded(wanted.loading)

    def _begin(self, read: Callable[[], Coroutine[Any, Any, None]], changes: Mapping[int, Changes]) -> Future[None]:
        """Begin a read; return a future for its end, at which nothing more is noted in `changes`."""
        if self._closed:
            raise StoreFailed(self._closed)
        loading: Future[None] = self._loop.create_future()
        loading.add_done_callback(_retrieve)
        self._all_loading.add(loading)
        loading.add_done_callback(self._all_loading.discard)
        task = self._loop.create_task(self._run(loading, read))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, changes))
        return loading

    def _ended(self, changes: Mapping[int, Changes], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        for each in changes.values():
            self._cache.end(each)

    async def _run(self, loading: Future[None], read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await read()
        except Exception as error:  # noqa: BLE001  # calls would wait for ever if a defect were only logged
            if not self._closed:
                failed = self._failed(error)
                if not loading.done():
                    loading.set_exception(failed)
        else:
            if not loading.done():
                loading.set_result(None)

    async def _read_rows(self, places: Sequence[int], changes: Mapping[int, Changes]) -> None:
        rows = await _verified(await self._connection.fetch(_ROWS, places, seconds=_SECONDS))
        found: dict[int, Found | None] = dict.fromkeys(places) | dict(rows)
        for number, few in _by_number(found.items()):
            self._cache.store_rows(changes[number], few)

    async def _read_ids(self, ids: Sequence[tuple[int, bytes]], changes: Mapping[int, Changes]) -> None:
        numbers, own_ids = zip(*ids, strict=True)
        rows = await self._connection.fetch(_IDS, numbers, own_ids, seconds=_SECONDS)
        for number, few in _by_number(await _verified(rows)):
            self._cache.store_rows(changes[number], few)
        # The newest message with an ID is the last one.
        places: dict[tuple[int, bytes], int | None] = dict.fromkeys(ids)
        places |= {(row[0] >> SEQ_BITS, row[1]): row[0] for row in rows}
        for (number, own_id), place in places.items():
            self._cache.store_places(changes[number], [(own_id, place)])

    async def _read_run(  # noqa: PLR0913  # two of them by name
        self, place: int, end: int, count: int, max_bytes: int, changes: Changes, *, descending: bool, is_browse: bool
    ) -> None:
        connection = self._browsing if is_browse else self._connection
        rows = await connection.fetch(_LAST if descending else _FIRST, place, end, count, max_bytes, seconds=_SECONDS)
        size = sum(len(row[3]) for row in rows)
        if rows and (len(rows) >= count or size >= max_bytes):  # there may be more
            place, end = (rows[0][0], end) if descending else (place, rows[-1][0] + 1)
        self._cache.store_run(changes, place, end, await _verified(rows))

    async def _read_response(self, number: int, key: bytes, changes: Changes) -> None:
        response = None
        for until, answer, checksum in await self._connection.fetch(_RESPONSE, number, key, seconds=_SECONDS):
            if checksums.of_row(number, key, until, answer) == checksum:
                response = answer
        self._cache.store_response(changes, key, response)


class _Wanted(Generic[T]):
    """What several calls want to be read together."""

    __slots__ = ("changes", "loading", "what")

    loading: Future[None]

    def __init__(self) -> None:
        self.what: dict[T, None] = {}
        self.changes: dict[int, Changes] = {}
        """What commits change in the queues to read, by their numbers."""


class _Together(Generic[T]):
    """The reads of one kind, of which one at a time is under way."""

    __slots__ = ("_read", "_turn", "wanted")

    def __init__(self, read: Callable[[Sequence[T], Mapping[int, Changes]], Coroutine[Any, Any, None]]) -> None:
        self._read = read
        self._turn = asyncio.Lock()
        self.wanted: _Wanted[T] | None = None
        """What the next read reads."""

    async def read(self, wanted: _Wanted[T]) -> None:
        """Read what has gathered until this is its turn."""
        async with self._turn:
            if self.wanted is wanted:
                self.wanted = None
            await self._read(list(wanted.what), wanted.changes)


async def _verified(rows: Sequence[Row]) -> list[tuple[int, Found]]:
    """Return the places of rows of `messages`, and their bodies or their damage."""
    found: list[tuple[int, Found]] = []
    since = size = 0
    for index, (place, own_id, checksum, body) in enumerate(rows):
        is_sound = checksums.of_message(place, own_id, body) == checksum
        found.append((place, body if is_sound else Damage(_WRONG_CHECKSUM, len(body))))
        size += len(body)
        if index - since >= _SLICE_ROWS or size >= _SLICE_BYTES:
            since, size = index, 0
            await asyncio.sleep(0)
    return found


def _by_number(rows: Iterable[tuple[int, T]]) -> Iterable[tuple[int, list[tuple[int, T]]]]:
    """Return rows by the numbers of their queues."""
    found: dict[int, list[tuple[int, T]]] = {}
    for row in rows:
        found.setdefault(row[0] >> SEQ_BITS, []).append(row)
    return found.items()


def _retrieve(loading: Future[None]) -> None:
    """Retrieve the error of a read, because asyncio otherwise logs it if no call waits for it any more."""
    if not loading.cancelled():
        loading.exception()

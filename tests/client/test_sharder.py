"""Several queues used as one. Numbers refer to Curator's behaviours in docs/curator.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from math import nan

import pytest

from queuelet.client import JSON, Client, Closed, PutsFailed, Queue, Received, Sharder
from queuelet.client.sharder import shard_of
from queuelet.errors import QueueNotFound
from support.patience import patient
from support.polling import until
from support.rpc import unique_name
from support.server_process import ServerProcess

KEYS = [f"customer {number}" for number in range(20)]


@pytest.fixture
async def name(client: Client) -> AsyncIterator[str]:
    """A name that no other test uses. Its shards are removed afterwards."""
    name = unique_name("sharded")
    yield name
    for number in range(8):
        await client.delete_queue(f"{name}-{number}")


async def depths(client: Client, sharder: Sharder[bytes]) -> list[int]:
    """Return how many messages each shard has."""
    return [(await client.get_queue(shard)).messages.ready for shard in sharder.shards]


async def test_c37_the_start_makes_a_shard_at_least(client: Client, name: str) -> None:
    async with Sharder(client, name) as sharder:
        assert sharder.shards == (f"{name}-0",)
        await sharder.put(b"x")
        assert await depths(client, sharder) == [1]


async def test_c37_shards_that_are_there_are_adopted(client: Client, name: str) -> None:
    """It does not matter who created them; their messages, limits and number stay."""
    for number in range(3):
        await client.new_queue(name=f"{name}-{number}", limit=5)
    await client.add(f"{name}-1", b"x")
    async with Sharder(client, name, shards=2) as sharder:
        assert sharder.shards == tuple(f"{name}-{number}" for number in range(3))
        assert await depths(client, sharder) == [0, 1, 0]
        assert (await client.get_queue(f"{name}-0")).limit == 5


async def test_c37_reopening_finds_the_same_shards(client: Client, name: str) -> None:
    async with Sharder(client, name, shards=3) as sharder:
        first = sharder.shards
    async with Sharder(client, name) as sharder:
        assert sharder.shards == first


async def test_c37_sharders_come_to_the_same_shards(client: Client, server: ServerProcess, name: str) -> None:
    """They are opened at the same time, with different counts, over different connections."""
    async with Client(server.address) as other:
        few = Sharder(client, name, shards=2, look_every=0.01)
        many = Sharder(other, name, shards=5, look_every=0.01)
        await asyncio.gather(few.__aenter__(), many.__aenter__())

        async def is_agreed() -> bool:
            return few.shards == many.shards

        await until(is_agreed)
        assert len(few.shards) == 5
        await few.__aexit__(None, None, None)
        await many.__aexit__(None, None, None)


async def test_c37_all_items_of_all_shards_come_once(client: Client, name: str) -> None:
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(received.item)

    async with Sharder(client, name, shards=4) as sharder:
        for number in range(200):
            await sharder.send(b"%d" % number)
        assert await sharder.flush()
        assert all(await depths(client, sharder))
        await sharder.run(handle, until_empty=True)
        assert await depths(client, sharder) == [0] * 4
    assert sorted(map(int, handled)) == list(range(200))


async def test_c37_a_shard_that_others_add_is_consumed_too(client: Client, name: str) -> None:
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(received.item)
        sharder.stop()

    async with Sharder(client, name, look_every=0.01) as sharder:
        work = asyncio.create_task(sharder.run(handle))
        await client.new_queue(name=f"{name}-1")
        await client.add(f"{name}-1", b"x")
        await work
    assert handled == [b"x"]


async def test_c38_an_item_without_a_key_goes_where_the_fewest_are(client: Client, name: str) -> None:
    async with Sharder(client, name, shards=3):
        for _ in range(10):
            await client.add(f"{name}-0", b"x")
    async with Sharder(client, name) as sharder:
        for _ in range(20):
            await sharder.put(b"x")
        assert await depths(client, sharder) == [10, 10, 10]


class LookingClient(Client):
    """A client that records which queues were requested."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.looks: list[str] = []

    async def get_queue(self, queue: str) -> Queue:
        found = await super().get_queue(queue)
        self.looks.append(queue)
        return found

    async def until_looked(self, sharder: Sharder[bytes]) -> None:
        """Wait until all shards were checked once more."""
        begin = len(self.looks)

        async def is_over() -> bool:
            return self.looks[begin:].count(sharder.shards[-1]) == 2

        await until(is_over)


@pytest.fixture
async def looking(server: ServerProcess) -> AsyncIterator[LookingClient]:
    """A client of the shared server that records requested queues."""
    async with LookingClient(server.address) as client:
        yield client


async def test_c38_items_without_a_key_take_turns_where_shards_have_as_many(looking: LookingClient, name: str) -> None:
    """Each is popped, and all shards are found empty, before the next one is put."""
    took: list[str] = []
    async with Sharder(looking, name, shards=3, look_every=0.01) as sharder:
        for _ in range(6):
            await sharder.put(b"x")
            took += [shard for shard in sharder.shards if await looking.pop_batch(shard)]
            await looking.until_looked(sharder)
        assert took == [*sharder.shards, *sharder.shards]


async def test_c38_items_without_a_key_that_are_on_their_way_are_counted(looking: LookingClient, name: str) -> None:
    """A check that comes before they exist does not fail either."""
    async with Sharder(looking, name, shards=2, look_every=0.01, linger=600) as sharder:
        for _ in range(10):
            await looking.add(f"{name}-1", b"x")
        for _ in range(20):
            await looking.until_looked(sharder)
            await sharder.send(b"x")
        await sharder.flush()
        assert await depths(looking, sharder) == [15, 15]


async def test_c38_items_of_one_key_keep_their_order(client: Client, name: str) -> None:
    handled: list[tuple[str, int]] = []

    async def handle(received: Received[list[int]]) -> None:
        key, number = received.item
        handled.append((str(key), number))

    async with Sharder(client, name, JSON, shards=4) as sharder:
        for number in range(10):
            for key in KEYS:
                await sharder.send([key, number], key=key)
        await sharder.flush()
        await sharder.run(handle, until_empty=True)
    assert len(handled) == 10 * len(KEYS)
    for key in KEYS:
        assert [number for own, number in handled if own == key] == list(range(10))


def test_c38_a_shard_that_is_added_takes_keys_and_moves_none_between_others() -> None:
    shards = tuple(f"orders-{number}" for number in range(8))
    for fewer, more in pairwise(shards[:count] for count in range(1, 9)):
        moved = {key for key in KEYS if shard_of(key, fewer) != shard_of(key, more)}
        assert {shard_of(key, more) for key in moved} <= {more[-1]}
    assert len({shard_of(key, shards) for key in KEYS}) > 4


async def test_a_put_before_the_start_or_after_the_close_is_refused(client: Client, name: str) -> None:
    sharder = Sharder(client, name)
    with pytest.raises(Closed):
        await sharder.put(b"early")
    with pytest.raises(Closed):
        await sharder.run(ignore)
    async with sharder:
        await sharder.put(b"x")
        with pytest.raises(Closed):
            await sharder.__aenter__()
    with pytest.raises(Closed):
        await sharder.put(b"late")


async def test_closing_reports_what_was_not_put(client: Client, name: str) -> None:
    with pytest.raises(PutsFailed):
        async with Sharder(client, name, shards=2) as sharder:
            await sharder.send(b"refused", delay=4e8)


async def ignore(received: Received[bytes]) -> None:
    """Handle a message."""


async def test_a_run_that_is_stopped_begins_with_no_shard_more(client: Client, name: str) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def handle(received: Received[bytes]) -> None:
        begun.set()
        await goes_on.wait()

    async with Sharder(client, name, look_every=0.01) as sharder:
        work = asyncio.create_task(sharder.run(handle))
        await sharder.put(b"x")
        await begun.wait()
        sharder.stop()
        await client.new_queue(name=f"{name}-1")

        async def is_found() -> bool:
            return len(sharder.shards) == 2

        await until(is_found)
        goes_on.set()
        async with asyncio.timeout(patient(30)):
            await work


async def test_a_shard_that_is_deleted_is_made_again_and_the_others_go_on(client: Client, name: str) -> None:
    handled: list[bytes] = []

    async def handle(received: Received[bytes]) -> None:
        handled.append(received.item)

    async def is_handled() -> bool:
        return {b"before", b"other", b"after"} <= set(handled)

    async with Sharder(client, name, shards=2) as sharder:
        work = asyncio.create_task(sharder.run(handle))
        await client.add(f"{name}-1", b"before")
        await until(lambda: asyncio.sleep(0, result=b"before" in handled))
        await client.delete_queue(f"{name}-1")
        await until(lambda: exists(client, f"{name}-1"))
        await client.add(f"{name}-0", b"other")
        await client.add(f"{name}-1", b"after")
        await until(is_handled)
        sharder.stop()
        await work


async def test_a_shard_that_is_deleted_is_made_again_for_who_puts(client: Client, name: str) -> None:
    """It has the settings of the sharder."""
    key = next(key for key in KEYS if shard_of(key, (f"{name}-0", f"{name}-1")) == f"{name}-1")
    async with Sharder(client, name, shards=2, limit=7, look_every=0.01) as sharder:
        await sharder.put(b"before", key=key)
        await client.delete_queue(f"{name}-1")
        await until(lambda: exists(client, f"{name}-1"))
        await sharder.put(b"after", key=key)
        assert await depths(client, sharder) == [0, 1]
        assert (await client.get_queue(f"{name}-1")).limit == 7


async def exists(client: Client, queue: str) -> bool:
    """Return whether the queue exists."""
    try:
        await client.get_queue(queue)
    except QueueNotFound:
        return False
    return True


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="shards: 0"):
        Sharder(Client(), "orders", shards=0)
    for look_every in (0, -1, nan):
        with pytest.raises(ValueError, match=r"look_every: .* is out of range; use more than 0"):
            Sharder(Client(), "orders", look_every=look_every)

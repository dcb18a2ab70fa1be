"""Several queues used as one: for more throughput than one queue has, or so that one key does not block the others.

    async with Sharder(client, "orders", shards=4) as orders:
        await orders.put(b"an order", key="customer 7")
        await orders.run(handle)                        # a consumer for each shard

The shards are the queues `orders-0`, `orders-1` and so on. Opening a sharder creates the shards that are missing up to
its count, and uses existing ones as they are. So sharders with different counts converge to the largest one, because
each looks for further shards while it is open. A sharder deletes no shard, and recreates one that was deleted.

Messages with the same key go to the same shard and keep their order. Messages without a key go to the shard with the
fewest messages, in turn among equals. There is no order between shards. A new shard takes a share of the keys from all
others, while queued messages stay where they are. If the order of a key matters, add shards while the queues are empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from types import TracebackType
from typing import Any, Generic, Self, Unpack, overload

from queuelet.bounds import UNBOUNDED
from queuelet.client.client import Client
from queuelet.client.consumer import Consumer
from queuelet.client.errors import Closed
from queuelet.client.handler_loop import Handler
from queuelet.client.options import ConsumerOptions, ProducerOptions, PutOptions
from queuelet.client.pending_put import Added, PendingPut
from queuelet.client.producer import Producer
from queuelet.client.retries import UNAVAILABLE
from queuelet.client.serializers import BYTES, Item, Serializer
from queuelet.client.validation import Seconds, check_at_least, seconds_of
from queuelet.definition import Counts, DeliverySettings, StoreKind
from queuelet.errors import QueueExists, QueueletError, QueueNotFound


class _Run:
    """Consumption of all shards, with one consumer for each."""

    def __init__(self, consumer_of: Callable[[str], Consumer[Any]], make: Callable[[str], Awaitable[None]]) -> None:
        self._consumer_of = consumer_of
        self._make = make
        self._consumers: dict[str, Consumer[Any]] = {}
        self._works: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._is_stopping = False

    def start(self, shard: str) -> None:
        """Start to consume a shard."""
        work = asyncio.create_task(self._consume(shard))
        work.add_done_callback(lambda _: self._changed.set())
        self._works.append(work)

    def stop(self) -> None:
        """Stop all consumers once their current work is done."""
        self._is_stopping = True
        for consumer in self._consumers.values():
            consumer.stop()

    async def wait(self) -> None:
        """Wait until all consumers have ended. Raises the error of the first that fails."""
        while not all(work.done() for work in self._works):
            self._changed.clear()
            await self._changed.wait()
            for work in self._works:
                if work.done():
                    work.result()

    async def close(self) -> None:
        """Cancel all consumers."""
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)

    async def _consume(self, shard: str) -> None:
        """Consume a shard, and recreate it if it was deleted."""
        while not self._is_stopping:
            consumer = self._consumers[shard] = self._consumer_of(shard)
            try:
                await consumer.run()
            except QueueNotFound:
                # If the server is unavailable now, the next consumer waits for it and may come here again.
                with suppress(*UNAVAILABLE):
                    await self._make(shard)
            else:
                return


class Sharder(Generic[Item]):
    """Puts messages into the shards of one name, and consumes them. Use it in `async with`."""

    @overload
    def __init__(
        self: Sharder[bytes],
        client: Client,
        name: str,
        *,
        shards: int = ...,
        store: StoreKind | str = ...,
        limit: int = ...,
        delivery: DeliverySettings | None = ...,
        look_every: Seconds = ...,
        **options: Unpack[ProducerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        client: Client,
        name: str,
        serializer: Serializer[Item],
        *,
        shards: int = ...,
        store: StoreKind | str = ...,
        limit: int = ...,
        delivery: DeliverySettings | None = ...,
        look_every: Seconds = ...,
        **options: Unpack[ProducerOptions],
    ) -> None: ...

    def __init__(  # noqa: PLR0913  # independent settings, all but three keyword-only
        self,
        client: Client,
        name: str,
        serializer: Serializer[Any] = BYTES,
        *,
        shards: int = 1,
        store: StoreKind | str = "MEMORY",
        limit: int = UNBOUNDED,
        delivery: DeliverySettings | None = None,
        look_every: Seconds = 1.0,
        **options: Unpack[ProducerOptions],
    ) -> None:
        """Set up a sharder. Nothing is sent until it is opened.

        Args:
            client: An open client.
            name: The prefix of the shards' names.
            serializer: Converts items to bytes and back.
            shards: The smallest number of shards.
            store: Where new shards store their messages, a `StoreKind` or its name: `MEMORY`, `DISK` or `POSTGRES`.
            limit: The largest number of messages in a new shard; -1 for unlimited.
            delivery: The delivery settings of new shards; None for the server's defaults.
            look_every: How often to look for new shards and at the number of messages in each, in seconds.
            **options: Settings of the `Producer` of each shard.

        Raises:
            ValueError: A number is out of range.
        """
        check_at_least(1, shards=shards)
        self._look_every = seconds_of("look_every", look_every, above=0)
        self._client = client
        self._name = name
        self._serializer: Serializer[Item] = serializer
        self._minimum = shards
        self._store = store
        self._limit = limit
        self._delivery = delivery
        self._options = options
        self._producers: dict[str, Producer[Item]] = {}
        self._messages: dict[str, int] = {}
        """The number of messages in each shard, as far as known. The shard of the latest put is last."""
        self._runs: list[_Run] = []
        self._looking: asyncio.Task[None] | None = None

    @property
    def shards(self) -> tuple[str, ...]:
        """The names of the known shards, in order."""
        return tuple(self._producers)

    async def __aenter__(self) -> Self:
        """Find the shards, and create those that are missing."""
        if self._looking is not None:
            raise Closed("the sharder was opened before; make a new one")
        self._looking = asyncio.create_task(self._look_loop())
        try:
            for number in range(self._minimum):
                await self._make(self._shard(number))
            await self._look()
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the producers of all shards, as `Producer` does. Consumers go on until they are stopped."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        ends = (producer.__aexit__(kind, error, trace) for producer in self._producers.values())
        for failure in await asyncio.gather(*ends, return_exceptions=True):
            if failure is not None:
                raise failure

    # Putting

    async def put(self, item: Item, *, key: str = "", **options: Unpack[PutOptions]) -> Added:
        """Put an item into the shard of its key, and return once the server has committed it.

        Args:
            item: The item to put.
            key: Items with the same key go to the same shard; empty for any shard.
            **options: Settings of the message and the timeout, as for `Producer.put`.

        Returns:
            What was added.

        Raises:
            QueueletError: The errors of `Producer.put`.
        """
        return await self._producer_for(key).put(item, **options)

    async def send(self, item: Item, *, key: str = "", **options: Unpack[PutOptions]) -> PendingPut:
        """Put an item into the shard of its key, and return before it is sent.

        Args:
            item: The item to put.
            key: Items with the same key go to the same shard; empty for any shard.
            **options: Settings of the message and the timeout, as for `Producer.put`.

        Returns:
            The put in flight, to be awaited for its outcome.

        Raises:
            QueueletError: The errors of `Producer.send`.
        """
        return await self._producer_for(key).send(item, **options)

    def _producer_for(self, key: str) -> Producer[Item]:
        self._check_open()
        shard = shard_of(key, self.shards) if key else min(self._messages, key=self._messages.__getitem__)
        self._messages[shard] = self._messages.pop(shard) + 1
        return self._producers[shard]

    async def flush(self, timeout: Seconds | None = None) -> bool:  # noqa: ASYNC109  # it returns False instead of raising
        """Wait until all puts so far have an outcome.

        Args:
            timeout: How long to wait, in seconds; None for unlimited.

        Returns:
            Whether all have one.
        """
        return all(await asyncio.gather(*(producer.flush(timeout) for producer in self._producers.values())))

    # Consuming

    async def run(self, handler: Handler[Item], **options: Unpack[ConsumerOptions]) -> None:
        """Consume all shards, including new ones, with a `Consumer` for each.

        Args:
            handler: Does the work of a message.
            **options: Settings of the consumers, as for `Consumer`.

        Raises:
            QueueletError: The errors of `Consumer.run`; the first one ends all consumers.
        """
        self._check_open()

        def consumer_of(shard: str) -> Consumer[Item]:
            return Consumer(self._client, shard, handler, serializer=self._serializer, **options)

        run = _Run(consumer_of, self._make)
        for shard in self.shards:
            run.start(shard)
        self._runs.append(run)
        try:
            await run.wait()
        finally:
            self._runs.remove(run)
            await run.close()

    def stop(self) -> None:
        """Stop all consumers. `run` returns once their current work is done."""
        for run in self._runs:
            run.stop()

    # Internals

    def _check_open(self) -> None:
        if not self._producers:
            raise Closed("the sharder is not open; use it in `async with`")

    def _shard(self, number: int) -> str:
        return f"{self._name}-{number}"

    async def _make(self, shard: str) -> None:
        with suppress(QueueExists):
            await self._client.new_queue(name=shard, store=self._store, limit=self._limit, delivery=self._delivery)

    async def _look_loop(self) -> None:
        while True:
            await asyncio.sleep(self._look_every)
            with suppress(QueueletError):
                await self._look()

    async def _look(self) -> None:
        """Find new shards, and refresh the number of messages in each."""
        for number in count():
            shard = self._shard(number)
            try:
                counts = (await self._client.get_queue(shard)).messages
            except QueueNotFound:
                if shard not in self._producers:
                    return
                await self._make(shard)
                counts = Counts()
            if shard not in self._producers:
                await self._adopt(shard)
            in_flight = self._producers[shard].unsettled
            self._messages[shard] = counts.total + in_flight

    async def _adopt(self, shard: str) -> None:
        """Open a producer for a shard, and start to consume it where `run` is active."""
        producer = Producer(self._client, shard, self._serializer, **self._options)
        self._producers[shard] = await producer.__aenter__()
        for run in self._runs:
            run.start(shard)


def shard_of(key: str, shards: tuple[str, ...]) -> str:
    """Return the shard of a key: the one with the largest hash of both names.

    Everyone who knows the same shards finds the same one. A new shard takes keys from the others, and no key moves
    between the old ones. (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.)
    """
    return max(
        shards, key=lambda shard: blake2b(f"{shard}\0{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    )

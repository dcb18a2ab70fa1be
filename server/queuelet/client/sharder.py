"""Several queues as one: for more than one queue can do, or so that one key does not hold up the others.

    async with Sharder(client, "orders", shards=4) as orders:
        await orders.put(b"an order", key="customer 7")
        await orders.run(handle)                        # a consumer for each shard

The shards are the queues `orders-0`, `orders-1` and so on. Those that are there are taken as they are, whoever made
them; opening makes what is missing of as many as it is told. So sharders that were told different counts come to the
largest: each looks for more shards as long as it is open. None is removed, and one that somebody deletes is made again.

Messages of one key go to one shard and keep their order; those without go where the fewest messages are, in turn where
there are as many. Between shards there is no order. A shard that is added takes its part of the keys from all others,
and what is queued stays where it is: whoever needs the order of keys adds shards while the queues are empty.
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
from queuelet.client.consumer import Consumer, Handler
from queuelet.client.errors import Closed
from queuelet.client.options import ConsumerOptions, ProducerOptions, PutOptions
from queuelet.client.pending_put import Added, Sent
from queuelet.client.producer import Producer
from queuelet.client.retries import AWAY
from queuelet.client.serializers import BYTES, Item, Serializer
from queuelet.client.validation import Seconds, check_at_least, seconds_of
from queuelet.errors import QueueExists, QueueletError, QueueNotFound
from queuelet.v1 import queue_pb2 as pb


class _Run:
    """Work on all shards, each by a consumer of its own."""

    def __init__(self, consumer_of: Callable[[str], Consumer[Any]], make: Callable[[str], Awaitable[None]]) -> None:
        """Take what makes the consumer of a shard, and what makes a shard."""
        self._consumer_of = consumer_of
        self._make = make
        self._consumers: dict[str, Consumer[Any]] = {}
        self._works: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._is_stopping = False

    def start(self, shard: str) -> None:
        """Begin with a shard."""
        work = asyncio.create_task(self._consume(shard))
        work.add_done_callback(lambda _: self._changed.set())
        self._works.append(work)

    def stop(self) -> None:
        """Take no more messages, and end when the work that goes on is done."""
        self._is_stopping = True
        for consumer in self._consumers.values():
            consumer.stop()

    async def wait(self) -> None:
        """Return when the work on all shards has ended. Raises what ended one of them."""
        while not all(work.done() for work in self._works):
            self._changed.clear()
            await self._changed.wait()
            for work in self._works:
                if work.done():
                    work.result()

    async def close(self) -> None:
        """Cut off the work that goes on."""
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)

    async def _consume(self, shard: str) -> None:
        """Consume a shard, and make it again where somebody deletes it."""
        while not self._is_stopping:
            consumer = self._consumers[shard] = self._consumer_of(shard)
            try:
                await consumer.run()
            except QueueNotFound:
                # Where the server is away now, the next consumer waits for it, and may come here again.
                with suppress(*AWAY):
                    await self._make(shard)
            else:
                return


class Sharder(Generic[Item]):
    """Puts messages into the shards of one name, and takes them out. Use it in `async with`."""

    @overload
    def __init__(
        self: Sharder[bytes],
        client: Client,
        name: str,
        *,
        shards: int = ...,
        store: pb.Queue.Store | str = ...,
        limit: int = ...,
        delivery: pb.DeliverySettings | None = ...,
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
        store: pb.Queue.Store | str = ...,
        limit: int = ...,
        delivery: pb.DeliverySettings | None = ...,
        look_every: Seconds = ...,
        **options: Unpack[ProducerOptions],
    ) -> None: ...

    def __init__(  # noqa: PLR0913  # each is a choice of its own, and all but three are named
        self,
        client: Client,
        name: str,
        serializer: Serializer[Any] = BYTES,
        *,
        shards: int = 1,
        store: pb.Queue.Store | str = "MEMORY",
        limit: int = UNBOUNDED,
        delivery: pb.DeliverySettings | None = None,
        look_every: Seconds = 1.0,
        **options: Unpack[ProducerOptions],
    ) -> None:
        """Take where the messages go.

        Args:
            client: an open client.
            name: what the shards' names begin with.
            serializer: what makes bytes of items, and items of bytes.
            shards: how many there should be at least.
            store: where the messages of a shard that is made live.
            limit: the most messages it holds; -1 for no bound.
            delivery: how its messages are delivered; None for the server's defaults.
            look_every: how often to look for new shards, and how full they are, in seconds.
            options: those of the `Producer` of each shard.
        """
        check_at_least(1, shards=shards)
        self._look_every = seconds_of("look_every", look_every, above=0)
        self._client = client
        self._name = name
        self._serializer: Serializer[Item] = serializer
        self._least = shards
        self._store = store
        self._limit = limit
        self._delivery = delivery
        self._options = options
        self._producers: dict[str, Producer[Item]] = {}
        self._messages: dict[str, int] = {}
        """How many messages each shard has, as far as is known. The shard that was put into last stands last."""
        self._runs: list[_Run] = []
        self._looking: asyncio.Task[None] | None = None

    @property
    def shards(self) -> tuple[str, ...]:
        """The names of the shards that are known, in order."""
        return tuple(self._producers)

    async def __aenter__(self) -> Self:
        """Find the shards, and make those that are missing."""
        if self._looking is not None:
            raise Closed("the sharder was opened before: make a new one")
        self._looking = asyncio.create_task(self._look_now_and_then())
        try:
            for number in range(self._least):
                await self._make(self._shard(number))
            await self._look()
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is still here, as `Producer` does, and take no more. Consumers go on until they are stopped."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        ends = (producer.__aexit__(kind, error, trace) for producer in self._producers.values())
        for failure in await asyncio.gather(*ends, return_exceptions=True):
            if failure is not None:
                raise failure

    # Putting

    async def put(self, item: Item, *, key: str = "", **options: Unpack[PutOptions]) -> Added:
        """Put an item into the shard of its key, and return when it is kept there; see `Producer.put`."""
        return await self._producer_for(key).put(item, **options)

    async def send(self, item: Item, *, key: str = "", **options: Unpack[PutOptions]) -> Sent:
        """Take an item to be put into the shard of its key, and return before it is; see `Producer.send`."""
        return await self._producer_for(key).send(item, **options)

    def _producer_for(self, key: str) -> Producer[Item]:
        self._check_open()
        shard = shard_of(key, self.shards) if key else min(self._messages, key=self._messages.__getitem__)
        self._messages[shard] = self._messages.pop(shard) + 1
        return self._producers[shard]

    async def flush(self, timeout: Seconds | None = None) -> bool:  # noqa: ASYNC109  # its end is an answer, no error
        """Wait until all that was put so far has an outcome; return whether it has, within so many seconds."""
        return all(await asyncio.gather(*(producer.flush(timeout) for producer in self._producers.values())))

    # Taking

    async def run(self, handler: Handler[Item], **options: Unpack[ConsumerOptions]) -> None:
        """Consume all shards, new ones too, each by a `Consumer` of its own with these options.

        It ends when all of them have, and when one raises what does not go by itself.
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
        """Take no more messages, and have `run` end when the work that goes on is done."""
        for run in self._runs:
            run.stop()

    # Inside

    def _check_open(self) -> None:
        if not self._producers:
            raise Closed("the sharder was not opened: use it in `async with`")

    def _shard(self, number: int) -> str:
        return f"{self._name}-{number}"

    async def _make(self, shard: str) -> None:
        with suppress(QueueExists):
            await self._client.new_queue(name=shard, store=self._store, limit=self._limit, delivery=self._delivery)

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._look_every)
            with suppress(QueueletError):
                await self._look()

    async def _look(self) -> None:
        """Learn how full the shards are, and of those that others added."""
        for number in count():
            shard = self._shard(number)
            try:
                counts = (await self._client.get_queue(shard)).messages
            except QueueNotFound:
                if shard not in self._producers:
                    return
                await self._make(shard)
                counts = pb.MessageCounts()
            if shard not in self._producers:
                await self._adopt(shard)
            on_their_way = self._producers[shard].unsettled
            self._messages[shard] = counts.ready + counts.delayed + counts.leased + counts.dead + on_their_way

    async def _adopt(self, shard: str) -> None:
        """Begin to use a shard."""
        producer = Producer(self._client, shard, self._serializer, **self._options)
        self._producers[shard] = await producer.__aenter__()
        for run in self._runs:
            run.start(shard)


def shard_of(key: str, shards: tuple[str, ...]) -> str:
    """Return the shard of a key: the one with the largest hash of both.

    Whoever knows the same shards finds the same one. A shard that is added takes keys from others, and no key goes
    between those that were there. (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.)
    """
    return max(
        shards, key=lambda shard: blake2b(f"{shard}\0{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    )

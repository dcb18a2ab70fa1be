"""Order, delivery guarantees and failed messages. Numbers refer to Curator's behaviours in docs/curator.md."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

import pytest

from queuelet.client import JSON, Client, Consumer, MessageState, OnError, Producer, Received
from queuelet.errors import LeaseLost, QueueEmpty
from support.patience import patient
from support.server_process import ServerProcess


async def put_numbers(client: Client, queue: str, count: int) -> list[int]:
    """Put the numbers from 0 into a queue and return them."""
    numbers = list(range(count))
    async with Producer(client, queue, JSON) as producer:
        await producer.put_many(numbers)
    return numbers


class Handled:
    """A handler that records what it handles, and fails for some items."""

    def __init__(self, *failing: int, times: int = 1) -> None:
        """Set which items fail, and how often."""
        self.done: list[int] = []
        self.calls: list[int] = []
        self._failing = Counter(dict.fromkeys(failing, times))

    async def __call__(self, received: Received[int]) -> None:
        """Handle a message, or fail."""
        self.calls.append(received.item)
        if self._failing[received.item] > 0:
            self._failing[received.item] -= 1
            raise RuntimeError("it fails")
        self.done.append(received.item)


async def test_c06_one_consumer_gets_items_in_the_order_of_their_puts(client: Client, queue: str) -> None:
    handled = Handled()
    async with Producer(client, queue, JSON) as producer:
        for number in range(10):
            await producer.put(number)
    await Consumer(client, queue, handled, serializer=JSON, until_empty=True).run()
    assert handled.calls == list(range(10))


async def test_c07_items_of_two_producers_all_come_once(client: Client, queue: str) -> None:
    async def produce(numbers: range) -> None:
        async with Producer(client, queue, JSON) as producer:
            for number in numbers:
                await producer.put(number)

    handled = Handled()
    consumer = Consumer(client, queue, handled, serializer=JSON, max_messages=100)
    await asyncio.gather(produce(range(50)), produce(range(50, 100)), consumer.run())
    assert sorted(handled.calls) == list(range(100))
    assert [number for number in handled.calls if number < 50] == list(range(50))


async def test_c08_items_that_are_put_together_come_in_their_order(client: Client, queue: str) -> None:
    numbers = await put_numbers(client, queue, 100)
    handled = Handled()
    await Consumer(client, queue, handled, serializer=JSON, until_empty=True).run()
    assert handled.calls == numbers


async def test_c09_four_consumers_on_connections_of_their_own_share_a_queue(
    client: Client, server: ServerProcess, queue: str
) -> None:
    numbers = await put_numbers(client, queue, 1_000)
    handled = Handled()

    async def consume() -> None:
        async with Client(server.address) as own:
            await Consumer(own, queue, handled, serializer=JSON, prefetch=10, until_empty=True).run()

    await asyncio.gather(*(consume() for _ in range(4)))
    assert sorted(handled.calls) == numbers


async def test_c10_what_is_popped_is_gone_whatever_becomes_of_its_work(client: Client, queue: str) -> None:
    await client.add(queue, b"x")
    await client.pop(queue)
    messages = (await client.get_queue(queue)).messages
    assert (messages.ready, messages.leased) == (0, 0)


async def test_c11_an_item_is_removed_only_after_its_work_and_no_other_consumer_has_it_meanwhile(
    client: Client, queue: str
) -> None:
    await client.add(queue, b"x")
    async with Consumer(client, queue) as consumer:
        async for received in consumer:
            assert (await client.get_queue(queue)).messages.leased == 1
            assert await client.receive(queue) == []
            received.ack()
            break
    assert sum(await counts(client, queue)) == 0


async def counts(client: Client, queue: str) -> tuple[int, int, int, int]:
    """Return how many messages of a queue are ready, delayed, leased and dead."""
    messages = (await client.get_queue(queue)).messages
    return messages.ready, messages.delayed, messages.leased, messages.dead


async def test_c11_an_item_that_is_iterated_over_when_the_work_is_cut_off_comes_again(
    client: Client, queue: str
) -> None:
    await client.add(queue, b"x")
    begun = asyncio.Event()

    async def work() -> None:
        async with Consumer(client, queue) as consumer:
            async for _ in consumer:
                begun.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await client.pop(queue, wait=30)).payload == b"x"


async def test_c11_an_item_whose_work_fails_outside_of_an_async_with_is_redelivered(client: Client, queue: str) -> None:
    """Without `async with`, an iterator only notices that its loop was left, but not why."""
    await client.add(queue, b"x")
    messages = aiter(Consumer(client, queue))
    await anext(messages)
    assert isinstance(messages, AsyncGenerator)
    await messages.aclose()
    assert (await client.pop(queue, wait=30)).payload == b"x"


async def test_c12_what_fails_with_one_consumer_goes_to_another(client: Client, queue: str) -> None:
    numbers = await put_numbers(client, queue, 100)
    unwilling, willing = Handled(*range(1, 100, 2), times=1_000), Handled()
    await asyncio.gather(
        Consumer(client, queue, unwilling, serializer=JSON, prefetch=0, max_messages=50).run(),
        Consumer(client, queue, willing, serializer=JSON, prefetch=0, until_empty=True).run(),
    )
    assert not set(unwilling.done) & set(willing.done)
    assert sorted(unwilling.done + willing.done) == numbers


async def test_c12_what_a_consumer_holds_when_it_dies_goes_to_another(
    client: Client, server: ServerProcess, queue: str
) -> None:
    """It is redelivered at once instead of when its lease expires."""
    numbers = await put_numbers(client, queue, 10)
    async with Client(server.address) as dying, dying.consume(queue, credit=10, lease=600) as stream:
        assert len((await anext(stream)).deliveries) == 10
    handled = Handled()
    await Consumer(client, queue, handled, serializer=JSON, max_messages=10).run()
    assert handled.calls == numbers


async def test_c13_by_default_an_item_whose_work_fails_comes_again(client: Client, queue: str) -> None:
    await put_numbers(client, queue, 1)
    handled = Handled(0)
    await Consumer(client, queue, handled, serializer=JSON, until_empty=True).run()
    assert handled.calls == [0, 0]
    assert handled.done == [0]


async def test_c13_an_item_whose_work_waits_for_something_that_is_cancelled_comes_again(
    client: Client, queue: str
) -> None:
    """The work failed, but the consumer was not cancelled and goes on."""
    await put_numbers(client, queue, 2)
    calls: list[int] = []

    async def handle(received: Received[int]) -> None:
        calls.append(received.item)
        if len(calls) == 1:
            waited_for = asyncio.create_task(asyncio.sleep(600))
            waited_for.cancel()
            await waited_for

    async with asyncio.timeout(patient(30)):
        await Consumer(client, queue, handle, serializer=JSON, prefetch=0, until_empty=True).run()
    assert calls == [0, 0, 1]


async def test_c14_dropped_is_gone_after_one_call(client: Client, queue: str) -> None:
    await put_numbers(client, queue, 1)
    handled = Handled(0)
    await Consumer(client, queue, handled, serializer=JSON, on_error=OnError.DROP, until_empty=True).run()
    assert handled.calls == [0]
    assert await counts(client, queue) == (0, 0, 0, 0)


async def test_c14_dead_lettered_is_kept_with_its_reason_after_one_call(client: Client, queue: str) -> None:
    """Curator has no mode for this."""
    await put_numbers(client, queue, 1)
    handled = Handled(0)
    await Consumer(client, queue, handled, serializer=JSON, on_error=OnError.DEAD_LETTER, until_empty=True).run()
    assert handled.calls == [0]
    (dead,) = [each async for each in client.browse(queue, states=[MessageState.DEAD])]
    assert dead.tries[0].reason == "RuntimeError: it fails"


async def test_c15_what_becomes_of_failures_needs_no_lock_path(client: Client, queue: str) -> None:
    """All consumers use leases, so there is no setting that another consumer could lack."""
    await put_numbers(client, queue, 3)
    handled = Handled(1)
    await Consumer(client, queue, handled, serializer=JSON, on_error=OnError.REQUEUE, until_empty=True).run()
    assert sorted(handled.done) == [0, 1, 2]


async def test_c16_an_item_that_is_tried_again_and_again_stays_the_same(client: Client, queue: str) -> None:
    added = await client.add(queue, b"x")
    seen: list[tuple[str, int]] = []

    async def fail(received: Received[bytes]) -> None:
        seen.append((received.id, received.count))
        raise RuntimeError("it fails")

    await Consumer(client, queue, fail, max_messages=20).run()
    assert seen == [(added.id, count) for count in range(1, 21)]
    assert (await client.peek(queue)) == added


async def test_c17_an_item_that_is_tried_again_is_there_exactly_once_at_any_moment(client: Client, queue: str) -> None:
    await client.add(queue, b"x")

    async def fail(received: Received[bytes]) -> None:
        raise RuntimeError("it fails")

    work = asyncio.create_task(Consumer(client, queue, fail, max_messages=100).run())
    seen = {sum(await counts(client, queue))}
    while not work.done():
        seen.add(sum(await counts(client, queue)))
    await work
    assert seen == {1}


async def test_c18_of_many_handlers_no_two_get_the_same_item(client: Client, queue: str) -> None:
    numbers = await put_numbers(client, queue, 1_000)
    handled: list[int] = []

    async def handle(received: Received[int]) -> None:
        await asyncio.sleep(0)
        handled.append(received.item)

    await Consumer(client, queue, handle, serializer=JSON, concurrency=50, until_empty=True).run()
    assert sorted(handled) == numbers


async def test_c20_an_item_that_cannot_be_read_does_not_keep_the_others_from_coming(client: Client, queue: str) -> None:
    for payload in (b"1", b"{", b"2"):
        await client.add(queue, payload)
    handled = Handled()
    await Consumer(client, queue, handled, serializer=JSON, until_empty=True).run()
    assert handled.calls == [1, 2]


async def test_cx2_how_many_messages_there_are_is_counted(client: Client, queue: str) -> None:
    await put_numbers(client, queue, 3)
    await client.add(queue, b"4", delay=600)
    await client.receive(queue, 1)
    assert await counts(client, queue) == (2, 1, 1, 0)


async def test_cx5_an_item_that_comes_again_keeps_its_priority_and_its_place(client: Client, queue: str) -> None:
    await client.add(queue, b"1")
    urgent = await client.add(queue, b"0", priority=-1)
    seen: list[tuple[int, int, int]] = []

    async def handle(received: Received[int]) -> None:
        seen.append((received.item, received.message.priority, received.count))
        if received.id == urgent.id and received.count == 1:
            await client.add(queue, b"2")
            raise RuntimeError("it fails")

    await Consumer(client, queue, handle, serializer=JSON, prefetch=0, until_empty=True).run()
    assert seen == [(0, -1, 1), (0, -1, 2), (1, 0, 1), (2, 0, 1)]


async def test_cx5_an_item_that_comes_again_is_as_old_as_it_was(client: Client, queue: str) -> None:
    """It keeps the time at which it first became due, so it precedes messages that became due later."""
    delayed = await client.add(queue, b"1", delay=0.01)
    (first,) = await client.receive(queue, wait=30)
    await client.add(queue, b"2")
    await client.nack(queue, [first.token])
    (again,) = await client.receive(queue, 1)
    assert again.message == delayed
    assert again.message.not_before is not None


async def test_cx6_one_failing_item_of_many_put_together_repeats_and_loses_no_other(client: Client, queue: str) -> None:
    await put_numbers(client, queue, 10)
    handled = Handled(5)
    await Consumer(client, queue, handled, serializer=JSON, until_empty=True).run()
    assert Counter(handled.calls) == Counter([*range(10), 5])
    assert sorted(handled.done) == list(range(10))


async def test_cx7_an_item_that_cannot_be_read_is_kept_among_the_dead_with_the_reason(
    client: Client, queue: str
) -> None:
    await client.add(queue, b"{")
    await Consumer(client, queue, Handled(), serializer=JSON, until_empty=True).run()
    (dead,) = [each async for each in client.browse(queue, states=[MessageState.DEAD])]
    assert dead.message.payload == b"{"
    assert "cannot be read" in dead.tries[0].reason


async def test_cx9_a_consumer_that_is_overtaken_has_the_smaller_token_and_cannot_acknowledge(
    client: Client, queue: str
) -> None:
    await client.add(queue, b"x")
    (first,) = await client.receive(queue, lease=600)
    await client.nack(queue, [first.token])
    (second,) = await client.receive(queue, lease=600)
    assert second.token > first.token
    assert isinstance((await client.ack(queue, [first.token]))[0], LeaseLost)
    assert await client.ack(queue, [second.token]) == [None]
    with pytest.raises(QueueEmpty):
        await client.peek(queue)

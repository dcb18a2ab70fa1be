"""The calls that lease messages, and settle or extend the leases.

Methods take and return values, and raise the errors of `queuelet.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from queuelet.client.calls import Calls
from queuelet.client.consume_stream import Consumption
from queuelet.client.messages import Delivery, duration_to_pb
from queuelet.client.text import filled, sendable
from queuelet.client.validation import Seconds, seconds_of
from queuelet.errors import MessageNotFound, QueueletError
from queuelet.limits import MAX_CONSUMER_BYTES, MAX_REASON_BYTES
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.errors import SERVICE, errors_from_pb


class LeaseCalls(Calls):
    """The calls about leased messages."""

    async def receive(  # noqa: PLR0913  # independent arguments, all but two keyword-only
        self,
        queue: str,
        maximum: int = 0,
        *,
        wait: Seconds = 0,
        lease: Seconds = 0,
        consumer: str = "",
        request_id: str = "",
    ) -> list[Delivery]:
        """Lease the first ready messages.

        Args:
            queue: The queue's name or ID.
            maximum: The largest number of messages; 0 for as many as fit into a response.
            wait: How long to wait for the first message if none is ready, in seconds. This is added to the timeout.
            lease: How long the leases last, in seconds; 0 for the queue's setting.
            consumer: A name for this consumer, which the history of failed messages shows.
            request_id: A text that makes the call idempotent: repeated with it within a minute, the call returns the
                same deliveries.

        Returns:
            The messages with their leases; empty if none became ready in time.

        Raises:
            QueueNotFound: There is no such queue.
            QueueHeld: An exclusive consumer holds the queue.
            InvalidArgument: An argument is not valid.
        """
        request = filled(
            pb.ReceiveRequest,
            queue_id=queue,
            max=maximum,
            wait=duration_to_pb(wait, "wait"),
            lease=duration_to_pb(lease, "lease"),
            consumer=sendable(consumer, MAX_CONSUMER_BYTES),
            request_id=request_id,
        )
        response = await self.call(
            "Receive", request, pb.ReceiveResponse, extra=seconds_of("wait", wait), repeat=bool(request_id)
        )
        return list(map(Delivery, response.deliveries))

    async def ack(self, queue: str, tokens: Sequence[int]) -> list[QueueletError | None]:
        """Acknowledge messages: their work is done, so the queue removes them.

        Args:
            queue: The queue's name or ID.
            tokens: The tokens of their leases.

        Returns:
            For each token None, or why the message could not be acknowledged: `LeaseLost` or `MessageNotFound`.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.AckRequest, queue_id=queue, tokens=tokens)
        response, tries = await self._call("Ack", request, pb.AckResponse, repeat=True)
        errors = errors_from_pb(response.results)
        if tries == 1:
            return errors
        # A message that is gone was most likely acknowledged by an earlier try whose response was lost.
        return [None if isinstance(error, MessageNotFound) else error for error in errors]

    async def nack(  # noqa: PLR0913  # independent arguments, most keyword-only
        self,
        queue: str,
        tokens: Sequence[int],
        *,
        delay: Seconds = 0,
        reason: str = "",
        dead: bool = False,
        unused: bool = False,
    ) -> list[QueueletError | None]:
        """Give leased messages back to the queue.

        Args:
            queue: The queue's name or ID.
            tokens: The tokens of their leases.
            delay: How long the messages are not delivered again, in seconds.
            reason: Why they failed, which their history shows.
            dead: Whether to dead-letter the messages at once, because another try would not help.
            unused: Whether not to count this delivery, because the work on the messages has not begun.

        Returns:
            For each token None, or why the message could not be given back: `LeaseLost` or `MessageNotFound`.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidArgument: An argument is not valid.
        """
        request = filled(
            pb.NackRequest,
            queue_id=queue,
            tokens=tokens,
            delay=duration_to_pb(delay, "delay"),
            reason=sendable(reason, MAX_REASON_BYTES),
            dead=dead,
            unused=unused,
        )
        return errors_from_pb((await self.call("Nack", request, pb.NackResponse)).results)

    async def extend(
        self, queue: str, tokens: Sequence[int], *, lease: Seconds = 0
    ) -> tuple[datetime, list[QueueletError | None]]:
        """Extend leases.

        Args:
            queue: The queue's name or ID.
            tokens: The tokens of the leases.
            lease: How long the leases last from now, in seconds; 0 for the queue's setting.

        Returns:
            The time at which the leases expire, by the server's clock, and for each token None, or why its lease could
            not be extended: `LeaseLost` or `MessageNotFound`.

        Raises:
            QueueNotFound: There is no such queue.
        """
        request = filled(pb.ExtendRequest, queue_id=queue, tokens=tokens, lease=duration_to_pb(lease, "lease"))
        response = await self.call("Extend", request, pb.ExtendResponse)
        return response.deadline.ToDatetime(UTC), errors_from_pb(response.results)

    def consume(  # noqa: PLR0913  # independent arguments, most keyword-only
        self,
        queue: str,
        *,
        credit: int = 0,
        lease: Seconds = 0,
        maximum: int = 0,
        consumer: str = "",
        exclusive: bool = False,
        concurrency: int = 0,
        heartbeat: Seconds = 0,
        max_bytes: int = 0,
    ) -> Consumption:
        """Return a stream of leased messages. Use it in `async with`.

        A `Consumer` does this for you, reconnects, and extends leases.

        Args:
            queue: The queue's name or ID.
            credit: How many messages the server may send before it gets more credit.
            lease: How long leases last, in seconds; 0 for the queue's setting.
            maximum: The largest number of messages in one response; 0 lets the server choose.
            consumer: A name for this consumer, which the history of failed messages shows.
            exclusive: Whether to be the only consumer of the queue. Other exclusive consumers wait for their turn.
            concurrency: How many messages you work on at a time; 0 for all. When the stream ends, the server does not
                count the deliveries beyond that number, because the work on them has not begun.
            heartbeat: How long either side may be silent, in seconds; 0 for any time. The stream sends heartbeats
                itself, and raises `Unreachable` after three times as long without a response.
            max_bytes: The largest number of bytes of messages to buffer here beyond those you work on; 0 for unlimited.

        Returns:
            The stream, which is not open yet.

        Raises:
            Closed: The client is not open.
            InvalidArgument: An argument is not valid.
        """
        start = filled(
            pb.ConsumeStart,
            queue_id=queue,
            lease=duration_to_pb(lease, "lease"),
            max=maximum,
            consumer=sendable(consumer, MAX_CONSUMER_BYTES),
            exclusive=exclusive,
            concurrency=concurrency,
            heartbeat=duration_to_pb(heartbeat, "heartbeat"),
            max_bytes=max_bytes,
        )
        channel = self._direct.channel(queue) or self._open_channel()
        make: Any = channel.stream_stream(f"/{SERVICE}/Consume")
        stream = Consumption(make, filled(pb.ConsumeRequest, start=start, credit=credit), self._connection)
        self._streams.add(stream)
        return stream

"""A message that a consumer handles."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Generic, final

from queuelet.client.messages import Delivery, Message, nack_to_pb
from queuelet.client.serializers import Item
from queuelet.client.validation import Seconds
from queuelet.tags import Tags

if TYPE_CHECKING:
    from queuelet.client.lease_session import LeaseSession


@final
class Received(Generic[Item]):
    """A message and the lease on it. The consumer extends the lease while the work lasts."""

    __slots__ = ("_delivery", "_session", "holder_token", "is_leased", "is_settled", "item")

    def __init__(self, delivery: Delivery, item: Item, session: LeaseSession) -> None:
        self._delivery = delivery
        self._session = session
        self.item = item
        """The item, as the serializer returned it."""
        self.holder_token = session.holder_token
        """The fencing token of an exclusive consumer, larger for each holder of the queue; pass it on like `token`."""
        self.is_leased = True
        """Whether the lease holds, as far as this consumer knows. Afterwards others may get the message."""
        self.is_settled = False
        """Whether the message was acknowledged or given back."""

    @property
    def message(self) -> Message:
        """The message as it is stored."""
        return self._delivery.message

    @property
    def id(self) -> str:
        """The message's ID, a UUID."""
        return self._delivery.message.id

    @property
    def payload(self) -> bytes:
        """The message's bytes."""
        return self._delivery.payload

    @property
    def tags(self) -> Tags:
        """The message's tags, sorted by key."""
        return self._delivery.message.tags

    @property
    def token(self) -> int:
        """The lease's fencing token, larger than any earlier one; pass it on to the systems that the work writes to."""
        return self._delivery.token

    @property
    def count(self) -> int:
        """How often the message was delivered, including this time."""
        return self._delivery.count

    @property
    def deadline(self) -> datetime:
        """When the lease would have expired without extensions, by the server's clock."""
        return self._delivery.deadline

    def ack(self) -> None:
        """Acknowledge the message. The ack is sent with others soon; closing the consumer waits for confirmation."""
        if not self.is_settled:
            self.is_settled = True
            self._session.ack(self._delivery)

    def nack(self, *, delay: Seconds = 0, reason: str = "", dead: bool = False, unused: bool = False) -> None:
        """Give the message back to the queue.

        Args:
            delay: How long the message is not delivered again, in seconds.
            reason: Why it failed, which its history shows.
            dead: Whether to dead-letter the message at once, because another try would not help.
            unused: Whether not to count this delivery, because the work on the message has not begun.

        Raises:
            InvalidArgument: The delay is out of range. The message can still be settled then.
        """
        if not self.is_settled:
            # Validate first, so that after an error the message can still be settled in another way.
            how = nack_to_pb(self.token, delay=delay, reason=reason, dead=dead, unused=unused)
            self.is_settled = True
            self._session.nack(how)

    def _renew(self, delivery: Delivery) -> None:
        """Switch to a newer lease: the message was delivered again while the work went on."""
        self._delivery = delivery
        self.is_leased = True

    def __repr__(self) -> str:
        return f"<Received {self.id}, delivery {self.count}>"

"""A message in the hands of a consumer."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Generic, final

from queuelet.client.messages import Delivery, Message, nack_to_pb
from queuelet.client.serializers import Item
from queuelet.client.validation import Seconds
from queuelet.tags import Tags

if TYPE_CHECKING:
    from queuelet.client.lease_session import Lessee


@final
class Received(Generic[Item]):
    """A message and the lease on it, which goes on for as long as the work does."""

    __slots__ = ("_delivery", "_lessee", "holder_token", "is_leased", "is_settled", "item")

    def __init__(self, delivery: Delivery, item: Item, lessee: Lessee) -> None:
        """Take what came, what it says, and whom to tell what became of it. Consumers make these."""
        self._delivery = delivery
        self._lessee = lessee
        self.item = item
        """What was put."""
        self.holder_token = lessee.holder_token
        """Of an exclusive consumer: larger for each that holds the queue, to be passed on like `token`."""
        self.is_leased = True
        """Whether it is still this consumer's, for all it knows. Others may get it once it is not."""
        self.is_settled = False
        """Whether it was acknowledged or given back."""

    @property
    def message(self) -> Message:
        """The message as it is stored."""
        return self._delivery.message

    @property
    def id(self) -> str:
        """Its id, a UUID."""
        return self._delivery.message.id

    @property
    def payload(self) -> bytes:
        """Its bytes."""
        return self._delivery.payload

    @property
    def tags(self) -> Tags:
        """Its tags, in order."""
        return self._delivery.message.tags

    @property
    def token(self) -> int:
        """Its lease: larger than any that the server gave before, to be passed on to what the work writes to."""
        return self._delivery.token

    @property
    def count(self) -> int:
        """How often it was delivered, this time included."""
        return self._delivery.count

    @property
    def deadline(self) -> datetime:
        """When its lease ended, had it not been extended; by the server's clock."""
        return self._delivery.deadline

    def ack(self) -> None:
        """Say that it is done. It is told with others in a moment; the consumer closes once the server has heard it."""
        if not self.is_settled:
            self.is_settled = True
            self._lessee.ack(self._delivery)

    def nack(self, *, delay: Seconds = 0, reason: str = "", dead: bool = False, unused: bool = False) -> None:
        """Give it back; it stays away for `delay`, in seconds or as a `timedelta`.

        With `dead` it is dead at once, since another try would not help; with `unused` this delivery does not count.
        """
        if not self.is_settled:
            # What cannot be sent is refused here, while the message can still be settled in another way.
            how = nack_to_pb(self.token, delay=delay, reason=reason, dead=dead, unused=unused)
            self.is_settled = True
            self._lessee.nack(how)

    def _renew(self, delivery: Delivery) -> None:
        """Take a newer lease on it: it came again while the work went on."""
        self._delivery = delivery
        self.is_leased = True

    def __repr__(self) -> str:
        """Name it."""
        return f"<Received {self.id}, delivery {self.count}>"

"""Idempotent calls: the response cache stores the responses to calls with a request ID, and a retry gets them again.

Without this, a Pop that is retried because its response was lost would take a second message.
"""

from __future__ import annotations

from collections.abc import Callable

from queuelet.core.deadlines import NEVER
from queuelet.core.host import Host
from queuelet.core.intake import Intake
from queuelet.core.storage import Messages
from queuelet.errors import TooManyResponses

RETENTION_NS = 60 * 1_000_000_000
"""How long a response is stored, in nanoseconds."""

MAX_RESPONSES = 1_000
"""The maximum number of responses that a queue stores."""


class ResponseCache:
    """The response cache of one queue. A key consists of the kind of call and its request ID."""

    __slots__ = ("_intake", "_messages", "_queue", "is_storing")

    def __init__(self, queue: Host, messages: Messages, intake: Intake) -> None:
        self._queue = queue
        self._messages = messages
        self._intake = intake
        self.is_storing = False
        """Whether a call is running whose response will be stored."""

    def take_once(self, key: bytes, take: Callable[[], bytes], now: int) -> bytes:
        """Call `take` and store its response, so that a retry with the same key gets the same response.

        A retry returns the stored response without calling `take`. An empty response is not stored. Waiting Adds do not
        proceed in between, because otherwise the store might commit the removal of messages without the response.

        Raises:
            TooManyResponses: the response could not be stored.
            QueueletError: also the errors of `take`.
        """
        stored = self.lookup_or_admit(key, now)
        if stored is not None:
            return stored
        self.is_storing = self._intake.is_paused = True
        try:
            response = take()
            if response:
                self.store(key, response, now)
        finally:
            self.is_storing = self._intake.is_paused = False
            self._intake.wake_waiting(now)
        return response

    def lookup_or_admit(self, key: bytes, now: int) -> bytes | None:
        """Return the stored response to a retry, or None if the call is new.

        Raises:
            TooManyResponses: the call is new, and its response could not be stored.
        """
        until = self._messages.responses
        if until:
            self.drop_old(now)
            if key in until:
                return self._messages.response(key)
        if len(until) >= MAX_RESPONSES:
            raise TooManyResponses(
                f"queue {self._queue.label}: {MAX_RESPONSES:,} responses to calls with a request ID are stored, the "
                f"maximum for {RETENTION_NS // 10**9} seconds; retry later, or omit request_id",
            )
        return None

    def store(self, key: bytes, response: bytes, now: int) -> None:
        """Store the response of a call, in the same commit as the changes that the call made."""
        self.forget(key)
        self._messages.store_response(key, now + RETENTION_NS, response)
        self._queue.set_alarm(self.next_at)

    def forget(self, key: bytes) -> None:
        """Drop the response to a call that will not be retried. Dropping an unknown key does nothing."""
        if key in self._messages.responses:
            self._messages.forget_responses([key])

    @property
    def next_at(self) -> int:
        """When the oldest response expires, in nanoseconds since 1970; `NEVER` if there is none."""
        return next(iter(self._messages.responses.values()), NEVER)

    def drop_old(self, now: int) -> None:
        """Drop the responses that have expired."""
        # The mapping is in the order of insertion, so the oldest responses come first.
        old = []
        for key, until in self._messages.responses.items():
            if until > now:
                break
            old.append(key)
        if old:
            self._messages.forget_responses(old)

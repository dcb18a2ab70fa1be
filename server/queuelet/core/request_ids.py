"""Answers that are kept for a while, so that a call repeated with the same request id takes no second message."""

from __future__ import annotations

from queuelet.core.deadlines import NEVER
from queuelet.core.storage import Messages
from queuelet.errors import TooManyAnswers

KEPT = 60 * 1_000_000_000
"""How long an answer is kept, in nanoseconds."""

MOST = 1_000
"""How many answers a queue keeps."""


class ResponseCache:
    """The answers of one queue's calls by what the call was and its request id."""

    __slots__ = ("_label", "_messages")

    def __init__(self, messages: Messages, label: str) -> None:
        """Take the messages, with which the answers are stored, and what the queue is called."""
        self._messages = messages
        self._label = label

    def lookup_or_admit(self, key: bytes, now: int) -> bytes | None:
        """Return the answer the call got before, None if this is the first time.

        Raises:
            TooManyAnswers: there is no room to keep the answer of a first time.
        """
        until = self._messages.answers
        if until:
            self.drop_old(now)
            if key in until:
                return self._messages.answer(key)
        if len(until) >= MOST:
            raise TooManyAnswers(
                f"queue {self._label} keeps {MOST:,} answers to calls with a request id, the most it may keep for "
                f"{KEPT // 10**9} seconds: try again later, or leave out request_id",
            )
        return None

    def keep(self, key: bytes, answer: bytes, now: int) -> None:
        """Keep an answer, so that it is stored along with what was done for it."""
        self.forget(key)
        self._messages.keep_answer(key, now + KEPT, answer)

    def forget(self, key: bytes) -> None:
        """Drop an answer whose call will not be repeated; one that is not there is no error."""
        if key in self._messages.answers:
            self._messages.forget_answers([key])

    @property
    def next_at(self) -> int:
        """When the oldest answer is to be dropped; `NEVER` if there is none."""
        return next(iter(self._messages.answers.values()), NEVER)

    def drop_old(self, now: int) -> None:
        """Drop the answers whose time is over."""
        # They stand in the order in which they were kept, so the old ones come first.
        old = []
        for key, until in self._messages.answers.items():
            if until > now:
                break
            old.append(key)
        if old:
            self._messages.forget_answers(old)

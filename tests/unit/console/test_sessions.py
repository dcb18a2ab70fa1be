"""Sessions end after their time, and the oldest when there are too many."""

from __future__ import annotations

from queuelet.console import sessions as module
from queuelet.console.sessions import SECONDS, Sessions


class Clock:
    """A clock that a test sets."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_after_its_time() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    session_id = sessions.open("Bearer a")
    clock.now += SECONDS - 1
    found = sessions.find(session_id)
    assert found
    assert (found.authorization, found.expires) == ("Bearer a", 1_000_000.0 + SECONDS)
    clock.now += 1
    assert sessions.find(session_id) is None
    assert len(sessions) == 0


def test_one_session_too_many_ends_the_oldest() -> None:
    sessions = Sessions(Clock())
    ids = [sessions.open(f"Bearer {n}") for n in range(module.MAX_SESSIONS + 1)]
    assert len(set(ids)) == len(ids)
    assert len(sessions) == module.MAX_SESSIONS
    assert sessions.find(ids[0]) is None
    assert sessions.find(ids[1])


def test_a_closed_session_is_not_found_and_others_are() -> None:
    sessions = Sessions(Clock())
    first, second = sessions.open("Bearer a"), sessions.open("Bearer a")
    sessions.close(first)
    sessions.close("no-such-id")
    assert sessions.find(first) is None
    assert sessions.find(second)
    assert sessions.find("") is None
    assert sessions.find("\ud800") is None

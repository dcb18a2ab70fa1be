"""A key signs one browser in, and sessions end."""

from __future__ import annotations

from queuelet.gateway.sessions import LONGEST, MOST_SESSIONS, Sessions


def signed_in(sessions: Sessions) -> str:
    session = sessions.sign_in(sessions.new_key())
    assert session
    return session


def test_a_key_works_once() -> None:
    sessions = Sessions()
    key = sessions.new_key()
    session = sessions.sign_in(key)
    assert session
    assert session != key
    assert sessions.admits(session)
    assert sessions.sign_in(key) is None


def test_no_key_and_an_empty_one_never_work() -> None:
    sessions = Sessions()
    assert sessions.sign_in("") is None
    signed_in(sessions)
    assert sessions.sign_in("") is None
    assert not sessions.admits("")


def test_a_new_key_replaces_the_one_before() -> None:
    sessions = Sessions()
    old = sessions.new_key()
    new = sessions.new_key()
    assert sessions.sign_in(old) is None
    assert sessions.sign_in(new)


def test_a_session_ends_after_its_time() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    session = signed_in(sessions)
    now = LONGEST
    assert sessions.admits(session)
    now = LONGEST + 1
    assert not sessions.admits(session)


def test_the_oldest_session_makes_room_for_another() -> None:
    times = iter(range(10_000))
    sessions = Sessions(lambda: next(times))
    all_of_them = [signed_in(sessions) for _ in range(MOST_SESSIONS + 1)]
    assert [sessions.admits(each) for each in all_of_them] == [False] + [True] * MOST_SESSIONS

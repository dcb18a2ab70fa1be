"""Heartbeats of a stream: one is sent if nothing else was, and a server that is silent for long is noticed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queuelet.client.heartbeat import MISSED, Heartbeat

EVERY = 5.0


def test_a_heartbeat_is_due_once_nothing_else_was_sent_for_its_interval() -> None:
    heartbeat = Heartbeat(EVERY, 100.0)
    assert heartbeat.pause(sent_at=100.0, now=100.0) == EVERY
    assert not heartbeat.is_due(sent_at=100.0, now=104.9)
    assert heartbeat.is_due(sent_at=100.0, now=105.0)


def test_the_next_look_is_one_interval_after_the_last_request() -> None:
    heartbeat = Heartbeat(EVERY, 100.0)
    assert heartbeat.pause(sent_at=102.0, now=105.0) == 2.0
    assert heartbeat.pause(sent_at=90.0, now=105.0) == 0.0


def test_a_request_that_is_sent_in_the_meantime_puts_the_heartbeat_off() -> None:
    heartbeat = Heartbeat(EVERY, 100.0)
    heartbeat.pause(sent_at=100.0, now=100.0)
    assert not heartbeat.is_due(sent_at=103.0, now=105.0)


def test_a_server_that_missed_three_heartbeats_is_gone() -> None:
    heartbeat = Heartbeat(EVERY, 100.0)
    heartbeat.pause(sent_at=112.0, now=112.0)
    assert not heartbeat.is_missed(read_since=100.0, now=114.9)
    assert heartbeat.is_missed(read_since=100.0, now=115.0)


def test_a_server_is_not_gone_while_nothing_is_read() -> None:
    """Its responses may lie unread."""
    heartbeat = Heartbeat(EVERY, 100.0)
    assert not heartbeat.is_missed(read_since=None, now=1_000.0)


def test_a_process_that_was_paused_gives_the_server_its_time_again() -> None:
    heartbeat = Heartbeat(EVERY, 100.0)
    heartbeat.pause(sent_at=100.0, now=100.0)
    assert not heartbeat.is_missed(read_since=100.0, now=1_000.0), "it was to look at 105"
    for now in (1_005.0, 1_010.0):
        heartbeat.pause(sent_at=now - EVERY, now=now - EVERY)
        assert not heartbeat.is_missed(read_since=100.0, now=now)
    heartbeat.pause(sent_at=1_010.0, now=1_010.0)
    assert heartbeat.is_missed(read_since=100.0, now=1_015.0)


@given(
    every=st.floats(0.1, 60),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 1.4)), max_size=40),
    reads=st.floats(0, 10),
)
def test_a_punctual_process_notices_a_silent_server_between_three_heartbeats_and_five(
    every: float, steps: list[tuple[bool, float]], reads: float
) -> None:
    """A look comes at most half an interval late, whether or not other requests are sent."""
    now, sent_at = 0.0, 0.0
    heartbeat = Heartbeat(every, now)
    for has_sent, late in (*steps, *[(False, 0.0)] * 10):
        looks_at = now + heartbeat.pause(sent_at, now)
        assert now <= looks_at <= (now + every) * 1.000_001
        now = looks_at + min(late, 0.4) * every
        if heartbeat.is_missed(reads, now):
            assert now >= reads + MISSED * every
            assert now <= reads + (MISSED + 2) * every
            return
        assert now < reads + (MISSED + 2) * every
        if has_sent or heartbeat.is_due(sent_at, now):
            sent_at = now
    assert now < reads + (MISSED + 2) * every

"""Arguments of the client: text that cannot be sent and times out of range are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from math import inf, nan
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from queuelet.client import JSON, TEXT, Client, Connection, Consumer, Producer, Sharder
from queuelet.client.messages import duration_to_pb, nack_to_pb, new_message
from queuelet.client.text import described, filled, sendable
from queuelet.errors import InvalidArgument
from queuelet.limits import MAX_REASON_BYTES
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb

CLIENT = Client()

FAR_EAST = timezone(timedelta(hours=12))

TEXTS: dict[str, Callable[[str], object]] = {
    "queue": lambda text: filled(pb.PopRequest, queue_id=text),
    "ids": lambda text: filled(pb.PurgeRequest, queue_id="q", ids=["fine", text]),
    "selector": lambda text: filled(pb.ListQueuesRequest, selector=text),
    "request_id": lambda text: filled(pb.PopRequest, request_id=text),
    "tags": lambda text: new_message(payload=b"", tags=[Tag("name", text)]),
    "item": TEXT.dump,
}


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("text", ["\ud800", "men\udcfc"])
def test_a_text_that_cannot_be_sent_is_a_value_error_that_names_its_field(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: .*cannot be encoded in UTF-8; use text without") as raised:
        TEXTS[field](text)
    assert isinstance(raised.value, InvalidArgument)
    assert raised.value.facts["field"] == field


@pytest.mark.parametrize("make", [Producer, Consumer])
def test_the_name_of_a_queue_is_checked_where_it_is_chosen(make: type[Any]) -> None:
    with pytest.raises(ValueError, match=r"^queue: "):
        make(CLIENT, "men\udcfc")


def test_a_value_of_a_wrong_kind_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"^queue: 5 cannot be sent"):
        filled(pb.PopRequest, queue_id=5)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(InvalidArgument, match=r"^max: 1099511627776 cannot be sent"):
        filled(pb.PopBatchRequest, max=2**40)


@given(st.text(st.characters(codec=None)), st.integers(1, 50))
def test_text_from_elsewhere_always_fits(text: str, at_most: int) -> None:
    sent = sendable(text, at_most)
    assert len(sent.encode()) <= at_most
    if len(text.encode(errors="backslashreplace")) <= at_most:
        assert sent == text.encode(errors="backslashreplace").decode()


@given(st.text(st.characters(codec=None)))
def test_an_error_is_described_in_a_reason(text: str) -> None:
    assert len(described(ValueError(text)).encode()) <= MAX_REASON_BYTES


@given(st.text(st.characters(codec=None)))
def test_json_takes_every_text(text: str) -> None:
    assert JSON.load(JSON.dump({text: text})) == {text: text}


@pytest.mark.parametrize("field", ["delay", "ttl"])
def test_a_time_may_be_a_timedelta(field: str) -> None:
    message = new_message(payload=b"", **{field: timedelta(minutes=5, microseconds=1)})  # type: ignore[arg-type]  # one of two fields
    assert getattr(message, field) == Duration(seconds=300, nanos=1_000)


TIMES: dict[str, Callable[[Any], object]] = {
    "delay": lambda time: new_message(payload=b"", delay=time),
    "ttl": lambda time: new_message(payload=b"", ttl=time),
    "lease": lambda time: Consumer(CLIENT, "q", lease=time),
    "retry_delay": lambda time: Consumer(CLIENT, "q", retry_delay=time),
    "close_timeout": lambda time: Consumer(CLIENT, "q", close_timeout=time),
    "reach_for": lambda time: Consumer(CLIENT, "q", reach_for=time),
    "missing_for": lambda time: Consumer(CLIENT, "q", missing_for=time),
    "linger": lambda time: Producer(CLIENT, "q", linger=time),
    "timeout": lambda time: Producer(CLIENT, "q", timeout=time),
    "look_every": lambda time: Sharder(CLIENT, "q", look_every=time),
    "retry_for": lambda time: Client(Connection(retry_for=time)),
    "lost_after": lambda time: Client(Connection(lost_after=time)),
    "wait": lambda time: duration_to_pb(time, "wait"),
}

WITHOUT_END = {"close_timeout", "reach_for", "missing_for", "timeout", "retry_for", "lost_after"}
"""Timeouts may be infinite."""


@pytest.mark.parametrize("field", TIMES)
@pytest.mark.parametrize(
    "time", [-1, nan, inf, -inf, 1e300, 10**400, timedelta(seconds=-1)], ids=lambda time: f"{time!s:.9}"
)
def test_a_time_out_of_range_is_refused_by_its_name(field: str, time: Any) -> None:  # noqa: ANN401  # wrong values too
    if field in WITHOUT_END and time in {inf, 1e300, 10**400}:
        TIMES[field](time)
        return
    with pytest.raises(ValueError, match=rf"^{field}: .* is out of range; use"):
        TIMES[field](time)


@pytest.mark.parametrize("field", TIMES)
@pytest.mark.parametrize("time", ["5", [], b"5", 1j, True], ids=repr)
def test_what_is_no_time_is_refused_by_its_name(field: str, time: object) -> None:
    if field == "lease" and not time:
        pytest.skip("an empty value is the default")
    with pytest.raises(TypeError, match=rf"^{field}: .* is not a duration; use seconds or a timedelta"):
        TIMES[field](time)


@pytest.mark.parametrize("field", TIMES)
def test_every_time_may_be_a_timedelta(field: str) -> None:
    TIMES[field](timedelta(seconds=5))


@pytest.mark.parametrize(
    "moment",
    [datetime.min.replace(tzinfo=FAR_EAST), datetime.max.replace(tzinfo=UTC).isoformat(), 5, datetime.now(UTC).date()],
    ids=str,
)
def test_a_moment_that_is_none_is_refused_by_its_name(moment: Any) -> None:  # noqa: ANN401  # wrong values too
    with pytest.raises((ValueError, TypeError), match=r"^not_before: "):
        new_message(payload=b"", not_before=moment)


def test_a_moment_without_a_zone_is_local_time() -> None:
    moment = datetime(2030, 1, 31, 18)  # noqa: DTZ001  # the case
    message = new_message(payload=b"", not_before=moment)
    assert message.not_before.ToDatetime(UTC) == moment.astimezone(UTC)


def test_a_reason_may_be_an_error() -> None:
    assert nack_to_pb(1, reason=ValueError("x")).reason == "x"  # type: ignore[arg-type]  # a common mistake

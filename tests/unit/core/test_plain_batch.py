"""Requests with plain messages are parsed as the generated classes would parse them, or not at all."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from queuelet.core.plain_batch import PlainBatch
from queuelet.core.stored_form import NewMessage
from queuelet.ids import MessageIds, new_id_prefix
from queuelet.server.plain_request import read_plain_request
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.varint import varint

payloads = st.binary(max_size=40) | st.sampled_from([0, 1, 127, 128, 1_000, 20_000]).map(bytes)
plain_messages = payloads.map(lambda payload: pb.NewMessage(payload=payload))
other_messages = st.builds(
    pb.NewMessage,
    payload=payloads,
    priority=st.integers(-2, 2),
    id=st.sampled_from(["", "6f9c0000-1111-4222-8333-444455556666"]),
    tags=st.lists(st.builds(pb.Tag, key=st.just("team"), value=st.text("ab", max_size=2)), max_size=2),
)
requests = st.builds(
    pb.AddBatchRequest,
    queue_id=st.text(max_size=8),
    messages=st.lists(plain_messages, max_size=5) | st.lists(plain_messages | other_messages, max_size=5),
    wait=st.booleans(),
    request_id=st.text(max_size=5),
).map(pb.AddBatchRequest.SerializeToString)
pieces = st.sampled_from([
    b"\x0a\x01q", b"\x18\x01", b"\x12\x00", b"\x12\x03\x12\x01x", b"\x12\x03\x12\x02x", b"\x12\x04\x12\x01x", b"\x12",
    b"\x12\x82", b"\x12\x83\x00\x12\x01x", b"\x12\x83\x80\x80\x80\x00\x12\x01x", b"\x12\x05\x18\x01\x12\x01x",
    b"\x12\x06\x12\x01x\x12\x01y", b"\x32\x02\x08\x01", b"\x9a\x06\x01u", b"\x15\x00\x00\x00\x00", b"\x0c",
    b"\x02\x01x", b"\x22\x02\xff\xfe",
])  # fmt: skip


def plain_of(message: pb.NewMessage) -> bool:
    """Return whether a message has a payload and nothing else."""
    return message == pb.NewMessage(payload=message.payload)


@given(st.one_of(requests, st.lists(pieces | requests, max_size=6).map(b"".join), st.binary(max_size=60)))
@example(pb.AddBatchRequest(messages=[pb.NewMessage(payload=b"%")] * 3).SerializeToString())
@example(b"\x12\x03\x12\x01x" + b"\x12\x03\x12\x01")
def test_our_parser_reads_what_the_generated_classes_read(request: bytes) -> None:
    found = read_plain_request(request)
    if found is None:
        return
    try:
        rest = pb.AddBatchRequest.FromString(found.rest)
    except DecodeError:
        with pytest.raises(DecodeError):
            pb.AddBatchRequest.FromString(request)
        return
    expected = pb.AddBatchRequest.FromString(request)
    assert [message.payload for message in found.messages] == [message.payload for message in expected.messages]
    assert all(map(plain_of, expected.messages))
    rest.messages.extend(expected.messages)
    assert rest == expected


@given(st.lists(payloads, max_size=5), st.text(max_size=8), st.booleans())
def test_our_parser_reads_the_requests_of_our_client(given_payloads: list[bytes], queue: str, wait: bool) -> None:  # noqa: FBT001  # hypothesis gives it
    request = pb.AddBatchRequest(queue_id=queue, wait=wait, request_id="a/1")
    request.wait_at_most.FromSeconds(3)
    request.messages.extend(pb.NewMessage(payload=payload) for payload in given_payloads)
    found = read_plain_request(request.SerializeToString())
    assert found is not None
    assert list(found.messages) == [NewMessage(payload) for payload in given_payloads]


@given(st.lists(payloads, min_size=1, max_size=5))
def test_a_batch_costs_as_much_memory_as_its_messages_alone(given_payloads: list[bytes]) -> None:
    batch = PlainBatch(given_payloads)
    assert batch.size == sum(NewMessage(payload).size for payload in given_payloads)
    assert batch.largest == max(NewMessage(payload).size for payload in given_payloads)
    assert all(len(body) <= batch.largest for body in batch.stored(MessageIds(new_id_prefix()), 1, 1 << 60))
    assert list(batch[1:]) == list(batch)[1:]


def test_a_length_of_many_bytes_is_left_to_the_generated_classes() -> None:
    assert read_plain_request(b"\x12" + varint(1 << 28) + b"x") is None

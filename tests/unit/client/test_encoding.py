"""The generated classes decode a producer's hand-encoded request."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queuelet.client.encoding import encode_message, encode_payload, request_bytes
from queuelet.v1 import queue_pb2 as pb

sizes = st.sampled_from([0, 1, 124, 125, 126, 127, 128, 16_380, 16_384, 1 << 21])
payloads = st.binary(max_size=300) | sizes.map(bytes)


@st.composite
def new_messages(draw: st.DrawFn) -> pb.NewMessage:
    """Messages with more than a payload."""
    message = pb.NewMessage(payload=draw(payloads), priority=draw(st.integers(-(2**31), 2**31 - 1)))
    for key in draw(st.lists(st.text(max_size=5), max_size=3)):
        message.tags.add(key=key, value="x")
    return message


@given(messages=st.lists(payloads | new_messages(), max_size=5), wait=st.booleans())
def test_a_request_by_hand_says_what_the_messages_are(
    messages: list[bytes | pb.NewMessage],
    wait: bool,  # noqa: FBT001
) -> None:
    request = pb.AddBatchRequest(queue_id="orders", wait=wait, request_id="me/1")
    outgoing = [encode_payload(each) if isinstance(each, bytes) else encode_message(each) for each in messages]
    data = request_bytes(request, outgoing)
    for each in messages:
        request.messages.append(pb.NewMessage(payload=each) if isinstance(each, bytes) else each)
    assert pb.AddBatchRequest.FromString(data) == request
    assert sum(each.size for each in outgoing) == len(data) - len(
        request_bytes(pb.AddBatchRequest(queue_id="orders", wait=wait, request_id="me/1"), [])
    )

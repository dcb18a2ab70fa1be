"""Messages are encoded as the generated classes would encode them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queuelet.bounds import Bounds
from queuelet.codec import (
    NewMessage,
    added,
    browsed,
    created_of,
    decode,
    encode_tags,
    id_of,
    next_page,
    same_content,
    tags_of,
    varint,
)
from queuelet.definition import State
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire import message_from_pb

ID = "6f9c0000-1111-4222-8333-444455556666"

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
tags = st.lists(st.builds(Tag, texts, texts), max_size=4, unique=True).map(tuple)
payloads = st.one_of(st.binary(max_size=300), st.integers(16_000, 20_000).map(bytes))
# From 1970 to the year 2100, in nanoseconds.
times = st.one_of(st.just(0), st.integers(0, 4_102_444_800_000_000_000))


def expected(payload: bytes, given_tags: tuple[Tag, ...], created: int) -> pb.Message:
    """Return a message made by the generated classes."""
    message = pb.Message(payload=payload)
    message.meta.id = ID
    message.meta.created.FromNanoseconds(created)
    message.meta.tags.extend(pb.Tag(key=key, value=value) for key, value in given_tags)
    return message


@given(payloads, tags, times)
def test_a_stored_message_is_byte_for_byte_what_the_generated_classes_write(
    payload: bytes, given_tags: tuple[Tag, ...], created: int
) -> None:
    stored = NewMessage(payload, encode_tags(given_tags)).stored(ID.encode(), created)
    message = expected(payload, given_tags, created)
    assert stored == pb.PopResponse(message=message).SerializeToString(deterministic=True)
    assert stored == pb.AddResponse(message=message).SerializeToString(deterministic=True)
    assert stored == pb.PeekResponse(message=message).SerializeToString(deterministic=True)


@given(st.lists(st.tuples(payloads, tags), max_size=4))
def test_stored_messages_in_a_row_are_a_batch_answer(messages: list[tuple[bytes, tuple[Tag, ...]]]) -> None:
    stored = [NewMessage(payload, encode_tags(given_tags)).stored(ID.encode(), 7) for payload, given_tags in messages]
    answer = pb.PopBatchResponse(messages=[expected(payload, given_tags, 7) for payload, given_tags in messages])
    assert b"".join(stored) == answer.SerializeToString(deterministic=True)


@given(payloads, tags, times, st.sampled_from(State))
def test_a_stored_message_can_be_read_again(
    payload: bytes, given_tags: tuple[Tag, ...], created: int, state: State
) -> None:
    new = NewMessage(payload, encode_tags(given_tags))
    stored = new.stored(ID.encode(), created)
    assert decode(stored) == expected(payload, given_tags, created)
    assert id_of(stored) == ID.encode()
    assert tags_of(stored) == given_tags
    assert created_of(stored) == created
    assert same_content(stored, new)
    assert not same_content(stored, new._replace(payload=payload + b"!"))
    page = pb.BrowseResponse.FromString(browsed(stored, state) + next_page("7"))
    assert page.messages[0].message == expected(payload, given_tags, created)
    assert int(page.messages[0].state) == state
    assert page.next_page_token == "7"


@given(payloads, tags, times)
def test_no_answer_is_larger_than_the_size_a_message_is_admitted_by(
    payload: bytes, given_tags: tuple[Tag, ...], created: int
) -> None:
    new = NewMessage(payload, encode_tags(given_tags), ID.encode())
    assert len(browsed(new.stored(ID.encode(), created), State.DEAD)) <= new.size


@given(st.lists(st.uuids().map(str), max_size=5))
def test_ids_in_a_row_are_the_answer_of_a_batch_that_was_added(ids: list[str]) -> None:
    answer = pb.AddBatchResponse(results=[pb.AddResult(id=message_id) for message_id in ids])
    assert added([message_id.encode() for message_id in ids]) == answer.SerializeToString()


@given(st.integers(1, 1 << 50))
def test_numbers_are_written_as_protobuf_writes_them(number: int) -> None:
    assert b"\x10" + varint(number) == pb.QueueStats(enqueued=number).SerializeToString()


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_stored_as_they_were_read(data: bytes) -> None:
    try:
        request = pb.NewMessage.FromString(data)
        new = message_from_pb(request, Bounds())
    except Exception:  # noqa: BLE001  # what is refused is not stored, whatever the reason
        return
    stored = decode(new.stored(ID.encode(), 1))
    assert stored.payload == request.payload
    assert {(tag.key, tag.value) for tag in stored.meta.tags} == {(tag.key, tag.value) for tag in request.tags}

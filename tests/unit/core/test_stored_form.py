"""Messages are encoded as the generated classes would encode them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from queuelet.bounds import Bounds
from queuelet.core.message import DeliveryRecord, Terms
from queuelet.core.stored_form import (
    DELIVERY_ENVELOPE,
    NewMessage,
    added,
    browsed,
    created_of,
    decode,
    delivered,
    encode_tags,
    failed_try,
    id_of,
    newest_tries,
    next_page,
    payload_contains,
    same_content,
    stored_plain,
    tags_of,
)
from queuelet.definition import MessageState, TryOutcome
from queuelet.ids import MessageIds, new_id_prefix
from queuelet.server.requests import message_from_pb
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.varint import varint

ID = "6f9c0000-1111-4222-8333-444455556666"

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
tags = st.lists(st.builds(Tag, texts, texts), max_size=4, unique=True).map(tuple)
payloads = st.one_of(st.binary(max_size=300), st.integers(16_000, 20_000).map(bytes))
# From 1970 to the year 2100, in nanoseconds.
times = st.one_of(st.just(0), st.integers(0, 4_102_444_800_000_000_000))
spans = st.one_of(st.just(0), st.integers(0, 10**17))
terms = st.builds(Terms, st.integers(-(2**31), 2**31 - 1), st.just(0), spans, spans)
deliveries = st.none() | st.builds(
    DeliveryRecord, st.just(MessageState.LEASED), st.integers(1, 1_000), st.integers(1, 1 << 62), times, times, texts,
    st.just(()), st.integers(1, 2),
    st.just(failed_try(TryOutcome.RELEASED, DeliveryRecord(token=3, consumer="a"), 5, "why")),
)  # fmt: skip


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


@given(st.lists(payloads, max_size=6), st.integers(1, 1 << 40), times)
def test_plain_messages_have_the_same_form_together_as_alone(
    given_payloads: list[bytes], first: int, created: int
) -> None:
    ids = MessageIds(new_id_prefix())
    alone = [NewMessage(payload).stored(ids.made(seq), created) for seq, payload in enumerate(given_payloads, first)]
    assert stored_plain(given_payloads, ids, first, created) == alone


@given(st.lists(st.tuples(payloads, tags), max_size=4))
def test_concatenated_stored_messages_are_a_batch_response(messages: list[tuple[bytes, tuple[Tag, ...]]]) -> None:
    stored = [NewMessage(payload, encode_tags(given_tags)).stored(ID.encode(), 7) for payload, given_tags in messages]
    response = pb.PopBatchResponse(messages=[expected(payload, given_tags, 7) for payload, given_tags in messages])
    assert b"".join(stored) == response.SerializeToString(deterministic=True)


@given(payloads, tags, times, terms)
def test_terms_are_written_as_the_generated_classes_write_them(
    payload: bytes, given_tags: tuple[Tag, ...], created: int, given_terms: Terms
) -> None:
    stored = NewMessage(payload, encode_tags(given_tags), b"", given_terms).stored(ID.encode(), created)
    message = expected(payload, given_tags, created)
    message.priority = given_terms.priority
    if given_terms.not_before or given_terms.delay:
        message.not_before.FromNanoseconds(given_terms.rank(created).due)
    if given_terms.ttl:
        message.ttl.FromNanoseconds(given_terms.ttl)
    assert stored == pb.PopResponse(message=message).SerializeToString(deterministic=True)
    assert created_of(stored) == created
    assert id_of(stored) == ID.encode()


@given(payloads, tags, times)
def test_a_stored_message_can_be_decoded(payload: bytes, given_tags: tuple[Tag, ...], created: int) -> None:
    new = NewMessage(payload, encode_tags(given_tags))
    stored = new.stored(ID.encode(), created)
    assert decode(stored) == expected(payload, given_tags, created)
    assert id_of(stored) == ID.encode()
    assert tags_of(stored) == given_tags
    assert created_of(stored) == created
    assert same_content(stored, new)
    assert not same_content(stored, new._replace(payload=payload + b"!"))


@given(st.lists(st.tuples(payloads, st.integers(1, 1_000)), max_size=4), st.integers(1, 1 << 62), times)
def test_concatenated_leased_messages_are_the_response_to_receive(
    leased: list[tuple[bytes, int]], first_token: int, deadline: int
) -> None:
    stored = [NewMessage(payload).stored(ID.encode(), 7) for payload, _ in leased]
    response = pb.ReceiveResponse()
    for token, (payload, count) in enumerate(leased, first_token):
        delivery = response.deliveries.add(message=expected(payload, (), 7), token=token, count=count)
        delivery.deadline.FromNanoseconds(deadline)
    given_bytes = delivered(stored, first_token, [count for _, count in leased], deadline)
    assert given_bytes == response.SerializeToString(deterministic=True)
    assert len(given_bytes) <= sum(len(body) + DELIVERY_ENVELOPE for body in stored)


@given(tags, times, st.sampled_from(MessageState), times, deliveries)
def test_a_browsed_message_has_its_state_and_delivery(
    given_tags: tuple[Tag, ...], created: int, state: MessageState, until: int, delivery: DeliveryRecord | None
) -> None:
    if state in {MessageState.LEASED, MessageState.DEAD} and delivery is None:
        return
    stored = NewMessage(b"x", encode_tags(given_tags)).stored(ID.encode(), created)
    page = pb.BrowseResponse.FromString(browsed(stored, state, until, delivery, 1 << 22) + next_page("7"))
    decoded = page.messages[0]
    assert page.next_page_token == "7"
    assert decoded.message == expected(b"x", given_tags, created)
    assert decoded.payload_size == 1
    assert int(decoded.state) == state
    assert decoded.until.ToNanoseconds() == until
    assert decoded.count == (delivery.count if delivery else 0)
    assert decoded.consumer == (delivery.consumer if delivery and state is MessageState.LEASED else "")
    if delivery and state is MessageState.DEAD:
        assert int(decoded.reason) == delivery.reason
        assert decoded.died.ToNanoseconds() == delivery.since
    if delivery:
        tries = b"".join(pb.BrowsedMessage(tries=[each]).SerializeToString() for each in decoded.tries)
        assert tries == delivery.history


@given(payloads, tags, st.none() | terms, st.none() | st.integers(0, 400))
def test_only_the_payload_of_a_browsed_message_is_cut(
    payload: bytes, given_tags: tuple[Tag, ...], given_terms: Terms | None, most: int | None
) -> None:
    stored = NewMessage(payload, encode_tags(given_tags), b"", given_terms).stored(ID.encode(), 7)
    whole = decode(stored)
    page = pb.BrowseResponse.FromString(browsed(stored, MessageState.READY, 0, None, 1 << 22, most))
    (decoded,) = page.messages
    assert (decoded.message.payload, decoded.payload_size) == (payload[:most], len(payload))
    whole.payload = payload[:most]
    assert decoded.message == whole


@given(payloads, st.binary(min_size=1, max_size=3), tags, st.none() | terms, st.data())
def test_a_text_is_found_in_the_payload_and_nowhere_else(
    payload: bytes, part: bytes, given_tags: tuple[Tag, ...], given_terms: Terms | None, data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(payload)))
        payload = payload[:place] + part + payload[place:]
    stored = NewMessage(payload, encode_tags(given_tags), b"", given_terms).stored(ID.encode(), 7)
    assert payload_contains(stored, part) == (part in payload)
    assert not payload_contains(NewMessage(b"").stored(ID.encode(), 7), part)
    assert not payload_contains(stored, ID.encode())


@given(deliveries.filter(bool), times, st.sampled_from(TryOutcome), texts)
def test_a_failed_try_names_the_consumer_and_the_reason(
    delivery: DeliveryRecord, ended: int, outcome: TryOutcome, reason: str
) -> None:
    (decoded,) = pb.BrowsedMessage.FromString(failed_try(outcome, delivery, ended, reason)).tries
    assert (int(decoded.outcome), decoded.consumer, decoded.reason) == (outcome, delivery.consumer, reason)
    assert (decoded.began.ToNanoseconds(), decoded.ended.ToNanoseconds()) == (delivery.since, ended)
    assert decoded.token == delivery.token


def test_the_newest_tries_are_kept() -> None:
    history = b"".join(
        failed_try(TryOutcome.NACKED, DeliveryRecord(MessageState.LEASED, n, n), n, "x" * (n % 300))
        for n in range(1, 31)
    )
    assert [each.token for each in pb.BrowsedMessage.FromString(newest_tries(history)).tries] == list(range(11, 31))
    last = failed_try(TryOutcome.NACKED, DeliveryRecord(MessageState.LEASED, 30, 30), 30, "x" * 30)
    assert newest_tries(history, len(last)) == last
    assert newest_tries(history, len(last) - 1) == b""


@given(payloads, tags, times)
def test_no_response_is_larger_than_the_size_that_add_checks(
    payload: bytes, given_tags: tuple[Tag, ...], created: int
) -> None:
    for given_terms in (None, Terms(-1, not_before=created + 10**18 - 1, ttl=10**17 + 1)):
        new = NewMessage(payload, encode_tags(given_tags), ID.encode(), given_terms)
        stored = new.stored(ID.encode(), created)
        failed = DeliveryRecord(MessageState.DEAD, 1_000, 1 << 62, created, created, "c" * 256, (), 1, b"")
        failed.history = failed_try(TryOutcome.NACKED, failed, created, "r" * 1_024)
        assert len(delivered([stored], 1 << 62, [1_000], created)) <= new.size
        assert len(browsed(stored, MessageState.READY, created, None, new.size)) <= new.size
        # Its history is omitted if there is no space for it, and so is the consumer's name.
        assert len(browsed(stored, MessageState.DEAD, 0, failed, new.size)) <= new.size
        assert len(browsed(stored, MessageState.LEASED, created, failed, new.size)) <= new.size


@given(st.lists(st.uuids().map(str), max_size=5))
def test_concatenated_ids_are_the_response_to_a_batch_that_was_added(ids: list[str]) -> None:
    response = pb.AddBatchResponse(results=[pb.AddResult(id=message_id) for message_id in ids])
    assert added([message_id.encode() for message_id in ids]) == response.SerializeToString()


@given(st.integers(1, 1 << 50))
def test_numbers_are_written_as_protobuf_writes_them(number: int) -> None:
    assert b"\x10" + varint(number) == pb.QueueStats(enqueued=number).SerializeToString()


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_stored_unchanged(data: bytes) -> None:
    try:
        request = pb.NewMessage.FromString(data)
        new = message_from_pb(request, Bounds())
    except Exception:  # noqa: BLE001  # a refused message is not stored, whatever the reason
        return
    stored = decode(new.stored(ID.encode(), 1))
    assert stored.payload == request.payload
    assert {(tag.key, tag.value) for tag in stored.meta.tags} == {(tag.key, tag.value) for tag in request.tags}

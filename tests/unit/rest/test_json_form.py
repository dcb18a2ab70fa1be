"""JSON is what protobuf defines for a message, with the names of the .proto file; errors name the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from queuelet.errors import InvalidArgument
from queuelet.rest.json_form import read_json, read_texts, to_json
from queuelet.v1 import queue_pb2 as pb
from support.messages import copy_of, messages

TYPES = sorted(pb.DESCRIPTOR.message_types_by_name.values(), key=lambda each: each.full_name)

MESSAGES = st.sampled_from(TYPES).flatmap(messages)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def refused(text: bytes | str, message: Message) -> InvalidArgument | None:
    """Read JSON into a message; return the error if it is refused."""
    try:
        read_json(text, message)
    except InvalidArgument as error:
        return error
    return None


@given(MESSAGES)
def test_q51_json_is_that_of_protobuf_with_names_of_the_proto_file(message: Message) -> None:
    assert json.loads(to_json(message)) == json_format.MessageToDict(message, preserving_proto_field_name=True)


@given(MESSAGES)
def test_json_is_read_back_in_both_casings(message: Message) -> None:
    again = copy_of(message)
    read_json(to_json(message), again)
    assert again == message
    camel = copy_of(message)
    read_json(json_format.MessageToJson(message), camel)
    assert camel == message


@given(st.sampled_from(TYPES), VALUES, st.data())
def test_a_wrong_value_is_refused_with_its_field_or_read_as_protobuf_reads_it(
    descriptor: Any,  # noqa: ANN401  # a Descriptor of either implementation
    value: object,
    data: st.DataObject,
) -> None:
    message = GetMessageClass(descriptor)()
    names = [field.name for field in descriptor.fields]
    name = data.draw(st.sampled_from(names)) if names else "nothing"
    text = json.dumps({name: value})
    error = refused(text, message)
    if error is None:
        assert message == json_format.Parse(text, GetMessageClass(descriptor)())
    else:
        assert str(error.facts["field"]).startswith(name)
        assert error.message.startswith(str(error.facts["field"]))


@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for kind in (pb.NewQueueRequest, pb.NewMessage, pb.Tag, pb.AckRequest):
        error = refused(body, kind())
        assert error is None or "field" in error.facts


WRONG = [
    ('{"limit": "many"}', "limit"),
    ('{"limit": 9223372036854775808}', "limit"),
    ('{"limit": 1.5}', "limit"),
    ('{"limit": true}', "limit"),
    ('{"limit": 1e999}', "limit"),
    ('{"limit": "' + "9" * 5_000 + '"}', "limit"),
    ('{"tags": {"key": "a"}}', "tags"),
    ('{"tags": [{"key": 1}]}', "tags[0].key"),
    ('{"tags": [{"key": "a"}, {"kee": "a"}]}', "tags[1].kee"),
    ('{"tags": [null]}', "tags[0]"),
    ('{"delivery": {"lease_seconds": "x"}}', "delivery.lease_seconds"),
    ('{"delivery": {"leaseSeconds": 1, "lease_seconds": 1}}', "delivery.lease_seconds"),
    ('{"store": "PAPER"}', "store"),
    ('{"store": 1.5}', "store"),
    ('{"name": "\\ud800"}', "name"),
    ('{"limit": NaN}', "body"),
    ("[" * 100_000, "body"),
    ('{"limit": ' + "9" * 5_000 + "}", "body"),
    ("[]", "body"),
    ("", "body"),
]


@pytest.mark.parametrize(("text", "field"), WRONG, ids=[text[:30] for text, _ in WRONG])
def test_an_error_names_the_field(text: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_json(text, pb.NewQueueRequest())
    assert caught.value.facts["field"] == field
    assert caught.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize("text", ["aGk", "aGk=", "_-8", "/+8=", ""])
def test_base64_is_read_with_either_alphabet_and_padded_or_not(text: str) -> None:
    message = pb.NewMessage()
    read_json(json.dumps({"payload": text}), message)
    assert message == json_format.Parse(json.dumps({"payload": text}), pb.NewMessage())


@pytest.mark.parametrize("text", ["a", "aGk==", "a Gk=", "ä", "aGk=aGk="])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="payload: "):
        read_json(json.dumps({"payload": text}), pb.NewMessage())


def test_null_leaves_a_field_out() -> None:
    message = pb.NewQueueRequest()
    read_json('{"limit": null, "tags": null, "delivery": null}', message)
    assert message == pb.NewQueueRequest()


# Fields in a path or a query


def read(*texts: tuple[str, str], strict: bool = True, taken: tuple[str, ...] = ()) -> pb.BrowseRequest:
    message = pb.BrowseRequest()
    read_texts(texts, message, taken=taken, strict=strict)
    return message


def test_a_query_has_the_fields_of_the_request() -> None:
    states = [("states", "MESSAGE_STATE_READY"), ("states", "4")]
    more = [("pageSize", "3"), ("selector", "a=b"), ("descending", "true"), ("payload_bytes", "0")]
    assert read(*states, *more) == pb.BrowseRequest(
        states=[pb.MESSAGE_STATE_READY, pb.MESSAGE_STATE_DEAD],
        page_size=3,
        selector="a=b",
        descending=True,
        payload_bytes=0,
    )


def test_a_query_reaches_into_messages_and_reads_times() -> None:
    request = pb.NewQueueRequest()
    read_texts([("delivery.lease_seconds", "5"), ("delivery.maxDeliveries", "6")], request, strict=True)
    assert request.delivery == pb.DeliverySettings(lease_seconds=5, max_deliveries=6)
    history = pb.GetHistoryRequest()
    read_texts([("after", "1970-01-01T00:00:01Z")], history, strict=True)
    assert history.after.seconds == 1
    pop = pb.PopRequest()
    read_texts([("wait", "1.5s")], pop, strict=True)
    assert pop.wait.ToMilliseconds() == 1_500


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page_size", "x"),
        ("page_size", ""),
        ("states", "READY?"),
        ("descending", "1"),
        ("nonsense", "1"),
        ("selector.key", "1"),
        ("", "1"),
    ],
)
def test_a_wrong_field_in_a_query_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read((name, text))
    assert caught.value.facts["field"] == name


def test_a_field_is_given_once() -> None:
    with pytest.raises(InvalidArgument, match="page_size: given twice"):
        read(("page_size", "1"), ("pageSize", "1"))
    with pytest.raises(InvalidArgument, match="queue_id: given twice"):
        read(("queue_id", "a"), taken=("queue_id",))
    with pytest.raises(InvalidArgument, match="ids: given twice"):
        read(("ids", "a"), taken=("ids",))


def test_unknown_fields_are_ignored_if_that_is_wanted() -> None:
    assert read(("_", "1"), ("page_size", "2"), strict=False) == pb.BrowseRequest(page_size=2)

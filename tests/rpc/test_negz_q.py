"""An unchanged client of negz/q: its own generated classes, the service `proto.Q`, and its texts word for word.

The numbers are those of the table in docs/compatibility.md. Intended differences are asserted in tests named
`..._differs_...`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.message import Message as ProtobufMessage
from prometheus_client.parser import text_string_to_metric_families

from queuelet.compat import q_pb2 as q
from support.pages import fetch
from support.rpc import Refused, Rpc, refusal, unique_name
from support.server_process import ServerProcess

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

METHODS = ("ListQueues", "NewQueue", "GetQueue", "DeleteQueue", "AddQueueTag", "DeleteQueueTag", "Add", "Pop", "Peek")

Response = TypeVar("Response", bound=ProtobufMessage)


class NegzClient:
    """The generated code of negz/q's q.proto: only a stub."""

    def __init__(self, channel: grpc.Channel) -> None:
        """Use a channel."""
        self._channel = channel

    def call(self, method: str, request: ProtobufMessage, response: type[Response]) -> Response:
        """Call a method. Raises Refused."""
        stub = cast("Any", self._channel.unary_unary)(
            f"/proto.Q/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return cast("Response", stub(request, timeout=30))
        except grpc.RpcError as error:
            refused = refusal(error)
            if refused.reason:
                raise AssertionError("negz/q's clients know of no ErrorInfo") from None
            raise refused from None

    def new_queue(self, limit: int = -1, *tags: q.Tag) -> q.Queue:
        """Create a Memory queue."""
        request = q.NewQueueRequest(store=q.Queue.MEMORY, limit=limit, tags=tags)
        return self.call("NewQueue", request, q.NewQueueResponse).queue

    def get(self, queue_id: str) -> q.Queue:
        """Get a queue."""
        return self.call("GetQueue", q.GetQueueRequest(queue_id=queue_id), q.GetQueueResponse).queue

    def list(self) -> list[q.Queue]:
        """List all queues."""
        return list(self.call("ListQueues", q.ListQueuesRequest(), q.ListQueuesResponse).queues)

    def delete(self, queue_id: str) -> q.DeleteQueueResponse:
        """Delete a queue."""
        return self.call("DeleteQueue", q.DeleteQueueRequest(queue_id=queue_id), q.DeleteQueueResponse)

    def tag(self, queue_id: str, key: str, value: str) -> None:
        """Add a tag."""
        request = q.AddQueueTagRequest(queue_id=queue_id, tag=q.Tag(key=key, value=value))
        self.call("AddQueueTag", request, q.AddQueueTagResponse)

    def untag(self, queue_id: str, key: str, value: str) -> None:
        """Delete a tag."""
        request = q.DeleteQueueTagRequest(queue_id=queue_id, tag=q.Tag(key=key, value=value))
        self.call("DeleteQueueTag", request, q.DeleteQueueTagResponse)

    def add(self, queue_id: str, payload: bytes = b"", *tags: q.Tag) -> q.Message:
        """Add a message."""
        request = q.AddRequest(queue_id=queue_id, message=q.NewMessage(payload=payload, tags=tags))
        return self.call("Add", request, q.AddResponse).message

    def pop(self, queue_id: str) -> q.Message:
        """Pop a message."""
        return self.call("Pop", q.PopRequest(queue_id=queue_id), q.PopResponse).message

    def peek(self, queue_id: str) -> q.Message:
        """Peek at the first message."""
        return self.call("Peek", q.PeekRequest(queue_id=queue_id), q.PeekResponse).message


@pytest.fixture
def client(channel: grpc.Channel) -> NegzClient:
    """An unchanged client of the shared server."""
    return NegzClient(channel)


@pytest.fixture
def made(client: NegzClient) -> Iterator[str]:
    """The ID of a new queue without a limit."""
    queue_id = client.new_queue().meta.id
    yield queue_id
    client.delete(queue_id)


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return code and text of a call that must be refused."""
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.code, caught.value.text


def tags_of(meta: q.Metadata) -> set[tuple[str, str]]:
    """Return tags as pairs."""
    return {(tag.key, tag.value) for tag in meta.tags}


def each_with_queue_id(queue_id: str) -> dict[str, tuple[ProtobufMessage, type[ProtobufMessage]]]:
    """Return a valid request of every method that names a queue, and the class of its response."""
    tag = q.Tag(key="k", value="v")
    return {
        "GetQueue": (q.GetQueueRequest(queue_id=queue_id), q.GetQueueResponse),
        "AddQueueTag": (q.AddQueueTagRequest(queue_id=queue_id, tag=tag), q.AddQueueTagResponse),
        "DeleteQueueTag": (q.DeleteQueueTagRequest(queue_id=queue_id, tag=tag), q.DeleteQueueTagResponse),
        "Add": (q.AddRequest(queue_id=queue_id, message=q.NewMessage(payload=b"x")), q.AddResponse),
        "Pop": (q.PopRequest(queue_id=queue_id), q.PopResponse),
        "Peek": (q.PeekRequest(queue_id=queue_id), q.PeekResponse),
        "DeleteQueue": (q.DeleteQueueRequest(queue_id=queue_id), q.DeleteQueueResponse),
    }


# The wire


def test_q01_service_and_file_have_negz_names() -> None:
    assert q.DESCRIPTOR.name == "q.proto"
    assert q.DESCRIPTOR.package == "proto"
    service = q.DESCRIPTOR.services_by_name["Q"]
    assert service.full_name == "proto.Q"
    assert tuple(method.name for method in service.methods) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_q01_every_path_is_served(channel: grpc.Channel, method: str) -> None:
    """The method refuses an unreadable request; a path that is not served would be UNIMPLEMENTED."""
    with pytest.raises(grpc.RpcError) as caught:
        cast("Any", channel.unary_unary)(f"/proto.Q/{method}")(b"\xff", timeout=30)
    assert refusal(caught.value).code is INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (q.NewQueueRequest, {"store": 1, "limit": 2, "tags": 3}),
        (q.NewQueueResponse, {"queue": 1}),
        (q.GetQueueRequest, {"queue_id": 1}),
        (q.GetQueueResponse, {"queue": 1}),
        (q.ListQueuesRequest, {}),
        (q.ListQueuesResponse, {"queues": 1}),
        (q.DeleteQueueRequest, {"queue_id": 1}),
        (q.DeleteQueueResponse, {}),
        (q.AddQueueTagRequest, {"queue_id": 1, "tag": 2}),
        (q.AddQueueTagResponse, {}),
        (q.DeleteQueueTagRequest, {"queue_id": 1, "tag": 2}),
        (q.DeleteQueueTagResponse, {}),
        (q.AddRequest, {"queue_id": 1, "message": 2}),
        (q.AddResponse, {"message": 1}),
        (q.PopRequest, {"queue_id": 1}),
        (q.PopResponse, {"message": 1}),
        (q.PeekRequest, {"queue_id": 1}),
        (q.PeekResponse, {"message": 1}),
        (q.Tag, {"key": 1, "value": 2}),
        (q.Metadata, {"id": 1, "created": 2, "tags": 3}),
        (q.NewMessage, {"tags": 1, "payload": 2}),
        (q.Message, {"meta": 1, "payload": 2}),
        (q.Queue, {"meta": 1, "store": 2}),
    ],
    ids=lambda value: value.DESCRIPTOR.name if hasattr(value, "DESCRIPTOR") else "",
)
def test_q02_q03_q04_fields_have_negz_numbers(message: type[ProtobufMessage], fields: dict[str, int]) -> None:
    assert {field.name: field.number for field in message.DESCRIPTOR.fields} == fields


def test_q04_stores_have_negz_numbers() -> None:
    assert dict(q.Queue.Store.items()) == {"UNKNOWN": 0, "MEMORY": 1, "BOLTDB": 2}


def test_q04_negz_bytes_written_by_hand_are_understood(channel: grpc.Channel, made: str) -> None:
    """In the request, tags are field 1 and the payload is field 2; in the response, the payload is field 2."""
    new = b"\x0a\x06\x0a\x01k\x12\x01v" + b"\x12\x05hello"
    request = b"\x0a\x24" + made.encode() + b"\x12" + bytes([len(new)]) + new
    response = cast("Any", channel.unary_unary)("/proto.Q/Add")(request, timeout=30)
    assert response.startswith(b"\x0a")
    assert response.endswith(b"\x1a\x06\x0a\x01k\x12\x01v" + b"\x12\x05hello")


# Queues


def test_q10_new_queue_returns_id_time_tags_and_store(client: NegzClient) -> None:
    tags = [q.Tag(key="team", value="checkout"), q.Tag(key="team", value="search")]
    first, second = client.new_queue(7, *tags), client.new_queue(7, *tags)
    assert UUID(first.meta.id).version == 4
    assert first.meta.id != second.meta.id, "each call makes a queue"
    assert first.store == q.Queue.MEMORY
    assert tags_of(first.meta) == {("team", "checkout"), ("team", "search")}
    assert first.meta.created.ToNanoseconds() > 0
    assert client.get(first.meta.id) == first


@pytest.mark.parametrize("number", [0, 4, 99, -1], ids=["UNKNOWN", "4", "99", "negative"])
def test_q11_differs_an_unknown_store_is_invalid_argument(client: NegzClient, number: int) -> None:
    """negz/q responds NOT_FOUND; our text lists the stores."""
    request = q.NewQueueRequest(store=cast("Any", number), limit=1)
    code, text = refused(lambda: client.call("NewQueue", request, q.NewQueueResponse))
    assert code is INVALID_ARGUMENT
    assert text == f"store: there is no store {number}; use MEMORY (1), DISK (2) or POSTGRES (3)"


def test_q11_differs_boltdb_is_disk_which_needs_a_flag(client: NegzClient) -> None:
    request = q.NewQueueRequest(store=q.Queue.BOLTDB, limit=1)
    code, text = refused(lambda: client.call("NewQueue", request, q.NewQueueResponse))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert re.match(r"store: this server runs without DISK; it needs the flag --data-dir", text)


def test_q12_a_full_queue_refuses_the_next_add(client: NegzClient) -> None:
    queue_id = client.new_queue(3).meta.id
    for _ in range(3):
        client.add(queue_id)
    for _ in range(2):
        assert refused(lambda: client.add(queue_id)) == (
            RESOURCE_EXHAUSTED,
            f"cannot add message to queue: queue {queue_id} has reached limit of 3 messages",
        )
    client.pop(queue_id)
    client.add(queue_id)


def test_q12_minus_one_is_no_bound(client: NegzClient, made: str) -> None:
    for _ in range(100):
        client.add(made)


@pytest.mark.parametrize("limit", [0, -2, -(2**63)])
def test_q13_differs_a_limit_that_would_always_be_full_is_refused(client: NegzClient, limit: int) -> None:
    """negz/q creates such a queue, and refuses every Add to it."""
    assert refused(lambda: client.new_queue(limit)) == (
        INVALID_ARGUMENT,
        f"limit: {limit} is not allowed; use 1 or more, or -1 for unlimited",
    )


def test_q13_differs_a_limit_left_out_is_refused(client: NegzClient) -> None:
    request = q.NewQueueRequest(store=q.Queue.MEMORY)
    assert refused(lambda: client.call("NewQueue", request, q.NewQueueResponse))[0] is INVALID_ARGUMENT


BAD_IDS = {
    "": "invalid UUID length: 0",
    "orders": "invalid UUID length: 6",
    "x" * 36: "invalid UUID format",
    "6f9c0000-1111-4222-8333-44445555666g": "invalid UUID format",
    "6f9c0000x1111-4222-8333-444455556666": "invalid UUID format",
    "6f9c0000111142228333444455556666": "invalid UUID length: 32",
    "{6f9c0000-1111-4222-8333-444455556666}": "invalid UUID length: 38",
    "urn:uuix:6f9c0000-1111-4222-8333-444455556666": 'invalid urn prefix: "urn:uuix:"',
    "urn:uuid:6f9c0000-1111-4222-8333-44445555666g": "invalid UUID format",
    "ürn:uui:6f9c0000-1111-4222-8333-444455556666": 'invalid urn prefix: "ürn:uui:"',
    'urn"uuid:6f9c0000-1111-4222-8333-444455556666': r'invalid urn prefix: "urn\"uuid:"',
    "é" * 18: "invalid UUID format",
}


@pytest.mark.parametrize(("queue_id", "why"), BAD_IDS.items(), ids=[text[:40] or "empty" for text in BAD_IDS])
def test_q14_a_bad_id_is_invalid_argument_in_every_method(client: NegzClient, queue_id: str, why: str) -> None:
    expected = f"cannot parse ID: cannot parse ID {queue_id} as a UUID: {why}"
    for method, (request, response) in each_with_queue_id(queue_id).items():
        assert refused(lambda: client.call(method, request, response)) == (INVALID_ARGUMENT, expected), method  # noqa: B023


def test_q14_differs_an_error_has_the_beginning_of_a_very_long_id(client: NegzClient) -> None:
    """negz/q repeats the whole text, which may be longer than clients accept in a status."""
    code, text = refused(lambda: client.get("é" * 200_000))
    assert code is INVALID_ARGUMENT
    assert text == f"cannot parse ID: cannot parse ID {'é' * 80}... as a UUID: invalid UUID length: 400000"


@pytest.mark.parametrize("form", ["{0}", "urn:uuid:{0}", "URN:UUID:{0}"])
@pytest.mark.parametrize("case", [str.lower, str.upper], ids=["lower", "upper"])
def test_q14_ids_are_read_in_every_form_negz_reads(
    client: NegzClient, made: str, form: str, case: Callable[[str], str]
) -> None:
    assert client.get(form.format(case(made))).meta.id == made


@pytest.mark.parametrize("method", ["GetQueue", "AddQueueTag", "DeleteQueueTag", "Add", "Pop", "Peek"])
def test_q15_an_unknown_id_is_not_found(client: NegzClient, method: str) -> None:
    queue_id = str(uuid4())
    request, response = each_with_queue_id(queue_id)[method]
    assert refused(lambda: client.call(method, request, response)) == (
        NOT_FOUND,
        f"cannot get queue {queue_id}: cannot find queue with id {queue_id}",
    )


def test_q15_an_error_has_an_unknown_id_in_canonical_form(client: NegzClient) -> None:
    queue_id = str(uuid4())
    expected = f"cannot get queue {queue_id}: cannot find queue with id {queue_id}"
    assert refused(lambda: client.get(f"urn:uuid:{queue_id.upper()}")) == (NOT_FOUND, expected)


def test_q16_deleting_an_unknown_queue_succeeds(client: NegzClient) -> None:
    assert client.delete(str(uuid4())) == q.DeleteQueueResponse()


def test_q16_a_deleted_queue_is_gone_with_its_messages(client: NegzClient) -> None:
    queue_id = client.new_queue().meta.id
    client.add(queue_id)
    client.delete(queue_id)
    client.delete(queue_id)
    expected = (NOT_FOUND, f"cannot get queue {queue_id}: cannot find queue with id {queue_id}")
    assert refused(lambda: client.get(queue_id)) == expected
    assert refused(lambda: client.pop(queue_id)) == expected
    assert queue_id not in {queue.meta.id for queue in client.list()}


# Messages


def test_q17_an_empty_queue_is_not_found(client: NegzClient, made: str) -> None:
    for _ in range(2):
        assert refused(lambda: client.pop(made)) == (
            NOT_FOUND,
            f"cannot pop message from queue: queue {made} is empty",
        )
        assert refused(lambda: client.peek(made)) == (
            NOT_FOUND,
            f"cannot peek into queue: queue {made} is empty",
        )


def test_q17_an_error_has_the_id_of_a_named_queue(client: NegzClient, rpc: Rpc) -> None:
    """Also for a queue with a name: the texts of Q12 and Q17 contain its ID, because its clients expect that."""
    queue = rpc.new_queue(unique_name(), limit=1)
    queue_id = queue.meta.id
    assert refused(lambda: client.pop(queue_id))[1] == f"cannot pop message from queue: queue {queue_id} is empty"
    client.add(queue_id)
    text = f"cannot add message to queue: queue {queue_id} has reached limit of 1 messages"
    assert refused(lambda: client.add(queue_id))[1] == text


def test_q18_add_returns_the_message_with_its_payload(client: NegzClient, made: str) -> None:
    tag = q.Tag(key="lang", value="de")
    first, second = client.add(made, b"\x00\xffpayload", tag), client.add(made, b"\x00\xffpayload", tag)
    assert UUID(first.meta.id).version == 4
    assert first.meta.id != second.meta.id
    assert first.meta.created.ToNanoseconds() > 0
    assert tags_of(first.meta) == {("lang", "de")}
    assert first.payload == b"\x00\xffpayload"


def test_q18_add_without_a_message_stores_an_empty_one(client: NegzClient, made: str) -> None:
    added = client.call("Add", q.AddRequest(queue_id=made), q.AddResponse).message
    popped = client.pop(made)
    assert popped == added
    assert popped.payload == b""
    assert not popped.meta.tags


def test_q19_first_in_first_out_and_peek_is_the_next_pop(client: NegzClient, made: str) -> None:
    added = [client.add(made, str(number).encode()) for number in range(20)]
    for message in added:
        assert client.peek(made) == client.peek(made) == message
        assert client.pop(made) == message
    assert refused(lambda: client.peek(made))[0] is NOT_FOUND


# Tags


def test_q20_a_missing_tag_is_invalid_argument(client: NegzClient, made: str) -> None:
    add, delete = q.AddQueueTagRequest(queue_id=made), q.DeleteQueueTagRequest(queue_id=made)
    assert refused(lambda: client.call("AddQueueTag", add, q.AddQueueTagResponse)) == (
        INVALID_ARGUMENT,
        "did not supply a tag to add",
    )
    assert refused(lambda: client.call("DeleteQueueTag", delete, q.DeleteQueueTagResponse)) == (
        INVALID_ARGUMENT,
        "did not supply a tag to delete",
    )


@pytest.mark.parametrize("method", ["AddQueueTag", "DeleteQueueTag"])
def test_q20_id_is_checked_before_queue_and_queue_before_tag(client: NegzClient, method: str) -> None:
    request = q.AddQueueTagRequest if method == "AddQueueTag" else q.DeleteQueueTagRequest
    response = q.AddQueueTagResponse if method == "AddQueueTag" else q.DeleteQueueTagResponse
    unknown = str(uuid4())
    code, text = refused(lambda: client.call(method, request(queue_id="bad"), response))
    assert (code, text) == (INVALID_ARGUMENT, "cannot parse ID: cannot parse ID bad as a UUID: invalid UUID length: 3")
    code, text = refused(lambda: client.call(method, request(queue_id=unknown), response))
    assert (code, text) == (NOT_FOUND, f"cannot get queue {unknown}: cannot find queue with id {unknown}")


def test_q21_tags_of_a_queue_are_a_set_of_pairs(client: NegzClient) -> None:
    tags = [q.Tag(key="a", value="1"), q.Tag(key="a", value="1"), q.Tag(key="a", value="2")]
    queue = client.new_queue(1, *tags)
    assert sorted((tag.key, tag.value) for tag in queue.meta.tags) == [("a", "1"), ("a", "2")]
    client.tag(queue.meta.id, "a", "2")
    client.tag(queue.meta.id, "b", "")
    assert sorted((tag.key, tag.value) for tag in client.get(queue.meta.id).meta.tags) == [
        ("a", "1"),
        ("a", "2"),
        ("b", ""),
    ]
    client.untag(queue.meta.id, "a", "1")
    client.untag(queue.meta.id, "a", "1")
    client.untag(queue.meta.id, "never", "there")
    assert tags_of(client.get(queue.meta.id).meta) == {("a", "2"), ("b", "")}


def test_q21_tags_of_a_message_are_a_set_of_pairs_and_stay(client: NegzClient, made: str) -> None:
    tags = [q.Tag(key="a", value="1"), q.Tag(key="a", value="1"), q.Tag(key="a", value="2")]
    added = client.add(made, b"", *tags)
    assert sorted((tag.key, tag.value) for tag in added.meta.tags) == [("a", "1"), ("a", "2")]
    client.tag(made, "a", "3")
    assert client.pop(made) == added


def test_q22_differs_all_queues_are_listed_in_order_of_creation(client: NegzClient) -> None:
    """negz/q lists them in random order."""
    ids = [client.new_queue().meta.id for _ in range(20)]
    listed = [queue.meta.id for queue in client.list()]
    assert [queue_id for queue_id in listed if queue_id in ids] == ids
    again = [queue.meta.id for queue in client.list()]
    assert [queue_id for queue_id in again if queue_id in ids] == ids


def test_q22_a_listed_queue_is_what_get_returns(client: NegzClient, made: str) -> None:
    client.tag(made, "k", "v")
    (listed,) = [queue for queue in client.list() if queue.meta.id == made]
    assert listed == client.get(made)


def test_q23_tags_added_at_the_same_time_are_all_kept(client: NegzClient, made: str) -> None:
    """negz/q creates the set of tags on first use, without a lock."""
    threads = [threading.Thread(target=client.tag, args=(made, "k", str(number))) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tags_of(client.get(made).meta) == {("k", str(number)) for number in range(16)}


# Metrics, logs and flags


def scrape(server: ServerProcess) -> str:
    """Return /metrics."""
    return fetch(f"{server.metrics_url}/metrics").text


def counts(server: ServerProcess, queue_id: str) -> dict[tuple[str, str], float]:
    """Return negz/q's three counters of a queue, by name and error type."""
    return {
        (sample.name, sample.labels.get("type", "")): sample.value
        for family in text_string_to_metric_families(scrape(server))
        for sample in family.samples
        if sample.name in {"queue_messages_enqueued_total", "queue_messages_consumed_total", "queue_errors_total"}
        if sample.labels["queue"] == queue_id
    }


def test_q30_counters_have_negz_names_and_help_texts(server: ServerProcess, client: NegzClient) -> None:
    queue_id = client.new_queue(1).meta.id
    client.add(queue_id)
    refused(lambda: client.add(queue_id))
    client.pop(queue_id)
    text = scrape(server)
    for name, help_text in {
        "queue_messages_enqueued_total": "Number of queued messages.",
        "queue_messages_consumed_total": "Number of consumed messages.",
        "queue_errors_total": "Number of errors encountered while enqueuing or consuming messages.",
    }.items():
        assert f"# HELP {name} {help_text}\n# TYPE {name} counter\n" in text
    assert f'\nqueue_messages_enqueued_total{{queue="{queue_id}"}} 1.0\n' in text
    assert f'\nqueue_messages_consumed_total{{queue="{queue_id}"}} 1.0\n' in text
    assert f'\nqueue_errors_total{{queue="{queue_id}",type="Full"}} 1.0\n' in text
    client.delete(queue_id)


def test_q31_series_begin_at_the_first_event_and_peek_counts_nothing(server: ServerProcess, client: NegzClient) -> None:
    queue_id = client.new_queue(2).meta.id
    assert counts(server, queue_id) == {}
    client.add(queue_id)
    client.peek(queue_id)
    assert counts(server, queue_id) == {("queue_messages_enqueued_total", ""): 1}
    client.pop(queue_id)
    refused(lambda: client.pop(queue_id))
    refused(lambda: client.peek(queue_id))
    client.add(queue_id)
    client.add(queue_id)
    refused(lambda: client.add(queue_id))
    assert counts(server, queue_id) == {
        ("queue_messages_enqueued_total", ""): 3,
        ("queue_messages_consumed_total", ""): 1,
        ("queue_errors_total", "NotFound"): 2,
        ("queue_errors_total", "Full"): 1,
    }
    client.delete(queue_id)


def test_q31_requests_to_unknown_queues_count_nothing(server: ServerProcess, client: NegzClient) -> None:
    queue_id = str(uuid4())
    refused(lambda: client.pop(queue_id))
    refused(lambda: client.add(queue_id))
    assert queue_id not in scrape(server)


def test_q31_differs_the_series_of_a_deleted_queue_go_away(server: ServerProcess, client: NegzClient) -> None:
    queue_id = client.new_queue().meta.id
    client.add(queue_id)
    assert counts(server, queue_id)
    client.delete(queue_id)
    assert queue_id not in scrape(server)


def test_q31_differs_process_series_but_none_of_go(server: ServerProcess) -> None:
    names = {family.name for family in text_string_to_metric_families(scrape(server))}
    assert "process_resident_memory_bytes" in names
    assert "process_cpu_seconds" in names
    assert not {name for name in names if name.startswith("go_")}


def test_q32_head_of_metrics_is_get_without_a_body(server: ServerProcess) -> None:
    page = fetch(f"{server.metrics_url}/metrics", "HEAD")
    assert (page.status, page.text) == (200, "")
    assert page.kind == fetch(f"{server.metrics_url}/metrics").kind


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_q32_any_method_on_quitquitquit_ends_the_server_with_0(method: str) -> None:
    with ServerProcess() as server:
        assert fetch(f"{server.metrics_url}/quitquitquit", method).status == 200
        assert server.wait() == 0
        (line,) = server.log("shutdown requested")
        assert line["remote"] == "127.0.0.1"
        assert line["level"] == "info"


def test_q32_differs_quitquitquit_drains(client: NegzClient) -> None:
    """negz/q exits at once, even with messages or waiting calls."""
    with ServerProcess() as server, grpc.insecure_channel(server.address) as channel:
        other = NegzClient(channel)
        queue_id = other.new_queue().meta.id
        other.add(queue_id)
        assert fetch(f"{server.metrics_url}/quitquitquit").status == 200
        assert server.wait() == 0
        assert [line["msg"] for line in server.log()][-3:] == ["shutdown requested", "draining", "stopped"]
        assert server.log("stopped")[0]["messages_lost"] == 1


@pytest.fixture(scope="module")
def debugged() -> Iterator[tuple[ServerProcess, NegzClient]]:
    """A server that logs each call."""
    with ServerProcess("--debug") as server, grpc.insecure_channel(server.address) as channel:
        yield server, NegzClient(channel)


def test_q33_debug_lines_have_negz_messages(debugged: tuple[ServerProcess, NegzClient]) -> None:
    server, client = debugged
    queue_id = client.new_queue(-1, q.Tag(key="team", value="checkout")).meta.id
    client.get(queue_id)
    client.list()
    message_id = client.add(queue_id, b"the secret payload").meta.id
    client.peek(queue_id)
    client.pop(queue_id)
    client.delete(queue_id)
    server.wait_for_log("delete queue", lambda line: line.get("queue") == queue_id)
    lines = {line["msg"]: line for line in server.log() if queue_id in (line.get("queue"), line.get("id"))}
    for msg in ("add queue", "get queue", "delete queue", "add", "pop", "peek", "queue logging enabled"):
        assert lines[msg]["level"] == "debug", msg
        assert lines[msg]["queue"] == queue_id, "differs: negz/q calls queue and message both `id`"
    for msg in ("add", "pop", "peek"):
        assert lines[msg]["message"] == message_id
    assert server.log("list queues")[-1]["level"] == "debug"
    assert server.log("queue manager logging enabled")
    assert "team" in str(lines["add queue"])
    assert "secret" not in server.output()


def test_q33_failures_are_logged_as_errors(debugged: tuple[ServerProcess, NegzClient]) -> None:
    server, client = debugged
    queue_id = client.new_queue(1).meta.id
    client.add(queue_id)
    refused(lambda: client.add(queue_id))
    line = server.wait_for_log("add", lambda line: line["level"] == "error")
    assert line["queue"] == queue_id
    assert "full" in line["error"]
    unknown = str(uuid4())
    refused(lambda: client.get(unknown))
    assert server.wait_for_log("get queue", lambda line: line.get("queue") == unknown)["level"] == "error"


def test_q33_differs_an_empty_pop_is_no_error(debugged: tuple[ServerProcess, NegzClient]) -> None:
    """In negz/q, an idle consumer that polls fills the log with errors."""
    server, client = debugged
    queue_id = client.new_queue().meta.id
    refused(lambda: client.pop(queue_id))
    refused(lambda: client.peek(queue_id))
    client.delete(queue_id)
    server.wait_for_log("delete queue", lambda line: line.get("queue") == queue_id)
    assert not [line for line in server.log() if line["level"] == "error" and line.get("queue") == queue_id]


def test_q33_each_line_is_json_with_level_time_and_message(debugged: tuple[ServerProcess, NegzClient]) -> None:
    server, client = debugged
    client.list()
    lines = server.log()
    assert len(lines) == len(server.output().splitlines())
    assert all({"level", "ts", "msg"} <= line.keys() for line in lines)


def test_q33_without_debug_calls_that_go_well_are_not_logged(server: ServerProcess, client: NegzClient) -> None:
    queue_id = client.new_queue().meta.id
    client.add(queue_id)
    client.pop(queue_id)
    assert not [line for line in server.log() if queue_id in str(line) and line["msg"] != "audit"]


def test_q33_differs_changes_of_queues_are_recorded(server: ServerProcess, client: NegzClient) -> None:
    """So that it is known who deleted a queue."""
    queue_id = client.new_queue().meta.id
    client.delete(queue_id)
    server.wait_for_log("audit", lambda line: (line["act"], line.get("queue")) == ("delete queue", queue_id))


def test_q40_short_and_long_flags() -> None:
    flags = ("-d", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    with ServerProcess(*flags, free_ports=False) as server, grpc.insecure_channel(server.address) as channel:
        NegzClient(channel).list()
        server.wait_for_log("list queues")
        assert server.stop() == 0


def test_q40_flags_from_negz_environment() -> None:
    env = {"Q_DEBUG": "true", "Q_LISTEN": "127.0.0.1:0", "Q_METRICS": "127.0.0.1:0"}
    with ServerProcess(env=env, free_ports=False) as server, grpc.insecure_channel(server.address) as channel:
        NegzClient(channel).list()
        server.wait_for_log("list queues")
        assert server.stop() == 0

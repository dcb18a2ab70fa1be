"""A plain client for tests: bytes or generated classes over one channel, and refusals as values.

It is deliberately not `queuelet.client`, because that hides the behaviour that these tests are about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, cast
from uuid import uuid4

import grpc
from google.protobuf.message import Message as ProtobufMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from queuelet.v1 import queue_pb2 as pb
from support.patience import patient

SERVICE = "queuelet.v1.QueueService"
NEGZ_SERVICE = "proto.Q"

TIMEOUT = patient(30)
"""Default timeout of a call, in seconds. It only keeps a defect from hanging a run."""

Response = TypeVar("Response", bound=ProtobufMessage)
Metadata = tuple[tuple[str, str], ...]


@dataclass
class Refused(Exception):
    """A call did not end with OK."""

    code: grpc.StatusCode
    text: str
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code.name}: {self.text}"


class Pending(Protocol):
    """A pending call."""

    def result(self, timeout: float | None = None) -> bytes:
        """Return the response."""

    def cancel(self) -> bool:
        """Cancel it."""

    def done(self) -> bool:
        """Whether it has ended."""

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call a function when it ends."""


class Stream(Protocol):
    """A stream of responses."""

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over them."""

    def __next__(self) -> bytes:
        """Return the next."""

    def cancel(self) -> bool:
        """End it."""


class Rpc:
    """Calls to one server over one connection."""

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        options: Iterable[tuple[str, Any]] = (),
    ) -> None:
        """Take the address of the server. Without options, a client's default limits hold: 4 MiB a message received."""
        own_connection = ("grpc.use_local_subchannel_pool", 1)
        every_option = [own_connection, ("grpc.enable_retries", 0), *options]
        if credentials:
            self.channel = grpc.secure_channel(address, credentials, every_option)
        else:
            self.channel = grpc.insecure_channel(address, every_option)
        self._metadata = metadata

    def close(self) -> None:
        """Close the connection; pending calls are cancelled."""
        self.channel.close()

    # In bytes

    def raw(self, path: str, request: bytes, *, timeout: float | None = TIMEOUT, metadata: Metadata = ()) -> bytes:
        """Call `service/method` with request bytes. Raises Refused."""
        try:
            return self._unary(path)(request, timeout=timeout, metadata=(*self._metadata, *metadata))
        except grpc.RpcError as error:
            raise refusal(error) from None

    def start(self, path: str, request: ProtobufMessage | bytes, *, timeout: float | None = TIMEOUT) -> Pending:
        """Start to call `service/method`, or a method of ours; see `outcome`."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        call = self._unary(path).future(data, timeout=timeout, metadata=self._metadata)
        return cast("Pending", call)

    def stream(self, path: str, request: bytes, *, timeout: float | None = TIMEOUT) -> Stream:
        """Start a stream of responses: an iterator of bytes that can be cancelled."""
        call = cast("Any", self.channel.unary_stream)(_path(path))
        return cast("Stream", call(request, timeout=timeout, metadata=self._metadata))

    def _unary(self, path: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
        make = cast("Any", self.channel.unary_unary)
        return cast("grpc.UnaryUnaryMultiCallable[bytes, bytes]", make(_path(path)))

    # In generated classes

    def call(
        self, path: str, request: ProtobufMessage, response: type[Response], *, timeout: float | None = TIMEOUT
    ) -> Response:
        """Call a method of ours, or `service/method`. Raises Refused."""
        return response.FromString(self.raw(path, request.SerializeToString(), timeout=timeout))

    def new_queue(
        self,
        name: str = "",
        *,
        limit: int = -1,
        tags: Iterable[tuple[str, str]] = (),
        delivery: pb.DeliverySettings | None = None,
    ) -> pb.Queue:
        """Create a Memory queue."""
        request = pb.NewQueueRequest(
            store=pb.Queue.MEMORY, limit=limit, name=name, tags=tags_to_pb(tags), delivery=delivery
        )
        return self.call("NewQueue", request, pb.NewQueueResponse).queue

    def get_queue(self, queue: str) -> pb.Queue:
        """Get a queue."""
        return self.call("GetQueue", pb.GetQueueRequest(queue_id=queue), pb.GetQueueResponse).queue

    def delete_queue(self, queue: str) -> None:
        """Delete a queue."""
        self.call("DeleteQueue", pb.DeleteQueueRequest(queue_id=queue), pb.DeleteQueueResponse)

    def add(self, queue: str, payload: bytes = b"", *, tags: Iterable[tuple[str, str]] = ()) -> pb.Message:
        """Add a message."""
        request = add_request(queue, payload, tags=tags)
        return self.call("Add", request, pb.AddResponse).message

    def add_batch(self, queue: str, payloads: Iterable[bytes], *, wait: bool = False) -> list[pb.AddResult]:
        """Add messages."""
        messages = [pb.NewMessage(payload=payload) for payload in payloads]
        request = pb.AddBatchRequest(queue_id=queue, messages=messages, wait=wait)
        return list(self.call("AddBatch", request, pb.AddBatchResponse).results)

    def pop(self, queue: str) -> pb.Message:
        """Pop a message."""
        return self.call("Pop", pb.PopRequest(queue_id=queue), pb.PopResponse).message

    def pop_all(self, queue: str) -> list[pb.Message]:
        """Pop until the queue is empty."""
        messages: list[pb.Message] = []
        while batch := self.call("PopBatch", pb.PopBatchRequest(queue_id=queue), pb.PopBatchResponse).messages:
            messages += batch
        return messages

    def browse_all(self, queue: str) -> list[pb.Message]:
        """Browse through the whole queue."""
        messages: list[pb.Message] = []
        token = ""
        while True:
            page = self.call("Browse", pb.BrowseRequest(queue_id=queue, page_token=token), pb.BrowseResponse)
            messages += [browsed.message for browsed in page.messages]
            token = page.next_page_token
            if not token:
                return messages

    def stats(self, queue: str) -> pb.QueueStats:
        """Get the statistics of a queue."""
        return self.call("GetStats", pb.GetStatsRequest(queue_id=queue), pb.GetStatsResponse).queue

    def server_stats(self) -> pb.ServerStats:
        """Get the statistics of the server."""
        return self.call("GetStats", pb.GetStatsRequest(), pb.GetStatsResponse).server

    def receive(
        self,
        queue: str,
        maximum: int = 0,
        *,
        wait: float = 0,
        lease: float = 0,
        request_id: str = "",
        consumer: str = "",
    ) -> list[pb.Delivery]:
        """Lease messages: wait for one this many seconds, and lease for this many seconds, by default the queue's."""
        request = pb.ReceiveRequest(queue_id=queue, max=maximum, request_id=request_id, consumer=consumer)
        request.wait.FromNanoseconds(int(wait * 1e9))
        request.lease.FromNanoseconds(int(lease * 1e9))
        return list(self.call("Receive", request, pb.ReceiveResponse).deliveries)

    def ack(self, queue: str, *tokens: int) -> list[str]:
        """Acknowledge; return the reason of each refusal, empty for success."""
        request = pb.AckRequest(queue_id=queue, tokens=tokens)
        return reasons(self.call("Ack", request, pb.AckResponse).results)

    def nack(
        self, queue: str, *tokens: int, delay: float = 0, reason: str = "", dead: bool = False, unused: bool = False
    ) -> list[str]:
        """Give back; return the reason of each refusal, empty for success."""
        request = pb.NackRequest(queue_id=queue, tokens=tokens, reason=reason, dead=dead, unused=unused)
        request.delay.FromNanoseconds(int(delay * 1e9))
        return reasons(self.call("Nack", request, pb.NackResponse).results)

    def extend(self, queue: str, *tokens: int, lease: float = 0) -> list[str]:
        """Extend; return the reason of each refusal, empty for success."""
        request = pb.ExtendRequest(queue_id=queue, tokens=tokens)
        request.lease.FromNanoseconds(int(lease * 1e9))
        return reasons(self.call("Extend", request, pb.ExtendResponse).results)

    def browse(self, queue: str, *states: pb.MessageState) -> list[pb.BrowsedMessage]:
        """Browse the first page of the messages in these states, or in all states if none is given."""
        request = pb.BrowseRequest(queue_id=queue, states=states)
        return list(self.call("Browse", request, pb.BrowseResponse).messages)

    def redrive(self, queue: str, **how: Any) -> list[pb.RedriveResponse]:  # noqa: ANN401  # the fields of RedriveRequest
        """Redrive to the end; return the reported progress. Raises Refused."""
        request = pb.RedriveRequest(queue_id=queue, **how).SerializeToString()
        return list(map(pb.RedriveResponse.FromString, read_all(self.stream("Redrive", request))))

    def consume(self, queue: str, *, credit: int = 0, timeout: float | None = TIMEOUT, **start: Any) -> Consumer:  # noqa: ANN401  # the fields of ConsumeStart
        """Start to consume a queue."""
        consumer = Consumer(self.channel, timeout, self._metadata)
        consumer.say(start=pb.ConsumeStart(queue_id=queue, **start), credit=credit)
        return consumer

    def watch(self, selector: str = "", *, counts_apart: bool = False, timeout: float | None = TIMEOUT) -> Watch:
        """Start to watch queues."""
        request = pb.WatchQueuesRequest(selector=selector, counts_apart=counts_apart).SerializeToString()
        return Watch(self.stream("WatchQueues", request, timeout=timeout))


class Watch:
    """A watch stream, batch by batch."""

    def __init__(self, call: Stream) -> None:
        self._call = call

    def __iter__(self) -> Iterator[pb.WatchQueuesResponse]:
        return self

    def __next__(self) -> pb.WatchQueuesResponse:
        try:
            return pb.WatchQueuesResponse.FromString(next(self._call))
        except grpc.RpcError as error:
            raise refusal(error) from None

    def snapshot(self) -> list[pb.WatchQueuesResponse]:
        """Return the batches up to the one that completes the snapshot."""
        batches: list[pb.WatchQueuesResponse] = []
        while not (batches and batches[-1].snapshot_complete):
            batches.append(next(self))
        return batches

    def until(self, seen: Callable[[pb.WatchQueuesResponse], bool]) -> list[pb.WatchQueuesResponse]:
        """Return batches up to the first that `seen` accepts."""
        batches: list[pb.WatchQueuesResponse] = []
        while not (batches and seen(batches[-1])):
            batches.append(next(self))
        return batches

    def cancel(self) -> None:
        """End it."""
        self._call.cancel()


class Consumer:
    """A Consume stream, and its responses so far."""

    def __init__(self, channel: grpc.Channel, timeout: float | None = TIMEOUT, metadata: Metadata = ()) -> None:
        """Open it, without sending a request."""
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        make = cast("Any", channel.stream_stream)(_path("Consume"))
        self._call = make(iter(self._requests.get, None), timeout=timeout, metadata=metadata)
        self.deliveries: list[pb.Delivery] = []
        self.settled: list[int] = []
        self.refused: dict[int, pb.Error] = {}
        self.holder_token = 0
        self.durability = pb.DURABILITY_UNSPECIFIED
        self.batches: list[int] = []
        """How many messages each response with messages had."""
        self.empty = 0
        """How many responses were empty."""
        self.heartbeat = 0.0
        """The heartbeat that the server announced, in seconds."""

    @property
    def payloads(self) -> list[bytes]:
        """The payloads of all received messages."""
        return [delivery.message.payload for delivery in self.deliveries]

    @property
    def tokens(self) -> list[int]:
        """The tokens of all received messages."""
        return [delivery.token for delivery in self.deliveries]

    def say(self, **fields: Any) -> None:  # noqa: ANN401  # the fields of ConsumeRequest
        """Send a request."""
        self.say_bytes(pb.ConsumeRequest(**fields).SerializeToString())

    def say_bytes(self, request: bytes) -> None:
        """Send a request."""
        self._requests.put(request)

    def until(self, holds: Callable[[Consumer], object]) -> None:
        """Read until a condition holds.

        Raises Refused if the stream is refused before, or EOFError if it ends with OK.
        """
        while not holds(self):
            self._read()

    def take(self, count: int) -> list[pb.Delivery]:
        """Read until this many messages have arrived in all."""
        self.until(lambda so_far: len(so_far.deliveries) >= count)
        return self.deliveries

    def close(self) -> None:
        """Half-close the stream: no more requests."""
        self._requests.put(None)

    def cancel(self) -> None:
        """End it."""
        self._call.cancel()
        self.close()

    def end(self) -> Refused | None:
        """Read to the end, and return how it was refused, None for OK."""
        try:
            while True:
                self._read()
        except EOFError:
            return None
        except Refused as refused:
            return refused
        finally:
            self.close()

    def _read(self) -> None:
        try:
            data = next(self._call)
        except StopIteration:
            raise EOFError from None
        except grpc.RpcError as error:
            raise refusal(error) from None
        response = pb.ConsumeResponse.FromString(data)
        self.empty += not data
        self.heartbeat = response.heartbeat.ToNanoseconds() / 1e9 or self.heartbeat
        if response.deliveries:
            self.batches.append(len(response.deliveries))
        self.deliveries += response.deliveries
        self.settled += response.settled
        self.refused |= {refused.token: refused.error for refused in response.refused}
        self.holder_token = response.holder_token or self.holder_token
        self.durability = response.durability or self.durability


def reasons(results: Iterable[pb.LeaseResult]) -> list[str]:
    """Return the reason of each refusal, empty for success."""
    return [result.error.reason for result in results]


def read_all(stream: Stream) -> list[bytes]:
    """Read a stream to its end. Raises Refused."""
    try:
        return list(stream)
    except grpc.RpcError as error:
        raise refusal(error) from None


def outcome(pending: Pending, response: type[Response], timeout: float = 30.0) -> Response | Refused:
    """Return how a started call ends."""
    try:
        return response.FromString(pending.result(patient(timeout)))
    except grpc.RpcError as error:
        return refusal(error)
    except grpc.FutureCancelledError:
        return Refused(grpc.StatusCode.CANCELLED, "cancelled here")


def refusal(error: grpc.RpcError) -> Refused:
    """Return a status, ErrorInfo included."""
    call = cast("grpc.Call", error)
    trailing = cast("Iterable[tuple[str, bytes]]", call.trailing_metadata() or ())
    refused = Refused(call.code(), call.details() or "")
    for key, value in trailing:
        if key == "grpc-status-details-bin":
            info = ErrorInfo()
            status = Status.FromString(value)
            assert status.message == refused.text
            assert status.code == cast("Any", refused.code.value)[0]
            assert status.details[0].Unpack(info)
            refused.reason, refused.facts = info.reason, dict(info.metadata)
    return refused


def add_batch_request(queue: str, messages: Iterable[tuple[str, bytes]]) -> pb.AddBatchRequest:
    """Return a request to add messages under their producer's IDs."""
    return pb.AddBatchRequest(
        queue_id=queue, messages=[pb.NewMessage(id=message_id, payload=payload) for message_id, payload in messages]
    )


def add_request(
    queue: str, payload: bytes = b"", *, tags: Iterable[tuple[str, str]] = (), wait: bool = False
) -> pb.AddRequest:
    """Return a request to add one message."""
    return pb.AddRequest(queue_id=queue, message=pb.NewMessage(payload=payload, tags=tags_to_pb(tags)), wait=wait)


def pop_request(queue: str, wait: float) -> pb.PopRequest:
    """Return a request to pop a message, waiting for it up to this many seconds."""
    request = pb.PopRequest(queue_id=queue)
    request.wait.FromNanoseconds(int(wait * 1e9))
    return request


def tags_to_pb(tags: Iterable[tuple[str, str]]) -> list[pb.Tag]:
    """Return tags as generated classes."""
    return [pb.Tag(key=key, value=value) for key, value in tags]


def unique_name(prefix: str = "q") -> str:
    """Return a unique name."""
    return f"{prefix}-{uuid4().hex[:12]}"


def eventually(holds: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Return once a condition holds that no event reports; raise after `timeout` seconds of a quiet machine."""
    timeout = patient(timeout)
    end = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not in {timeout:.0f} s: {what}")
        time.sleep(0.005)


def _path(path: str) -> str:
    return f"/{path}" if "/" in path else f"/{SERVICE}/{path}"

import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_MEMORY: _ClassVar[Durability]
    DURABILITY_DISK: _ClassVar[Durability]
    DURABILITY_REPLICATED: _ClassVar[Durability]

class DeathReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEATH_REASON_UNSPECIFIED: _ClassVar[DeathReason]
    DEATH_REASON_MAX_DELIVERIES: _ClassVar[DeathReason]
    DEATH_REASON_EXPIRED: _ClassVar[DeathReason]
    DEATH_REASON_REJECTED: _ClassVar[DeathReason]

class MessageState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MESSAGE_STATE_UNSPECIFIED: _ClassVar[MessageState]
    MESSAGE_STATE_READY: _ClassVar[MessageState]
    MESSAGE_STATE_DELAYED: _ClassVar[MessageState]
    MESSAGE_STATE_LEASED: _ClassVar[MessageState]
    MESSAGE_STATE_DEAD: _ClassVar[MessageState]
DURABILITY_UNSPECIFIED: Durability
DURABILITY_MEMORY: Durability
DURABILITY_DISK: Durability
DURABILITY_REPLICATED: Durability
DEATH_REASON_UNSPECIFIED: DeathReason
DEATH_REASON_MAX_DELIVERIES: DeathReason
DEATH_REASON_EXPIRED: DeathReason
DEATH_REASON_REJECTED: DeathReason
MESSAGE_STATE_UNSPECIFIED: MessageState
MESSAGE_STATE_READY: MessageState
MESSAGE_STATE_DELAYED: MessageState
MESSAGE_STATE_LEASED: MessageState
MESSAGE_STATE_DEAD: MessageState

class NewQueueRequest(_message.Message):
    __slots__ = ("store", "limit", "tags", "name", "delivery")
    STORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    store: Queue.Store
    limit: int
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    name: str
    delivery: DeliverySettings
    def __init__(self, store: _Optional[_Union[Queue.Store, str]] = ..., limit: _Optional[int] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., name: _Optional[str] = ..., delivery: _Optional[_Union[DeliverySettings, _Mapping]] = ...) -> None: ...

class NewQueueResponse(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ...) -> None: ...

class GetQueueRequest(_message.Message):
    __slots__ = ("queue_id",)
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    def __init__(self, queue_id: _Optional[str] = ...) -> None: ...

class GetQueueResponse(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "selector")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    selector: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., selector: _Optional[str] = ...) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues", "next_page_token")
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    next_page_token: str
    def __init__(self, queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteQueueRequest(_message.Message):
    __slots__ = ("queue_id",)
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    def __init__(self, queue_id: _Optional[str] = ...) -> None: ...

class DeleteQueueResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddQueueTagRequest(_message.Message):
    __slots__ = ("queue_id", "tag")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    tag: Tag
    def __init__(self, queue_id: _Optional[str] = ..., tag: _Optional[_Union[Tag, _Mapping]] = ...) -> None: ...

class AddQueueTagResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteQueueTagRequest(_message.Message):
    __slots__ = ("queue_id", "tag")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    tag: Tag
    def __init__(self, queue_id: _Optional[str] = ..., tag: _Optional[_Union[Tag, _Mapping]] = ...) -> None: ...

class DeleteQueueTagResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddRequest(_message.Message):
    __slots__ = ("queue_id", "message", "wait")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    message: NewMessage
    wait: bool
    def __init__(self, queue_id: _Optional[str] = ..., message: _Optional[_Union[NewMessage, _Mapping]] = ..., wait: _Optional[bool] = ...) -> None: ...

class AddResponse(_message.Message):
    __slots__ = ("message", "duplicate", "durability")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    message: Message
    duplicate: bool
    durability: Durability
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., duplicate: _Optional[bool] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class PopRequest(_message.Message):
    __slots__ = ("queue_id", "wait", "request_id")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    wait: _duration_pb2.Duration
    request_id: str
    def __init__(self, queue_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PopResponse(_message.Message):
    __slots__ = ("message", "durability")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    message: Message
    durability: Durability
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class PeekRequest(_message.Message):
    __slots__ = ("queue_id",)
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    def __init__(self, queue_id: _Optional[str] = ...) -> None: ...

class PeekResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: Message
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ...) -> None: ...

class AddBatchRequest(_message.Message):
    __slots__ = ("queue_id", "messages", "wait", "request_id", "settled_request_id", "wait_at_most")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SETTLED_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_AT_MOST_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    messages: _containers.RepeatedCompositeFieldContainer[NewMessage]
    wait: bool
    request_id: str
    settled_request_id: str
    wait_at_most: _duration_pb2.Duration
    def __init__(self, queue_id: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[NewMessage, _Mapping]]] = ..., wait: _Optional[bool] = ..., request_id: _Optional[str] = ..., settled_request_id: _Optional[str] = ..., wait_at_most: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AddBatchResponse(_message.Message):
    __slots__ = ("results", "durability")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AddResult]
    durability: Durability
    def __init__(self, results: _Optional[_Iterable[_Union[AddResult, _Mapping]]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class AddResult(_message.Message):
    __slots__ = ("id", "duplicate", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    duplicate: bool
    error: Error
    def __init__(self, id: _Optional[str] = ..., duplicate: _Optional[bool] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class PopBatchRequest(_message.Message):
    __slots__ = ("queue_id", "wait", "max", "request_id")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    wait: _duration_pb2.Duration
    max: int
    request_id: str
    def __init__(self, queue_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class PopBatchResponse(_message.Message):
    __slots__ = ("messages", "durability")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    durability: Durability
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class ReceiveRequest(_message.Message):
    __slots__ = ("queue_id", "wait", "max", "lease", "request_id", "consumer")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    wait: _duration_pb2.Duration
    max: int
    lease: _duration_pb2.Duration
    request_id: str
    consumer: str
    def __init__(self, queue_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max: _Optional[int] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ..., consumer: _Optional[str] = ...) -> None: ...

class ReceiveResponse(_message.Message):
    __slots__ = ("deliveries",)
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("message", "token", "deadline", "count")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    message: Message
    token: int
    deadline: _timestamp_pb2.Timestamp
    count: int
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., token: _Optional[int] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class AckRequest(_message.Message):
    __slots__ = ("queue_id", "tokens")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, queue_id: _Optional[str] = ..., tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class AckResponse(_message.Message):
    __slots__ = ("results", "durability")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[LeaseResult]
    durability: Durability
    def __init__(self, results: _Optional[_Iterable[_Union[LeaseResult, _Mapping]]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class LeaseResult(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: Error
    def __init__(self, error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class NackRequest(_message.Message):
    __slots__ = ("queue_id", "tokens", "delay", "reason", "dead", "unused")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    UNUSED_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    tokens: _containers.RepeatedScalarFieldContainer[int]
    delay: _duration_pb2.Duration
    reason: str
    dead: bool
    unused: bool
    def __init__(self, queue_id: _Optional[str] = ..., tokens: _Optional[_Iterable[int]] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[str] = ..., dead: _Optional[bool] = ..., unused: _Optional[bool] = ...) -> None: ...

class NackResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[LeaseResult]
    def __init__(self, results: _Optional[_Iterable[_Union[LeaseResult, _Mapping]]] = ...) -> None: ...

class ExtendRequest(_message.Message):
    __slots__ = ("queue_id", "tokens", "lease")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    tokens: _containers.RepeatedScalarFieldContainer[int]
    lease: _duration_pb2.Duration
    def __init__(self, queue_id: _Optional[str] = ..., tokens: _Optional[_Iterable[int]] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ExtendResponse(_message.Message):
    __slots__ = ("results", "deadline")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[LeaseResult]
    deadline: _timestamp_pb2.Timestamp
    def __init__(self, results: _Optional[_Iterable[_Union[LeaseResult, _Mapping]]] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ConsumeRequest(_message.Message):
    __slots__ = ("start", "credit", "ack", "nack", "extend", "revoke", "received")
    START_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    start: ConsumeStart
    credit: int
    ack: _containers.RepeatedScalarFieldContainer[int]
    nack: _containers.RepeatedCompositeFieldContainer[ConsumeNack]
    extend: _containers.RepeatedScalarFieldContainer[int]
    revoke: bool
    received: int
    def __init__(self, start: _Optional[_Union[ConsumeStart, _Mapping]] = ..., credit: _Optional[int] = ..., ack: _Optional[_Iterable[int]] = ..., nack: _Optional[_Iterable[_Union[ConsumeNack, _Mapping]]] = ..., extend: _Optional[_Iterable[int]] = ..., revoke: _Optional[bool] = ..., received: _Optional[int] = ...) -> None: ...

class ConsumeStart(_message.Message):
    __slots__ = ("queue_id", "lease", "max", "consumer", "exclusive", "concurrency", "heartbeat", "max_bytes")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    lease: _duration_pb2.Duration
    max: int
    consumer: str
    exclusive: bool
    concurrency: int
    heartbeat: _duration_pb2.Duration
    max_bytes: int
    def __init__(self, queue_id: _Optional[str] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max: _Optional[int] = ..., consumer: _Optional[str] = ..., exclusive: _Optional[bool] = ..., concurrency: _Optional[int] = ..., heartbeat: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class ConsumeNack(_message.Message):
    __slots__ = ("token", "delay", "reason", "dead", "unused")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    UNUSED_FIELD_NUMBER: _ClassVar[int]
    token: int
    delay: _duration_pb2.Duration
    reason: str
    dead: bool
    unused: bool
    def __init__(self, token: _Optional[int] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[str] = ..., dead: _Optional[bool] = ..., unused: _Optional[bool] = ...) -> None: ...

class ConsumeResponse(_message.Message):
    __slots__ = ("deliveries", "settled", "refused", "holder_token", "durability", "heartbeat")
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    HOLDER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    settled: _containers.RepeatedScalarFieldContainer[int]
    refused: _containers.RepeatedCompositeFieldContainer[ConsumeRefusal]
    holder_token: int
    durability: Durability
    heartbeat: _duration_pb2.Duration
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., settled: _Optional[_Iterable[int]] = ..., refused: _Optional[_Iterable[_Union[ConsumeRefusal, _Mapping]]] = ..., holder_token: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ..., heartbeat: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ConsumeRefusal(_message.Message):
    __slots__ = ("token", "error")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    token: int
    error: Error
    def __init__(self, token: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class RedriveRequest(_message.Message):
    __slots__ = ("queue_id", "ids", "selector", "all", "rate", "dry_run")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    selector: str
    all: bool
    rate: int
    dry_run: bool
    def __init__(self, queue_id: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., selector: _Optional[str] = ..., all: _Optional[bool] = ..., rate: _Optional[int] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class RedriveResponse(_message.Message):
    __slots__ = ("redriven", "remaining")
    REDRIVEN_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    redriven: int
    remaining: int
    def __init__(self, redriven: _Optional[int] = ..., remaining: _Optional[int] = ...) -> None: ...

class PeekBatchRequest(_message.Message):
    __slots__ = ("queue_id", "max")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    max: int
    def __init__(self, queue_id: _Optional[str] = ..., max: _Optional[int] = ...) -> None: ...

class PeekBatchResponse(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class BrowseRequest(_message.Message):
    __slots__ = ("queue_id", "states", "selector", "page_size", "page_token", "payload_bytes", "ids", "contains", "descending")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    CONTAINS_FIELD_NUMBER: _ClassVar[int]
    DESCENDING_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    states: _containers.RepeatedScalarFieldContainer[MessageState]
    selector: str
    page_size: int
    page_token: str
    payload_bytes: int
    ids: _containers.RepeatedScalarFieldContainer[str]
    contains: str
    descending: bool
    def __init__(self, queue_id: _Optional[str] = ..., states: _Optional[_Iterable[_Union[MessageState, str]]] = ..., selector: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., ids: _Optional[_Iterable[str]] = ..., contains: _Optional[str] = ..., descending: _Optional[bool] = ...) -> None: ...

class BrowseResponse(_message.Message):
    __slots__ = ("messages", "next_page_token")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[BrowsedMessage]
    next_page_token: str
    def __init__(self, messages: _Optional[_Iterable[_Union[BrowsedMessage, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class BrowsedMessage(_message.Message):
    __slots__ = ("message", "state", "count", "until", "consumer", "reason", "died", "tries", "payload_size")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DIED_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    message: Message
    state: MessageState
    count: int
    until: _timestamp_pb2.Timestamp
    consumer: str
    reason: DeathReason
    died: _timestamp_pb2.Timestamp
    tries: _containers.RepeatedCompositeFieldContainer[Try]
    payload_size: int
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., state: _Optional[_Union[MessageState, str]] = ..., count: _Optional[int] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., consumer: _Optional[str] = ..., reason: _Optional[_Union[DeathReason, str]] = ..., died: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tries: _Optional[_Iterable[_Union[Try, _Mapping]]] = ..., payload_size: _Optional[int] = ...) -> None: ...

class Try(_message.Message):
    __slots__ = ("outcome", "began", "ended", "consumer", "reason", "token")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Try.Outcome]
        OUTCOME_NACKED: _ClassVar[Try.Outcome]
        OUTCOME_LEASE_EXPIRED: _ClassVar[Try.Outcome]
        OUTCOME_RELEASED: _ClassVar[Try.Outcome]
    OUTCOME_UNSPECIFIED: Try.Outcome
    OUTCOME_NACKED: Try.Outcome
    OUTCOME_LEASE_EXPIRED: Try.Outcome
    OUTCOME_RELEASED: Try.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    BEGAN_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    outcome: Try.Outcome
    began: _timestamp_pb2.Timestamp
    ended: _timestamp_pb2.Timestamp
    consumer: str
    reason: str
    token: int
    def __init__(self, outcome: _Optional[_Union[Try.Outcome, str]] = ..., began: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., consumer: _Optional[str] = ..., reason: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class PurgeRequest(_message.Message):
    __slots__ = ("queue_id", "ids", "selector", "all", "states", "dry_run")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    selector: str
    all: bool
    states: _containers.RepeatedScalarFieldContainer[MessageState]
    dry_run: bool
    def __init__(self, queue_id: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., selector: _Optional[str] = ..., all: _Optional[bool] = ..., states: _Optional[_Iterable[_Union[MessageState, str]]] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class PurgeResponse(_message.Message):
    __slots__ = ("purged",)
    PURGED_FIELD_NUMBER: _ClassVar[int]
    purged: int
    def __init__(self, purged: _Optional[int] = ...) -> None: ...

class DeclareQueuesRequest(_message.Message):
    __slots__ = ("queues",)
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[QueueDeclaration]
    def __init__(self, queues: _Optional[_Iterable[_Union[QueueDeclaration, _Mapping]]] = ...) -> None: ...

class QueueDeclaration(_message.Message):
    __slots__ = ("name", "id", "store", "limit", "tags", "owner", "adopt", "delivery", "draining")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ADOPT_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    store: Queue.Store
    limit: int
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    owner: Owner
    adopt: bool
    delivery: DeliverySettings
    draining: bool
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., store: _Optional[_Union[Queue.Store, str]] = ..., limit: _Optional[int] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., owner: _Optional[_Union[Owner, _Mapping]] = ..., adopt: _Optional[bool] = ..., delivery: _Optional[_Union[DeliverySettings, _Mapping]] = ..., draining: _Optional[bool] = ...) -> None: ...

class DeclareQueuesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[DeclareResult]
    def __init__(self, results: _Optional[_Iterable[_Union[DeclareResult, _Mapping]]] = ...) -> None: ...

class DeclareResult(_message.Message):
    __slots__ = ("outcome", "queue", "previous_owner", "error")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[DeclareResult.Outcome]
        OUTCOME_CREATED: _ClassVar[DeclareResult.Outcome]
        OUTCOME_UPDATED: _ClassVar[DeclareResult.Outcome]
        OUTCOME_UNCHANGED: _ClassVar[DeclareResult.Outcome]
        OUTCOME_REFUSED: _ClassVar[DeclareResult.Outcome]
    OUTCOME_UNSPECIFIED: DeclareResult.Outcome
    OUTCOME_CREATED: DeclareResult.Outcome
    OUTCOME_UPDATED: DeclareResult.Outcome
    OUTCOME_UNCHANGED: DeclareResult.Outcome
    OUTCOME_REFUSED: DeclareResult.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_OWNER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    outcome: DeclareResult.Outcome
    queue: Queue
    previous_owner: Owner
    error: Error
    def __init__(self, outcome: _Optional[_Union[DeclareResult.Outcome, str]] = ..., queue: _Optional[_Union[Queue, _Mapping]] = ..., previous_owner: _Optional[_Union[Owner, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class RemoveQueuesRequest(_message.Message):
    __slots__ = ("queues",)
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[QueueRemoval]
    def __init__(self, queues: _Optional[_Iterable[_Union[QueueRemoval, _Mapping]]] = ...) -> None: ...

class QueueRemoval(_message.Message):
    __slots__ = ("queue_id", "owner")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    owner: Owner
    def __init__(self, queue_id: _Optional[str] = ..., owner: _Optional[_Union[Owner, _Mapping]] = ...) -> None: ...

class RemoveQueuesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RemoveResult]
    def __init__(self, results: _Optional[_Iterable[_Union[RemoveResult, _Mapping]]] = ...) -> None: ...

class RemoveResult(_message.Message):
    __slots__ = ("outcome", "dropped", "error")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[RemoveResult.Outcome]
        OUTCOME_REMOVED: _ClassVar[RemoveResult.Outcome]
        OUTCOME_ABSENT: _ClassVar[RemoveResult.Outcome]
        OUTCOME_REFUSED: _ClassVar[RemoveResult.Outcome]
    OUTCOME_UNSPECIFIED: RemoveResult.Outcome
    OUTCOME_REMOVED: RemoveResult.Outcome
    OUTCOME_ABSENT: RemoveResult.Outcome
    OUTCOME_REFUSED: RemoveResult.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    outcome: RemoveResult.Outcome
    dropped: MessageCounts
    error: Error
    def __init__(self, outcome: _Optional[_Union[RemoveResult.Outcome, str]] = ..., dropped: _Optional[_Union[MessageCounts, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class WatchQueuesRequest(_message.Message):
    __slots__ = ("selector", "counts_apart")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    COUNTS_APART_FIELD_NUMBER: _ClassVar[int]
    selector: str
    counts_apart: bool
    def __init__(self, selector: _Optional[str] = ..., counts_apart: _Optional[bool] = ...) -> None: ...

class WatchQueuesResponse(_message.Message):
    __slots__ = ("stores", "queues", "removed", "snapshot_complete", "counts")
    STORES_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    stores: _containers.RepeatedCompositeFieldContainer[StoreEpoch]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    removed: _containers.RepeatedCompositeFieldContainer[RemovedQueue]
    snapshot_complete: bool
    counts: _containers.RepeatedCompositeFieldContainer[QueueCounts]
    def __init__(self, stores: _Optional[_Iterable[_Union[StoreEpoch, _Mapping]]] = ..., queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[RemovedQueue, _Mapping]]] = ..., snapshot_complete: _Optional[bool] = ..., counts: _Optional[_Iterable[_Union[QueueCounts, _Mapping]]] = ...) -> None: ...

class QueueCounts(_message.Message):
    __slots__ = ("id", "messages", "enqueued", "consumed", "acked", "oldest_ready")
    ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ENQUEUED_FIELD_NUMBER: _ClassVar[int]
    CONSUMED_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    OLDEST_READY_FIELD_NUMBER: _ClassVar[int]
    id: str
    messages: MessageCounts
    enqueued: int
    consumed: int
    acked: int
    oldest_ready: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., messages: _Optional[_Union[MessageCounts, _Mapping]] = ..., enqueued: _Optional[int] = ..., consumed: _Optional[int] = ..., acked: _Optional[int] = ..., oldest_ready: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StoreEpoch(_message.Message):
    __slots__ = ("store", "epoch", "problem", "reason", "durability")
    STORE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    store: Queue.Store
    epoch: str
    problem: str
    reason: str
    durability: Durability
    def __init__(self, store: _Optional[_Union[Queue.Store, str]] = ..., epoch: _Optional[str] = ..., problem: _Optional[str] = ..., reason: _Optional[str] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class RemovedQueue(_message.Message):
    __slots__ = ("id", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ListConsumersRequest(_message.Message):
    __slots__ = ("queue_id",)
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    def __init__(self, queue_id: _Optional[str] = ...) -> None: ...

class ListConsumersResponse(_message.Message):
    __slots__ = ("consumers", "waiting_for_message", "waiting_for_space", "other_leases")
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_SPACE_FIELD_NUMBER: _ClassVar[int]
    OTHER_LEASES_FIELD_NUMBER: _ClassVar[int]
    consumers: _containers.RepeatedCompositeFieldContainer[Consumer]
    waiting_for_message: int
    waiting_for_space: int
    other_leases: int
    def __init__(self, consumers: _Optional[_Iterable[_Union[Consumer, _Mapping]]] = ..., waiting_for_message: _Optional[int] = ..., waiting_for_space: _Optional[int] = ..., other_leases: _Optional[int] = ...) -> None: ...

class Consumer(_message.Message):
    __slots__ = ("kind", "name", "peer", "since", "exclusive", "holds_queue", "credit", "leases", "last_settled", "next_deadline")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Consumer.Kind]
        KIND_STREAM: _ClassVar[Consumer.Kind]
        KIND_RECEIVE: _ClassVar[Consumer.Kind]
    KIND_UNSPECIFIED: Consumer.Kind
    KIND_STREAM: Consumer.Kind
    KIND_RECEIVE: Consumer.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    HOLDS_QUEUE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LAST_SETTLED_FIELD_NUMBER: _ClassVar[int]
    NEXT_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    kind: Consumer.Kind
    name: str
    peer: str
    since: _timestamp_pb2.Timestamp
    exclusive: bool
    holds_queue: bool
    credit: int
    leases: int
    last_settled: _timestamp_pb2.Timestamp
    next_deadline: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[_Union[Consumer.Kind, str]] = ..., name: _Optional[str] = ..., peer: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., exclusive: _Optional[bool] = ..., holds_queue: _Optional[bool] = ..., credit: _Optional[int] = ..., leases: _Optional[int] = ..., last_settled: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TailRequest(_message.Message):
    __slots__ = ("queue_id", "selector", "payload_bytes", "per_second")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    selector: str
    payload_bytes: int
    per_second: int
    def __init__(self, queue_id: _Optional[str] = ..., selector: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., per_second: _Optional[int] = ...) -> None: ...

class TailResponse(_message.Message):
    __slots__ = ("events", "skipped")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[TailEvent]
    skipped: int
    def __init__(self, events: _Optional[_Iterable[_Union[TailEvent, _Mapping]]] = ..., skipped: _Optional[int] = ...) -> None: ...

class TailEvent(_message.Message):
    __slots__ = ("kind", "time", "message", "payload_size", "consumer", "held")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[TailEvent.Kind]
        KIND_ADDED: _ClassVar[TailEvent.Kind]
        KIND_LEASED: _ClassVar[TailEvent.Kind]
        KIND_POPPED: _ClassVar[TailEvent.Kind]
        KIND_ACKED: _ClassVar[TailEvent.Kind]
        KIND_RETURNED: _ClassVar[TailEvent.Kind]
        KIND_DIED: _ClassVar[TailEvent.Kind]
        KIND_REDRIVEN: _ClassVar[TailEvent.Kind]
        KIND_PURGED: _ClassVar[TailEvent.Kind]
    KIND_UNSPECIFIED: TailEvent.Kind
    KIND_ADDED: TailEvent.Kind
    KIND_LEASED: TailEvent.Kind
    KIND_POPPED: TailEvent.Kind
    KIND_ACKED: TailEvent.Kind
    KIND_RETURNED: TailEvent.Kind
    KIND_DIED: TailEvent.Kind
    KIND_REDRIVEN: TailEvent.Kind
    KIND_PURGED: TailEvent.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    kind: TailEvent.Kind
    time: _timestamp_pb2.Timestamp
    message: Message
    payload_size: int
    consumer: str
    held: _duration_pb2.Duration
    def __init__(self, kind: _Optional[_Union[TailEvent.Kind, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., payload_size: _Optional[int] = ..., consumer: _Optional[str] = ..., held: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetHistoryRequest(_message.Message):
    __slots__ = ("queue_id", "after", "max_points")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    MAX_POINTS_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    after: _timestamp_pb2.Timestamp
    max_points: int
    def __init__(self, queue_id: _Optional[str] = ..., after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., max_points: _Optional[int] = ...) -> None: ...

class GetHistoryResponse(_message.Message):
    __slots__ = ("points", "since")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[HistoryPoint]
    since: _timestamp_pb2.Timestamp
    def __init__(self, points: _Optional[_Iterable[_Union[HistoryPoint, _Mapping]]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class HistoryPoint(_message.Message):
    __slots__ = ("time", "messages", "enqueued", "removed")
    TIME_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ENQUEUED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    messages: MessageCounts
    enqueued: int
    removed: int
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., messages: _Optional[_Union[MessageCounts, _Mapping]] = ..., enqueued: _Optional[int] = ..., removed: _Optional[int] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("queue_id",)
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    def __init__(self, queue_id: _Optional[str] = ...) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("server", "queue")
    SERVER_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    server: ServerStats
    queue: QueueStats
    def __init__(self, server: _Optional[_Union[ServerStats, _Mapping]] = ..., queue: _Optional[_Union[QueueStats, _Mapping]] = ...) -> None: ...

class ServerStats(_message.Message):
    __slots__ = ("version", "started", "stores", "queues", "messages", "memory_bytes", "memory_watermark_bytes", "servers", "shards")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_WATERMARK_BYTES_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    version: str
    started: _timestamp_pb2.Timestamp
    stores: _containers.RepeatedCompositeFieldContainer[StoreEpoch]
    queues: int
    messages: MessageCounts
    memory_bytes: int
    memory_watermark_bytes: int
    servers: _containers.RepeatedCompositeFieldContainer[ServerEntry]
    shards: _containers.RepeatedCompositeFieldContainer[ShardEntry]
    def __init__(self, version: _Optional[str] = ..., started: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stores: _Optional[_Iterable[_Union[StoreEpoch, _Mapping]]] = ..., queues: _Optional[int] = ..., messages: _Optional[_Union[MessageCounts, _Mapping]] = ..., memory_bytes: _Optional[int] = ..., memory_watermark_bytes: _Optional[int] = ..., servers: _Optional[_Iterable[_Union[ServerEntry, _Mapping]]] = ..., shards: _Optional[_Iterable[_Union[ShardEntry, _Mapping]]] = ...) -> None: ...

class ServerEntry(_message.Message):
    __slots__ = ("address", "shards", "is_here")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    IS_HERE_FIELD_NUMBER: _ClassVar[int]
    address: str
    shards: _containers.RepeatedScalarFieldContainer[int]
    is_here: bool
    def __init__(self, address: _Optional[str] = ..., shards: _Optional[_Iterable[int]] = ..., is_here: _Optional[bool] = ...) -> None: ...

class ShardEntry(_message.Message):
    __slots__ = ("shard", "owner", "epoch")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    shard: int
    owner: str
    epoch: int
    def __init__(self, shard: _Optional[int] = ..., owner: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class QueueStats(_message.Message):
    __slots__ = ("queue", "enqueued", "consumed", "purged", "refused_full", "stored_bytes", "oldest_ready_age", "waiting_calls", "leased", "redelivered", "acked", "nacked", "released", "expired", "buried", "redriven", "damaged")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ENQUEUED_FIELD_NUMBER: _ClassVar[int]
    CONSUMED_FIELD_NUMBER: _ClassVar[int]
    PURGED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FULL_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_READY_AGE_FIELD_NUMBER: _ClassVar[int]
    WAITING_CALLS_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    NACKED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    BURIED_FIELD_NUMBER: _ClassVar[int]
    REDRIVEN_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    enqueued: int
    consumed: int
    purged: int
    refused_full: int
    stored_bytes: int
    oldest_ready_age: _duration_pb2.Duration
    waiting_calls: int
    leased: int
    redelivered: int
    acked: int
    nacked: int
    released: int
    expired: int
    buried: int
    redriven: int
    damaged: int
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ..., enqueued: _Optional[int] = ..., consumed: _Optional[int] = ..., purged: _Optional[int] = ..., refused_full: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., oldest_ready_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., waiting_calls: _Optional[int] = ..., leased: _Optional[int] = ..., redelivered: _Optional[int] = ..., acked: _Optional[int] = ..., nacked: _Optional[int] = ..., released: _Optional[int] = ..., expired: _Optional[int] = ..., buried: _Optional[int] = ..., redriven: _Optional[int] = ..., damaged: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "reason", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ("id", "created", "tags")
    ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    id: str
    created: _timestamp_pb2.Timestamp
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    def __init__(self, id: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ...) -> None: ...

class NewMessage(_message.Message):
    __slots__ = ("tags", "payload", "id", "priority", "not_before", "delay", "ttl", "past")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    PAST_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    payload: bytes
    id: str
    priority: int
    not_before: _timestamp_pb2.Timestamp
    delay: _duration_pb2.Duration
    ttl: _duration_pb2.Duration
    past: PastDeliveries
    def __init__(self, tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., payload: _Optional[bytes] = ..., id: _Optional[str] = ..., priority: _Optional[int] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., past: _Optional[_Union[PastDeliveries, _Mapping]] = ...) -> None: ...

class PastDeliveries(_message.Message):
    __slots__ = ("count", "tries", "reason", "died")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DIED_FIELD_NUMBER: _ClassVar[int]
    count: int
    tries: _containers.RepeatedCompositeFieldContainer[Try]
    reason: DeathReason
    died: _timestamp_pb2.Timestamp
    def __init__(self, count: _Optional[int] = ..., tries: _Optional[_Iterable[_Union[Try, _Mapping]]] = ..., reason: _Optional[_Union[DeathReason, str]] = ..., died: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("meta", "payload", "priority", "not_before", "ttl")
    META_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    meta: Metadata
    payload: bytes
    priority: int
    not_before: _timestamp_pb2.Timestamp
    ttl: _duration_pb2.Duration
    def __init__(self, meta: _Optional[_Union[Metadata, _Mapping]] = ..., payload: _Optional[bytes] = ..., priority: _Optional[int] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("meta", "store", "name", "limit", "owner", "delivery", "draining", "revision", "messages", "epoch")
    class Store(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[Queue.Store]
        MEMORY: _ClassVar[Queue.Store]
        DISK: _ClassVar[Queue.Store]
        BOLTDB: _ClassVar[Queue.Store]
        POSTGRES: _ClassVar[Queue.Store]
    UNKNOWN: Queue.Store
    MEMORY: Queue.Store
    DISK: Queue.Store
    BOLTDB: Queue.Store
    POSTGRES: Queue.Store
    META_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    meta: Metadata
    store: Queue.Store
    name: str
    limit: int
    owner: Owner
    delivery: DeliverySettings
    draining: bool
    revision: int
    messages: MessageCounts
    epoch: str
    def __init__(self, meta: _Optional[_Union[Metadata, _Mapping]] = ..., store: _Optional[_Union[Queue.Store, str]] = ..., name: _Optional[str] = ..., limit: _Optional[int] = ..., owner: _Optional[_Union[Owner, _Mapping]] = ..., delivery: _Optional[_Union[DeliverySettings, _Mapping]] = ..., draining: _Optional[bool] = ..., revision: _Optional[int] = ..., messages: _Optional[_Union[MessageCounts, _Mapping]] = ..., epoch: _Optional[str] = ...) -> None: ...

class MessageCounts(_message.Message):
    __slots__ = ("ready", "delayed", "leased", "dead")
    READY_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    ready: int
    delayed: int
    leased: int
    dead: int
    def __init__(self, ready: _Optional[int] = ..., delayed: _Optional[int] = ..., leased: _Optional[int] = ..., dead: _Optional[int] = ...) -> None: ...

class Owner(_message.Message):
    __slots__ = ("name", "uid", "namespace_uid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_UID_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    namespace_uid: str
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., namespace_uid: _Optional[str] = ...) -> None: ...

class DeliverySettings(_message.Message):
    __slots__ = ("lease_seconds", "max_deliveries", "message_ttl_seconds")
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    lease_seconds: int
    max_deliveries: int
    message_ttl_seconds: int
    def __init__(self, lease_seconds: _Optional[int] = ..., max_deliveries: _Optional[int] = ..., message_ttl_seconds: _Optional[int] = ...) -> None: ...

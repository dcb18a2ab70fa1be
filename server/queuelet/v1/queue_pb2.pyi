import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MessageState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MESSAGE_STATE_UNSPECIFIED: _ClassVar[MessageState]
    MESSAGE_STATE_READY: _ClassVar[MessageState]
    MESSAGE_STATE_DELAYED: _ClassVar[MessageState]
    MESSAGE_STATE_LEASED: _ClassVar[MessageState]
    MESSAGE_STATE_DEAD: _ClassVar[MessageState]
MESSAGE_STATE_UNSPECIFIED: MessageState
MESSAGE_STATE_READY: MessageState
MESSAGE_STATE_DELAYED: MessageState
MESSAGE_STATE_LEASED: MessageState
MESSAGE_STATE_DEAD: MessageState

class NewQueueRequest(_message.Message):
    __slots__ = ("store", "limit", "tags", "name")
    STORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    store: Queue.Store
    limit: int
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    name: str
    def __init__(self, store: _Optional[_Union[Queue.Store, str]] = ..., limit: _Optional[int] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., name: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("message", "duplicate")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    message: Message
    duplicate: bool
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class PopRequest(_message.Message):
    __slots__ = ("queue_id", "wait")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    wait: _duration_pb2.Duration
    def __init__(self, queue_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PopResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: Message
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("queue_id", "messages", "wait")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    messages: _containers.RepeatedCompositeFieldContainer[NewMessage]
    wait: bool
    def __init__(self, queue_id: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[NewMessage, _Mapping]]] = ..., wait: _Optional[bool] = ...) -> None: ...

class AddBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AddResult]
    def __init__(self, results: _Optional[_Iterable[_Union[AddResult, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("queue_id", "wait", "max")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    wait: _duration_pb2.Duration
    max: int
    def __init__(self, queue_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max: _Optional[int] = ...) -> None: ...

class PopBatchResponse(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("queue_id", "states", "selector", "page_size", "page_token")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    states: _containers.RepeatedScalarFieldContainer[MessageState]
    selector: str
    page_size: int
    page_token: str
    def __init__(self, queue_id: _Optional[str] = ..., states: _Optional[_Iterable[_Union[MessageState, str]]] = ..., selector: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class BrowseResponse(_message.Message):
    __slots__ = ("messages", "next_page_token")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[BrowsedMessage]
    next_page_token: str
    def __init__(self, messages: _Optional[_Iterable[_Union[BrowsedMessage, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class BrowsedMessage(_message.Message):
    __slots__ = ("message", "state")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    message: Message
    state: MessageState
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., state: _Optional[_Union[MessageState, str]] = ...) -> None: ...

class PurgeRequest(_message.Message):
    __slots__ = ("queue_id", "ids", "selector", "all")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    selector: str
    all: bool
    def __init__(self, queue_id: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., selector: _Optional[str] = ..., all: _Optional[bool] = ...) -> None: ...

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
    __slots__ = ("selector",)
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    selector: str
    def __init__(self, selector: _Optional[str] = ...) -> None: ...

class WatchQueuesResponse(_message.Message):
    __slots__ = ("stores", "queues", "removed", "snapshot_complete")
    STORES_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    stores: _containers.RepeatedCompositeFieldContainer[StoreEpoch]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    removed: _containers.RepeatedCompositeFieldContainer[RemovedQueue]
    snapshot_complete: bool
    def __init__(self, stores: _Optional[_Iterable[_Union[StoreEpoch, _Mapping]]] = ..., queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[RemovedQueue, _Mapping]]] = ..., snapshot_complete: _Optional[bool] = ...) -> None: ...

class StoreEpoch(_message.Message):
    __slots__ = ("store", "epoch")
    STORE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    store: Queue.Store
    epoch: str
    def __init__(self, store: _Optional[_Union[Queue.Store, str]] = ..., epoch: _Optional[str] = ...) -> None: ...

class RemovedQueue(_message.Message):
    __slots__ = ("id", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("version", "started", "stores", "queues", "messages", "memory_bytes", "memory_watermark_bytes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_WATERMARK_BYTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    started: _timestamp_pb2.Timestamp
    stores: _containers.RepeatedCompositeFieldContainer[StoreEpoch]
    queues: int
    messages: MessageCounts
    memory_bytes: int
    memory_watermark_bytes: int
    def __init__(self, version: _Optional[str] = ..., started: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stores: _Optional[_Iterable[_Union[StoreEpoch, _Mapping]]] = ..., queues: _Optional[int] = ..., messages: _Optional[_Union[MessageCounts, _Mapping]] = ..., memory_bytes: _Optional[int] = ..., memory_watermark_bytes: _Optional[int] = ...) -> None: ...

class QueueStats(_message.Message):
    __slots__ = ("queue", "enqueued", "consumed", "purged", "refused_full", "stored_bytes", "oldest_ready_age", "waiting_calls")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ENQUEUED_FIELD_NUMBER: _ClassVar[int]
    CONSUMED_FIELD_NUMBER: _ClassVar[int]
    PURGED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FULL_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_READY_AGE_FIELD_NUMBER: _ClassVar[int]
    WAITING_CALLS_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    enqueued: int
    consumed: int
    purged: int
    refused_full: int
    stored_bytes: int
    oldest_ready_age: _duration_pb2.Duration
    waiting_calls: int
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ..., enqueued: _Optional[int] = ..., consumed: _Optional[int] = ..., purged: _Optional[int] = ..., refused_full: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., oldest_ready_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., waiting_calls: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("tags", "payload", "id")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    payload: bytes
    id: str
    def __init__(self, tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., payload: _Optional[bytes] = ..., id: _Optional[str] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("meta", "payload")
    META_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    meta: Metadata
    payload: bytes
    def __init__(self, meta: _Optional[_Union[Metadata, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("meta", "store", "name", "limit", "owner", "delivery", "draining", "revision", "messages", "epoch")
    class Store(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[Queue.Store]
        MEMORY: _ClassVar[Queue.Store]
        DISK: _ClassVar[Queue.Store]
        BOLTDB: _ClassVar[Queue.Store]
    UNKNOWN: Queue.Store
    MEMORY: Queue.Store
    DISK: Queue.Store
    BOLTDB: Queue.Store
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
    __slots__ = ("name", "uid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ...) -> None: ...

class DeliverySettings(_message.Message):
    __slots__ = ("lease_seconds", "max_deliveries", "message_ttl_seconds")
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    lease_seconds: int
    max_deliveries: int
    message_ttl_seconds: int
    def __init__(self, lease_seconds: _Optional[int] = ..., max_deliveries: _Optional[int] = ..., message_ttl_seconds: _Optional[int] = ...) -> None: ...

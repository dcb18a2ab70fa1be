"""Requests that must be refused, as a table: the problem, the method, the bytes, the code, and the text.

The text must name the field, and the rule or the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtobufMessage
from google.protobuf.timestamp_pb2 import Timestamp

from queuelet.v1 import queue_pb2 as pb
from support.rpc import NEGZ_SERVICE, SERVICE, Rpc, unique_name
from support.wire import fixed64, integer, text

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MISSING = grpc.StatusCode.NOT_FOUND
TAKEN = grpc.StatusCode.ALREADY_EXISTS
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
REFUSED = grpc.StatusCode.FAILED_PRECONDITION

UNKNOWN_ID = str(uuid4())
MAX_BYTES = 4 * 1024 * 1024
"""The largest message that a client receives by default."""
NOT_UTF8 = b"\xff\xfe\xfd"
OWN_ID = str(uuid4())
MAX_BYTES = 4 * 1024 * 1024
"""The largest message that a client receives by default."""

STREAMS = ("Consume", "Redrive", "Tail", "WatchQueues")
"""Methods with many responses."""

NEGZ_METHODS = (
    "ListQueues",
    "NewQueue",
    "GetQueue",
    "DeleteQueue",
    "AddQueueTag",
    "DeleteQueueTag",
    "Add",
    "Pop",
    "Peek",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The queues that requests refer to."""

    queue: str
    """Unlimited and empty."""
    name: str
    """The name of `queue`."""
    full: str
    """Full: with one message and a limit of one."""
    taken: str
    """With one message, which is its limit."""
    tagged: str
    """With as many tags as a queue may have."""
    draining: str
    """A queue that is draining."""
    owned: str
    """The name of a queue that has an owner."""


def make_place(rpc: Rpc) -> Place:
    """Create the queues that requests refer to."""
    name = unique_name("place")
    queue = rpc.new_queue(name).meta.id
    full = rpc.new_queue(limit=1).meta.id
    rpc.add(full)
    taken = rpc.new_queue().meta.id
    own = pb.AddRequest(queue_id=taken, message=pb.NewMessage(id=OWN_ID, payload=b"first"))
    rpc.call("Add", own, pb.AddResponse)
    tagged = rpc.new_queue(tags=[("k", str(number)) for number in range(64)]).meta.id
    draining, owned = unique_name("draining"), unique_name("owned")
    declared = [
        pb.QueueDeclaration(name=draining, store=pb.Queue.MEMORY, limit=-1, draining=True),
        pb.QueueDeclaration(name=owned, store=pb.Queue.MEMORY, limit=-1, owner=pb.Owner(name="a/b/c", uid="1")),
    ]
    rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=declared), pb.DeclareQueuesResponse)
    return Place(queue=queue, name=name, full=full, taken=taken, tagged=tagged, draining=draining, owned=owned)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A request, and its expected refusal."""

    what: str
    method: str
    request: Callable[[Place], bytes]
    code: grpc.StatusCode
    says: str
    """A regular expression that the text of `queuelet.v1` matches from its beginning."""
    negz_says: str = ""
    """The same for `proto.Q`, if it has another text."""
    negz_code: grpc.StatusCode | None = None
    ours_only: bool = False
    """Whether to skip negz/q's service, because it has no such method or field."""

    def expected(self, service: str) -> tuple[grpc.StatusCode, str]:
        """Return the code and text of this service."""
        if service == NEGZ_SERVICE:
            return self.negz_code or self.code, self.negz_says or self.says
        return self.code, self.says

    @property
    def services(self) -> Iterator[str]:
        """The services that get the request."""
        yield SERVICE
        if self.method in NEGZ_METHODS and not self.ours_only:
            yield NEGZ_SERVICE


Request = ProtobufMessage | bytes | Callable[[Place], ProtobufMessage | bytes]


def case(
    what: str,
    method: str,
    request: Request,
    says: str,
    code: grpc.StatusCode = INVALID,
    *,
    negz: str = "",
    negz_code: grpc.StatusCode | None = None,
    ours_only: bool = False,
) -> Case:
    """Return a case whose request may depend on the place."""

    def build(place: Place) -> bytes:
        made = request(place) if callable(request) and not isinstance(request, ProtobufMessage) else request
        return made if isinstance(made, bytes) else made.SerializeToString()

    return Case(
        what=what,
        method=method,
        request=build,
        code=code,
        says=says,
        negz_says=negz,
        negz_code=negz_code,
        ours_only=ours_only,
    )


def tags(count: int) -> list[pb.Tag]:
    """Return this many tags."""
    return [pb.Tag(key=f"k{number}", value="v") for number in range(count)]


NO_KEY = [pb.Tag(value="v")]
LONG_KEY = [pb.Tag(key="k" * 257, value="v")]
LONG_KEY_IN_BYTES = [pb.Tag(key="é" * 129, value="v")]
LONG_VALUE = [pb.Tag(key="k", value="v" * 4097)]
BAD_TAGS: dict[str, tuple[list[pb.Tag], str]] = {
    "65 tags": (tags(65), "65 tags are too many; give at most 64"),
    "a tag without a key": (NO_KEY, "a tag has no key; give each tag a key"),
    "a key of 257 bytes": (LONG_KEY, "the key 'k+'... is too long; keep keys within 256 bytes"),
    "a key of 258 bytes in 129 letters": (LONG_KEY_IN_BYTES, "the key 'é+'... is too long; keep keys within 256 bytes"),
    "a value of 4,097 bytes": (LONG_VALUE, "the value of 'k' is too long; keep values within 4096 bytes"),
}

BAD_NAMES = {
    "in upper case": ("Orders", "name: 'Orders' is not a valid name; use lower-case letters, digits, '-' and '.'"),
    "with a space": ("my orders", "name: 'my orders' is not a valid name; use lower-case"),
    "with a line's end": ("orders\n", r"name: 'orders\\n' is not a valid name; use lower-case"),
    "with an underscore": ("my_orders", "name: 'my_orders' is not a valid name; use lower-case"),
    "beginning with a dash": ("-orders", "name: '-orders' is not a valid name; .*begin and end with a letter or digit"),
    "ending with a dot": ("orders.", "name: 'orders.' is not a valid name; .*begin and end with a letter or digit"),
    "in Greek": ("ουρά", "name: 'ουρά' is not a valid name; use lower-case"),
    "that looks like a UUID": (UNKNOWN_ID, "name: '.*' looks like a UUID; use a name that is not one"),
    "of 318 letters": ("a" * 318, "name: 318 characters are too many; use at most 317"),
}

UNREADABLE = {
    "an invalid UTF-8 queue_id": text(1, NOT_UTF8),
    "a queue_id cut short": b"\x0a\x24short",
    "a length without an end": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    "a group without an end": b"\x0b",
    "field number 0": b"\x02\x01a",
    "garbage": b"\xde\xad\xbe\xef" * 8,
}
UNREADABLE_SAYS = "request: .*; send a message as defined in queue.proto"

BY_ID = ("GetQueue", "DeleteQueue", "AddQueueTag", "DeleteQueueTag", "Add", "Pop", "Peek")
OUR_BY_ID = ("AddBatch", "PopBatch", "PeekBatch", "Receive", "Ack", "Nack", "Extend", "Redrive", "Browse", "Purge")

BAD_SELECTORS = {
    "a lone =": "=a",
    "an open bracket": "a in (b",
    "a set without values": "a in",
    "two commas": "a,,b",
    "a comma at the end": "a=b,",
    "a lone comma": ",",
    "a lone !": "!",
    "! before =": "!a=b",
    "two words": "a b",
    "a nested bracket": "a in (b,(c))",
}
SELECTOR_SAYS = r"selector: cannot read .*; write requirements as key=value"

BAD_TOKENS = {
    "letters": "next",
    "a negative number": "-1",
    "a fraction": "1.5",
    "Arabic digits": "٣",
    "20 digits": "9" * 20,
    "a long text": "x" * 10_000,
}
TOKEN_SAYS = "page_token: .* is not a token of this server; send a next_page_token, or leave it out for the first page"


def about(rest: bytes | ProtobufMessage, where: str = "queue") -> Callable[[Place], bytes]:
    """Return a request about a queue of the place, with other fields."""
    end = rest if isinstance(rest, bytes) else rest.SerializeToString()

    def build(place: Place) -> bytes:
        queue: str = getattr(place, where)
        return text(1, queue) + end

    return build


def adding(message: pb.NewMessage, where: str = "queue") -> Callable[[Place], bytes]:
    """Return a request to add a message."""
    return about(text(2, message.SerializeToString()), where)


def _queue_cases() -> Iterable[Case]:
    good = integer(1, 1) + integer(2, 1)
    says = r"store: there is no store {}; use MEMORY \(1\), DISK \(2\) or POSTGRES \(3\)"
    yield case("no store", "NewQueue", pb.NewQueueRequest(limit=1), says.format(0))
    yield case("an unknown store", "NewQueue", integer(1, 77) + integer(2, 1), says.format(77))
    yield case("a negative store", "NewQueue", integer(1, -1) + integer(2, 1), says.format(-1))
    yield case("the store as a text", "NewQueue", text(1, "MEMORY") + integer(2, 1), says.format(0))
    says = "store: this server runs without DISK; it needs the flag --data-dir"
    yield case("a store that is off", "NewQueue", pb.NewQueueRequest(store=pb.Queue.DISK, limit=1), says, REFUSED)
    says = "store: this server runs without POSTGRES; it needs the flag --postgres"
    yield case(
        "PostgreSQL if it is off", "NewQueue", pb.NewQueueRequest(store=pb.Queue.POSTGRES, limit=1), says, REFUSED
    )
    for limit in (0, -2, -(2**63)):
        says = f"limit: {limit} is not allowed; use 1 or more, or -1 for unlimited"
        yield case(f"limit {limit}", "NewQueue", pb.NewQueueRequest(store=pb.Queue.MEMORY, limit=limit), says)
    for what, (bad, says) in BAD_TAGS.items():
        yield case(what, "NewQueue", good + pb.NewQueueRequest(tags=bad).SerializeToString(), f"tags: {says}")
    for what, (name, says) in BAD_NAMES.items():
        yield case(f"a name {what}", "NewQueue", good + text(4, name), says, ours_only=True)
    yield case(
        "a name that is taken",
        "NewQueue",
        lambda place: good + text(4, place.name),
        "queue place-.* already exists",
        TAKEN,
        ours_only=True,
    )
    yield case("a tag in invalid UTF-8", "NewQueue", good + text(3, text(1, NOT_UTF8)), UNREADABLE_SAYS)


def _by_id_cases() -> Iterable[Case]:
    says = "queue_id: give the ID or the name of a queue"
    negz = "cannot parse ID: cannot parse ID  as a UUID: invalid UUID length: 0"
    with_id = {"AddQueueTag": text(2, text(1, "k")), "DeleteQueueTag": text(2, text(1, "k"))}
    for method in (*BY_ID, *OUR_BY_ID):
        rest = with_id.get(method, b"")
        yield case("no queue_id", method, rest, says, negz=negz)
        yield case("the queue_id as a number", method, integer(1, 5) + rest, says, negz=negz)
        yield case("the queue_id as eight bytes", method, fixed64(1) + rest, says, negz=negz)
        for what, request in UNREADABLE.items():
            yield case(what, method, request + rest, UNREADABLE_SAYS)
        if method != "DeleteQueue":
            yield from _unknown_queues(method, rest)
    yield from _unknown_queues("GetStats", b"")
    yield case("an invalid UTF-8 queue_id", "GetStats", text(1, NOT_UTF8), UNREADABLE_SAYS)


def _unknown_queues(method: str, rest: bytes) -> Iterable[Case]:
    yield case(
        "an unknown id",
        method,
        text(1, UNKNOWN_ID) + rest,
        f"there is no queue {UNKNOWN_ID}",
        MISSING,
        negz=f"cannot get queue {UNKNOWN_ID}: cannot find queue with id {UNKNOWN_ID}",
    )
    yield case(
        "an unknown name",
        method,
        text(1, "absent") + rest,
        "there is no queue absent",
        MISSING,
        negz="cannot parse ID: cannot parse ID absent as a UUID: invalid UUID length: 6",
        negz_code=INVALID,
    )
    yield case(
        "a queue_id of 1,000,000 letters",
        method,
        text(1, "x" * 1_000_000) + rest,
        r"there is no queue x{80}\.\.\.$",
        MISSING,
        negz=r"cannot parse ID: cannot parse ID x{80}\.\.\. as a UUID: invalid UUID length: 1000000$",
        negz_code=INVALID,
    )


def _tag_cases() -> Iterable[Case]:
    for method, verb in (("AddQueueTag", "add"), ("DeleteQueueTag", "delete")):
        says, negz = "tag: give a tag with a key and a value", f"did not supply a tag to {verb}"
        yield case("no tag", method, about(b""), says, negz=negz)
        yield case("the tag as a number", method, about(integer(2, 1)), says, negz=negz)
        for what, (bad, says) in BAD_TAGS.items():
            if len(bad) == 1:
                yield case(what, method, about(text(2, bad[0].SerializeToString())), f"tag: {says}")
        yield case("a tag in invalid UTF-8", method, about(text(2, text(2, NOT_UTF8))), UNREADABLE_SAYS)
    says = "tag: queue .* has 64 tags, the maximum; remove one first"
    yield case("the 65th tag", "AddQueueTag", about(text(2, text(1, "one more")), "tagged"), says)


BAD_IDS = {"no UUID": "mine", "a UUID cut short": UNKNOWN_ID[:-1], "megabytes of an id": "x" * 2_000_000}


def _message_cases() -> Iterable[Case]:
    for what, (bad, says) in BAD_TAGS.items():
        message = pb.NewMessage(tags=bad)
        yield case(what, "Add", adding(message), f"message.tags: {says}")
        batch = pb.AddBatchRequest(messages=[pb.NewMessage(), message])
        yield case(what, "AddBatch", about(batch), rf"messages.*\.tags: {says}")
    for what, own_id in BAD_IDS.items():
        says = r"{}\.id: '.{{1,80}}' is not a UUID \(invalid UUID length: \d+\)"
        message = pb.NewMessage(id=own_id)
        yield case(what, "Add", adding(message), says.format("message"), ours_only=True)
        yield case(what, "AddBatch", adding(message), says.format("messages.*"))
    yield case("a message in invalid UTF-8", "Add", about(text(2, text(1, text(1, NOT_UTF8)))), UNREADABLE_SAYS)
    yield case("a message cut short", "Add", about(b"\x12\x7fshort"), UNREADABLE_SAYS)
    yield case(
        "another message of the same id",
        "Add",
        adding(pb.NewMessage(id=OWN_ID, payload=b"second"), "taken"),
        f"message.id: {OWN_ID} is queued already, with another payload or other tags",
        TAKEN,
        ours_only=True,
    )
    yield case(
        "a full queue",
        "Add",
        about(b"", "full"),
        "queue .* is full: it holds 1 ready, 0 delayed, 0 leased, 0 dead of at most 1 messages; take some out",
        FULL,
        negz="cannot add message to queue: queue .* has reached limit of 1 messages",
    )
    says = "queue draining-.* is draining; it accepts no new messages"
    yield case("a draining queue", "Add", about(b"", "draining"), says, REFUSED, ours_only=True)


def _size_cases() -> Iterable[Case]:
    too_large = pb.NewMessage(payload=bytes(MAX_BYTES))
    says = r"takes up to [\d,]+ bytes with its metadata, more than the 4,194,304 bytes of a response; make it smaller"
    yield case("a message that fits a request but no response", "Add", adding(too_large), f"message: {says}")
    yield case("a message that fits no response", "AddBatch", adding(too_large), f"messages.*: {says}")
    both = pb.NewMessage(payload=bytes(MAX_BYTES - 500), tags=[pb.Tag(key="k", value="v" * 600)])
    yield case("tags and payload that together fit no response", "Add", adding(both), f"message: {says}")
    huge = pb.NewMessage(payload=bytes(MAX_BYTES + 1_000_000))
    yield case("a request larger than any message", "Add", adding(huge), ".*larger than max", FULL)
    says = "messages: {} in one batch; send 1 to 10,000"
    yield case("no messages", "AddBatch", about(b""), says.format(0))
    yield case("10,001 messages", "AddBatch", about(text(2, b"") * 10_001), says.format("10,001"))


def _taking_cases() -> Iterable[Case]:
    for method, verb in (("Pop", "pop message from"), ("Peek", "peek into")):
        says, negz = "queue place-.* has no message that is ready", f"cannot {verb} queue: queue .* is empty"
        yield case("an empty queue", method, about(b""), says, MISSING, negz=negz)
    for what, wait in (("seconds", Duration(seconds=-1)), ("nanoseconds", Duration(nanos=-1))):
        rest = text(2, wait.SerializeToString())
        for method in ("Pop", "PopBatch", "Receive"):
            says = "wait: negative; use 0 s or more"
            yield case(f"negative {what} to wait", method, about(rest), says, ours_only=True)
            where = f"negative {what} to wait where there is a message"
            yield case(where, method, about(rest, "full"), says, ours_only=True)
    for method, number in (("PopBatch", 3), ("PeekBatch", 2), ("Receive", 3)):
        says = "max: -5 is negative; use 1 or more, or 0 for as many as fit"
        yield case("a negative max", method, about(integer(number, -5)), says)


def _looking_cases() -> Iterable[Case]:
    says = "page_size: -1 is negative; use 1 or more, or 0 for as many as fit"
    yield case("a negative page_size", "ListQueues", integer(1, -1), says, ours_only=True)
    yield case("a negative page_size", "Browse", about(integer(4, -1)), says)
    for kind, token in BAD_TOKENS.items():
        what = f"{kind} as a page_token"
        yield case(what, "ListQueues", text(2, token), TOKEN_SAYS, ours_only=True)
        yield case(what, "Browse", about(text(5, token)), TOKEN_SAYS)
    for kind, selector in BAD_SELECTORS.items():
        what = f"{kind} in a selector"
        yield case(what, "ListQueues", text(3, selector), SELECTOR_SAYS, ours_only=True)
        yield case(what, "Browse", about(text(3, selector)), SELECTOR_SAYS)
        yield case(what, "Purge", about(text(3, selector)), SELECTOR_SAYS)
        yield case(what, "Redrive", about(text(3, selector)), SELECTOR_SAYS)
        yield case(what, "Tail", about(text(2, selector)), SELECTOR_SAYS)
        yield case(what, "WatchQueues", text(1, selector), SELECTOR_SAYS)
    yield case("a selector in invalid UTF-8", "ListQueues", text(3, NOT_UTF8), UNREADABLE_SAYS, ours_only=True)
    yield case("a selector in invalid UTF-8", "WatchQueues", text(1, NOT_UTF8), UNREADABLE_SAYS)
    yield case("garbage", "WatchQueues", UNREADABLE["garbage"], UNREADABLE_SAYS)
    for rate in (-1, 1_001):
        says = f"per_second: {rate:,} is out of range; use 1 to 1,000, or 0 for 20"
        yield case(f"{rate} events a second", "Tail", about(integer(4, rate)), says)
    for points in (-1, 10_001):
        says = f"max_points: {points:,} is out of range; use 1 to 10,000, or 0 for 360"
        yield case(f"{points} points", "GetHistory", about(integer(3, points)), says)
    for size in (-1, 65_537):
        says = f"payload_bytes: {size:,} is out of range; use 0 to 65,536, or leave it out for 256"
        yield case(f"{size} bytes of payloads", "Tail", about(integer(3, size)), says)
    for state in (0, 5, 99, -1):
        says = f"states: .*{state}.*; use 1 .* or 4"
        yield case(f"unknown state {state}", "Browse", about(integer(2, state)), says)
        yield case(f"unknown state {state}", "Purge", about(integer(4, 1) + integer(5, state)), says)
    yield from _browsing_cases()


def _browsing_cases() -> Iterable[Case]:
    says = "payload_bytes: -1 is negative; use 0 or more, or leave it out for whole payloads"
    yield case("a negative payload_bytes", "Browse", about(integer(6, -1)), says)
    says = r"ids: 'mine' is not a UUID \(invalid UUID length: 4\)"
    yield case("an id that is no UUID", "Browse", about(text(7, UNKNOWN_ID) + text(7, "mine")), says)
    says = "ids: 10,001 are too many; send at most 10,000"
    yield case("10,001 ids", "Browse", about(text(7, UNKNOWN_ID) * 10_001), says)
    says = "contains: 257 bytes are too many; use at most 256"
    yield case("a long text to find", "Browse", about(text(8, "ä" * 128 + "b")), says)
    for kind in ("d", "d-1", "dd1", "d1x", "d" + "9" * 20):
        yield case(f"{kind} as a page_token", "Browse", about(text(5, kind) + integer(9, 1)), TOKEN_SAYS)
    says = (
        "page_token: '7' continues pages with the oldest messages first; send it with the descending of its first page"
    )
    yield case("a page_token of the other order", "Browse", about(text(5, "7") + integer(9, 1)), says)
    says = "page_token: 'd7' continues pages with the newest messages first; .* or leave it out to start again"
    yield case("a page_token of descending order", "Browse", about(text(5, "d7")), says)


NOT_ONE_OF = {
    "nothing chosen": b"",
    "ids and all": text(2, UNKNOWN_ID) + integer(4, 1),
    "a selector and all": text(3, "a=b") + integer(4, 1),
    "ids and a selector": text(2, UNKNOWN_ID) + text(3, "a=b"),
    "a selector of spaces": text(3, "  "),
}


def _removing_cases() -> Iterable[Case]:
    for method in ("Purge", "Redrive"):
        for what, rest in NOT_ONE_OF.items():
            yield case(what, method, about(rest), "ids, selector, all: give exactly one of them")
        says = r"ids: 'mine' is not a UUID \(invalid UUID length: 4\)"
        yield case("an id that is no UUID", method, about(text(2, UNKNOWN_ID) + text(2, "mine")), says)
        says = "ids: 10,001 in one batch; send 1 to 10,000"
        yield case("10,001 ids", method, about(text(2, UNKNOWN_ID) * 10_001), says)
    says = "rate: -1 is negative; use 1 or more a second, or leave it out"
    yield case("a negative rate", "Redrive", about(integer(4, 1) + integer(5, -1)), says)


NEGATIVE = {"seconds": Duration(seconds=-1), "nanoseconds": Duration(nanos=-1)}
NEGATIVE_SAYS = "{}: negative; use 0 s or more"
AGES = Duration(seconds=315_360_001)
AGES_SAY = "{}: 315,360,001 s is too long; use at most 315,360,000 s"
MORE_THAN_A_SECOND = {"seconds": 1, "nanos": 1_000_000_000}
MORE_SAYS = "{}: 1,000,000,000 ns is out of range; use at most 999,999,999 ns in addition to the seconds"
FOREVER = Duration(seconds=2**62)
FOREVER_SAYS = "{}: [0-9,]+ s is too long; use at most 315,360,000 s"
BAD_LEASES = {
    "half a second": Duration(nanos=500_000_000),
    "a negative time": Duration(seconds=-1),
    "more than 12 hours": Duration(seconds=43_201),
}
LEASE_SAYS = r"{}: -?[\d,]+ s is out of range; use 1 to 43,200 s, or leave it out"
BEFORE_1970 = Timestamp(seconds=-1)
AFTER_2200 = Timestamp(seconds=7_258_118_400)
NO_TIME = Timestamp(seconds=2**62, nanos=-5)


def _past_cases() -> dict[str, tuple[pb.NewMessage, str]]:
    """Past deliveries that no message can have had."""
    too_many = [pb.Try(outcome=pb.Try.OUTCOME_NACKED)] * 21
    rejected = pb.DEATH_REASON_REJECTED
    bad = {
        "a negative number of deliveries": (pb.PastDeliveries(count=-1), "count: -1 is out of range"),
        "too many deliveries": (pb.PastDeliveries(count=2**31 - 1), "count: .*use 0 to 1,000,000"),
        "too many tries": (pb.PastDeliveries(tries=too_many), "tries: 21 are too many; send the newest 20"),
        "a try without an outcome": (pb.PastDeliveries(tries=[pb.Try()]), r"tries\[0\].outcome: 0 is not an outcome"),
        "a try before 1970": (
            pb.PastDeliveries(tries=[pb.Try(outcome=pb.Try.OUTCOME_RELEASED, began=BEFORE_1970)]),
            r"tries\[0\].began: .*use one from 1970 to 2200",
        ),
        "a try with a long reason": (
            pb.PastDeliveries(tries=[pb.Try(outcome=pb.Try.OUTCOME_NACKED, reason="x" * 1_025)]),
            r"tries\[0\].reason: 1,025 bytes are too many",
        ),
        "an unknown reason of death": (
            pb.PastDeliveries.FromString(integer(3, 9)),
            "reason: 9 is not a reason; use 1, 2 or 3",
        ),
        "a death after 2200": (pb.PastDeliveries(reason=rejected, died=AFTER_2200), "died: .*from 1970 to 2200"),
        "a death without a reason": (pb.PastDeliveries(died=Timestamp(seconds=1)), "died: given without a reason"),
    }
    return {what: (pb.NewMessage(past=past), "{}.past." + says) for what, (past, says) in bad.items()}


def _terms_cases() -> Iterable[Case]:
    bad = {
        "a delay and a time": (
            pb.NewMessage(delay=Duration(seconds=1), not_before=Timestamp(seconds=1)),
            "{}: give not_before or delay, not both",
        ),
        "a delay of ages": (pb.NewMessage(delay=AGES), AGES_SAY.format("{}.delay")),
        "a ttl of ages": (pb.NewMessage(ttl=AGES), AGES_SAY.format("{}.ttl")),
        "a ttl of nothing": (pb.NewMessage(ttl=Duration()), r"{}.ttl: 0 is not allowed; use more, or leave it out"),
        "a time before 1970": (pb.NewMessage(not_before=BEFORE_1970), "{}.not_before: .*use one from 1970 to 2200"),
        "a time that no calendar has": (pb.NewMessage(not_before=NO_TIME), "{}.not_before: .*from 1970 to 2200"),
        "a time with negative nanoseconds": (
            pb.NewMessage(not_before=Timestamp(seconds=1_900_000_000, nanos=-1)),
            "{}.not_before: .*from 1970 to 2200",
        ),
        "a time at the end of 64 bits": (
            pb.NewMessage(not_before=Timestamp(seconds=2**63 - 1, nanos=999_999_999)),
            "{}.not_before: .*from 1970 to 2200",
        ),
        "a time of too many nanoseconds": (
            pb.NewMessage(not_before=Timestamp(**MORE_THAN_A_SECOND)),
            MORE_SAYS.format("{}.not_before"),
        ),
        "a delay of too many nanoseconds": (
            pb.NewMessage(delay=Duration(**MORE_THAN_A_SECOND)),
            MORE_SAYS.format("{}.delay"),
        ),
        "a ttl of too many nanoseconds": (
            pb.NewMessage(ttl=Duration(**MORE_THAN_A_SECOND)),
            MORE_SAYS.format("{}.ttl"),
        ),
        "a delay of 64 bits": (pb.NewMessage(delay=FOREVER), FOREVER_SAYS.format("{}.delay")),
        "a time after 2200": (pb.NewMessage(not_before=AFTER_2200), "{}.not_before: .*use one from 1970 to 2200"),
        **_past_cases(),
    }
    for unit, time in NEGATIVE.items():
        bad[f"a delay of negative {unit}"] = (pb.NewMessage(delay=time), NEGATIVE_SAYS.format("{}.delay"))
        bad[f"a ttl of negative {unit}"] = (pb.NewMessage(ttl=time), NEGATIVE_SAYS.format("{}.ttl"))
    for what, (message, says) in bad.items():
        yield case(what, "Add", adding(message), says.format("message"), ours_only=True)
        batch = pb.AddBatchRequest(messages=[pb.NewMessage(), message])
        yield case(what, "AddBatch", about(batch), says.format(r"messages\[1\]"))


def _time_cases() -> Iterable[Case]:
    """Every other field with a duration, out of its range."""
    more = Duration(**MORE_THAN_A_SECOND)
    requests: dict[str, Callable[[Duration], tuple[str, ProtobufMessage]]] = {
        "Pop": lambda time: ("wait", pb.PopRequest(wait=time)),
        "PopBatch": lambda time: ("wait", pb.PopBatchRequest(wait=time)),
        "Receive": lambda time: ("wait", pb.ReceiveRequest(wait=time)),
        "AddBatch": lambda time: (
            "wait_at_most",
            pb.AddBatchRequest(messages=[pb.NewMessage()], wait=True, wait_at_most=time),
        ),
        "Nack": lambda time: ("delay", pb.NackRequest(tokens=[1], delay=time)),
    }
    for method, build in requests.items():
        field, request = build(more)
        what = f"{field} with too many nanoseconds"
        yield case(what, method, about(request), MORE_SAYS.format(field), ours_only=True)
        if method != "Nack":
            continue  # a call may wait forever
        field, request = build(FOREVER)
        yield case(f"{field} of 64 bits", method, about(request), FOREVER_SAYS.format(field), ours_only=True)
    for method, request in (
        ("Receive", pb.ReceiveRequest(lease=more)),
        ("Extend", pb.ExtendRequest(tokens=[1], lease=more)),
    ):
        what = "a lease with too many nanoseconds"
        yield case(what, method, about(request), MORE_SAYS.format("lease"))
    says = MORE_SAYS.format("start.lease")
    yield case("a lease with too many nanoseconds", "Consume", consuming(lease=more), says)
    nacks = pb.ConsumeRequest(nack=[pb.ConsumeNack(token=1, delay=more)])
    says = MORE_SAYS.format("nack.delay")
    yield case("a delay with too many nanoseconds", "Consume", consuming(nacks), says)


def _lease_cases() -> Iterable[Case]:
    for method, number in (("Pop", 3), ("PopBatch", 4), ("Receive", 5)):
        says = "request_id: {} bytes are too many; use at most 64"
        for what, request_id, size in (("65 letters", "r" * 65, 65), ("33 letters of two bytes", "é" * 33, 66)):
            yield case(
                f"a request_id of {what}", method, about(text(number, request_id)), says.format(size), ours_only=True
            )
    says = "consumer: 257 bytes are too many; use at most 256"
    yield case("a consumer of 257 letters", "Receive", about(text(6, "c" * 257)), says)
    yield case("a consumer in invalid UTF-8", "Receive", about(text(6, NOT_UTF8)), UNREADABLE_SAYS)
    for what, lease in BAD_LEASES.items():
        says = LEASE_SAYS.format("lease")
        yield case(f"a lease of {what}", "Receive", about(pb.ReceiveRequest(lease=lease)), says)
        yield case(f"a lease of {what}", "Extend", about(pb.ExtendRequest(tokens=[1], lease=lease)), says)
    for method in ("Ack", "Nack", "Extend"):
        says = "tokens: {} in one batch; send 1 to 10,000"
        yield case("no tokens", method, about(b""), says.format(0))
        yield case("10,001 tokens", method, about(text(2, bytes(8 * 10_001))), says.format("10,001"))
        yield case("tokens cut short", method, about(text(2, bytes(7))), UNREADABLE_SAYS)
    for unit, time in NEGATIVE.items():
        nack = pb.NackRequest(tokens=[1], delay=time)
        yield case(f"a delay of negative {unit}", "Nack", about(nack), NEGATIVE_SAYS.format("delay"))
    yield case("a delay of ages", "Nack", about(pb.NackRequest(tokens=[1], delay=AGES)), AGES_SAY.format("delay"))
    says = "reason: 1,025 bytes are too many; use at most 1,024"
    yield case("a reason of 1,025 letters", "Nack", about(pb.NackRequest(tokens=[1], reason="r" * 1_025)), says)
    yield case("a reason in invalid UTF-8", "Nack", about(text(4, NOT_UTF8)), UNREADABLE_SAYS)


def consuming(rest: ProtobufMessage | bytes = b"", **start: Any) -> Callable[[Place], bytes]:  # noqa: ANN401  # the fields of ConsumeStart
    """Return a first request of a stream, with other fields."""
    end = rest if isinstance(rest, bytes) else rest.SerializeToString()

    def build(place: Place) -> bytes:
        asked = pb.ConsumeStart(**{"queue_id": place.queue, **start})
        return pb.ConsumeRequest(start=asked).SerializeToString() + end

    return build


def _consume_cases() -> Iterable[Case]:
    says = "start: missing; the first request of a stream has to contain it"
    yield case("nothing", "Consume", b"", says)
    yield case("credit and no start", "Consume", pb.ConsumeRequest(credit=1), says)
    yield case("the start as a number", "Consume", integer(1, 1), says)
    for what, request in UNREADABLE.items():
        yield case(what, "Consume", text(1, request) if b"\xff" in request else request, UNREADABLE_SAYS)
    says = "start.queue_id: give the ID or the name of a queue"
    yield case("no queue_id", "Consume", consuming(queue_id=""), says)
    for what, unknown in (("an unknown id", UNKNOWN_ID), ("an unknown name", "absent")):
        yield case(what, "Consume", consuming(queue_id=unknown), f"there is no queue {unknown}", MISSING)
    for what, lease in BAD_LEASES.items():
        yield case(f"a lease of {what}", "Consume", consuming(lease=lease), LEASE_SAYS.format("start.lease"))
    says = "start.max: -5 is negative; use 1 or more, or 0 for as many as fit"
    yield case("a negative max", "Consume", consuming(max=-5), says)
    says = "start.consumer: 257 bytes are too many; use at most 256"
    yield case("a consumer of 257 letters", "Consume", consuming(consumer="c" * 257), says)
    says = "credit: -1 is negative; use 0 or more"
    yield case("negative credit", "Consume", consuming(pb.ConsumeRequest(credit=-1)), says)
    yield case("negative credit of who would be alone", "Consume", consuming(integer(2, -1), exclusive=True), says)
    says = "{}: 10,001 are too many; send at most 10,000"
    yield case("10,001 acks", "Consume", consuming(text(3, bytes(8 * 10_001))), says.format("ack"))
    yield case("10,001 nacks", "Consume", consuming(text(4, b"") * 10_001), says.format("nack"))
    yield case("10,001 extends", "Consume", consuming(text(5, bytes(8 * 10_001))), says.format("extend"))
    for unit, time in NEGATIVE.items():
        nacks = pb.ConsumeRequest(nack=[pb.ConsumeNack(token=1), pb.ConsumeNack(token=2, delay=time)])
        what = f"a delay of negative {unit}"
        yield case(what, "Consume", consuming(nacks), NEGATIVE_SAYS.format("nack.delay"))
    nacks = pb.ConsumeRequest(nack=[pb.ConsumeNack(token=1, delay=AGES)])
    yield case("a delay of ages", "Consume", consuming(nacks), AGES_SAY.format("nack.delay"))
    nacks = pb.ConsumeRequest(nack=[pb.ConsumeNack(token=1, reason="r" * 1_025)])
    says = "nack.reason: 1,025 bytes are too many; use at most 1,024"
    yield case("a reason of 1,025 letters", "Consume", consuming(nacks), says)


def _batch_cases() -> Iterable[Case]:
    for method in ("DeclareQueues", "RemoveQueues"):
        says = "queues: {} in one batch; send 1 to 10,000"
        yield case("no queues", method, b"", says.format(0))
        yield case("10,001 queues", method, text(1, b"") * 10_001, says.format("10,001"))
        yield case("the queues as a number", method, integer(1, 1), says.format(0))
        yield case("a queue in invalid UTF-8", method, text(1, text(1, NOT_UTF8)), UNREADABLE_SAYS)


CASES = [
    *_queue_cases(),
    *_by_id_cases(),
    *_tag_cases(),
    *_message_cases(),
    *_size_cases(),
    *_taking_cases(),
    *_looking_cases(),
    *_removing_cases(),
    *_terms_cases(),
    *_lease_cases(),
    *_time_cases(),
    *_consume_cases(),
    *_batch_cases(),
]
"""Every request that is refused as a whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One item of a batch, and its expected refusal while the others succeed."""

    what: str
    item: Callable[[Place], pb.QueueDeclaration | pb.QueueRemoval]
    code: grpc.StatusCode
    says: str


def _item(what: str, says: str, code: grpc.StatusCode = INVALID, /, **fields: object) -> Item:
    """Return a declaration that is valid except for these fields; a callable one depends on the place."""

    def build(place: Place) -> pb.QueueDeclaration:
        known = {key: value(place) if callable(value) else value for key, value in fields.items()}
        good: dict[str, object] = {"name": unique_name("declared"), "store": pb.Queue.MEMORY, "limit": -1}
        return pb.QueueDeclaration(**{**good, **known})  # type: ignore[arg-type]  # wrong types are the point of the test

    return Item(what=what, item=build, code=code, says=says)


def _declarations() -> Iterable[Item]:
    yield _item("no name", "name: missing; give the queue's name", name="")
    for what, (name, says) in BAD_NAMES.items():
        yield _item(f"a name {what}", says, name=name)
    yield _item("an id that is no UUID", "id: 'mine' is not a UUID", id="mine")
    yield _item("an id that is taken", "queue place-.* already exists", TAKEN, id=lambda place: place.queue)
    yield _item("no store", "store: there is no store 0; use MEMORY", store=0)
    yield _item("an unknown store", "store: there is no store 9; use MEMORY", store=9)
    yield _item("a store that is off", "store: this server runs without DISK", REFUSED, store=pb.Queue.DISK)
    yield _item(
        "another store",
        "queue place-.* is in store MEMORY and cannot move to DISK; delete it first",
        REFUSED,
        name=lambda place: place.name,
        store=pb.Queue.DISK,
    )
    yield _item("limit 0", "limit: 0 is not allowed; use 1 or more, or -1", limit=0)
    yield _item("limit -2", "limit: -2 is not allowed; use 1 or more, or -1", limit=-2)
    for what, (bad, says) in BAD_TAGS.items():
        yield _item(what, f"tags: {says}", tags=bad)
    yield _item("a uid without an owner", "owner.name: missing; give the owner's name", owner=pb.Owner(uid="1"))
    too_long = "characters are too many; use at most 951"
    yield _item("a long owner", f"owner.name: 952 {too_long}", owner=pb.Owner(name="o" * 952))
    yield _item("a long uid", f"owner.uid: 952 {too_long}", owner=pb.Owner(name="o", uid="u" * 952))
    yield _item(
        "another owner",
        "queue owned-.* belongs to a/b/c, not to x/y/z; set adopt to take it over",
        REFUSED,
        name=lambda place: place.owned,
        owner=pb.Owner(name="x/y/z"),
    )
    yield _item(
        "an owner of a queue without one",
        "queue place-.* belongs to no owner, not to x/y/z; set adopt to take it over",
        REFUSED,
        name=lambda place: place.name,
        owner=pb.Owner(name="x/y/z"),
    )
    for field, most, numbers in (
        ("lease_seconds", "43,200", (0, -1, 43_201)),
        ("max_deliveries", "1,000", (0, -1, 1_001)),
        ("message_ttl_seconds", "315,360,000", (0, -1, 315_360_001)),
    ):
        for number in numbers:
            says = f"delivery.{field}: {number} is out of range; use 1 to {most}, or leave it out"
            settings = pb.DeliverySettings(**{field: number})
            yield _item(f"{field} {number}", says, delivery=settings)


def _removals() -> Iterable[Item]:
    def removal(what: str, says: str, code: grpc.StatusCode, build: Callable[[Place], pb.QueueRemoval]) -> Item:
        return Item(what=what, item=build, code=code, says=says)

    yield removal("no queue_id", "queue_id: give the ID or the name of a queue", INVALID, lambda _: pb.QueueRemoval())
    yield removal(
        "a uid without an owner",
        "owner.name: missing; give the owner's name",
        INVALID,
        lambda place: pb.QueueRemoval(queue_id=place.owned, owner=pb.Owner(uid="1")),
    )
    yield removal(
        "another owner",
        "queue owned-.* belongs to a/b/c, not to x/y/z; omit the owner to remove it anyway",
        REFUSED,
        lambda place: pb.QueueRemoval(queue_id=place.owned, owner=pb.Owner(name="x/y/z")),
    )
    yield removal(
        "another object of the same owner",
        "queue owned-.* belongs to a/b/c",
        REFUSED,
        lambda place: pb.QueueRemoval(queue_id=place.owned, owner=pb.Owner(name="a/b/c", uid="2")),
    )


DECLARATIONS = list(_declarations())
REMOVALS = list(_removals())

"""Values survive the wire, and what this version does not know is refused instead of guessed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from queuelet.bounds import Bounds
from queuelet.client import BadResponse
from queuelet.client.connection import converted
from queuelet.client.messages import browsed_from_pb
from queuelet.definition import (
    Counts,
    DeathReason,
    DeliverySettings,
    MessageState,
    Owner,
    QueueDefinition,
    StoreKind,
    TryOutcome,
)
from queuelet.errors import QueueletError, QueueNotFound, StoreMismatch
from queuelet.server.requests import declaration_from_pb
from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet.values import DeclareOutcome, Queue, QueueDeclaration, RemoveOutcome
from queuelet.wire.errors import Code, code_of, error_from_pb, error_to_pb, reason_of
from queuelet.wire.values import (
    UNREADABLE,
    changes_from_pb,
    counts_to_pb,
    declaration_to_pb,
    declare_outcome_to_pb,
    declare_result_from_pb,
    delivery_to_pb,
    owner_to_pb,
    queue_from_pb,
    queue_stats_from_pb,
    remove_result_from_pb,
    states_to_pb,
    store_from_pb,
    store_to_pb,
)

DEFINITION = QueueDefinition(
    store=StoreKind.DISK,
    name="orders",
    limit=5,
    tags=(Tag("team", "a"), Tag("team", "b")),
    owner=Owner(name="a/b/c", uid="1", namespace_uid="2"),
    delivery=DeliverySettings(lease_seconds=60, max_deliveries=2, message_ttl_seconds=3_600),
    draining=True,
)
ID = "6f9c1d8e-0b1a-4f0e-9c55-000000000001"


def queue_to_pb() -> pb.Queue:
    """Return a queue of this definition as a server sends it."""
    assert DEFINITION.owner
    message = pb.Queue(
        meta=pb.Metadata(id=ID, tags=[pb.Tag(key=key, value=value) for key, value in DEFINITION.tags]),
        store=store_to_pb(DEFINITION.store),
        name=DEFINITION.name,
        limit=DEFINITION.limit,
        owner=owner_to_pb(DEFINITION.owner),
        delivery=delivery_to_pb(DEFINITION.delivery),
        draining=DEFINITION.draining,
        revision=7,
        messages=counts_to_pb(Counts(1, 2, 3, 4)),
        epoch="an epoch",
    )
    message.meta.created.FromSeconds(1_800_000_000)
    return message


@pytest.mark.parametrize(
    "definition",
    [QueueDefinition(name="orders"), DEFINITION, dataclasses.replace(DEFINITION, owner=None)],
    ids=["defaults", "every field", "no owner"],
)
def test_a_server_reads_a_declaration_as_the_client_made_it(definition: QueueDefinition) -> None:
    declaration = QueueDeclaration(definition=definition, queue_id=ID, adopt=True)
    assert declaration_from_pb(declaration_to_pb(declaration), Bounds()) == declaration


def test_a_queue_has_what_the_server_sent() -> None:
    queue = queue_from_pb(queue_to_pb())
    assert queue == Queue(
        id=ID,
        name="orders",
        store=StoreKind.DISK,
        limit=5,
        tags=DEFINITION.tags,
        owner=DEFINITION.owner,
        delivery=DEFINITION.delivery,
        draining=True,
        messages=Counts(1, 2, 3, 4),
        created=datetime.fromtimestamp(1_800_000_000, UTC),
        revision=7,
        epoch="an epoch",
    )
    assert queue.definition == DEFINITION
    assert queue.messages.total == 10


def test_what_is_absent_is_none() -> None:
    sent = queue_to_pb()
    sent.ClearField("owner")
    sent.delivery.ClearField("message_ttl_seconds")
    queue = queue_from_pb(sent)
    assert queue.owner is None
    assert queue.delivery.message_ttl_seconds is None
    stats = pb.QueueStats(queue=sent)
    assert queue_stats_from_pb(stats).oldest_ready_age is None
    stats.oldest_ready_age.FromNanoseconds(1_500_000_000)
    assert queue_stats_from_pb(stats).oldest_ready_age == timedelta(seconds=1.5)


def test_the_statistics_of_a_queue_are_all_there() -> None:
    counters = {name: number for number, name in enumerate(pb.QueueStats.DESCRIPTOR.fields_by_name, 1)}
    del counters["queue"], counters["oldest_ready_age"]
    stats = queue_stats_from_pb(pb.QueueStats(queue=queue_to_pb(), **counters))  # type: ignore[arg-type]  # all of them are numbers
    assert {name: getattr(stats, name) for name in counters} == counters


# Enums


def test_every_member_of_an_enum_is_one_of_the_wire() -> None:
    assert [store_from_pb(store_to_pb(kind)) for kind in StoreKind] == list(StoreKind)
    assert [MessageState(number) for number in states_to_pb(MessageState)] == list(MessageState)
    for outcome in DeclareOutcome:
        result = pb.DeclareResult(outcome=declare_outcome_to_pb(outcome))
        assert declare_result_from_pb(result).outcome is outcome


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({each.name: each.value for each in MessageState}, pb.MessageState),
        ({each.name: each.value for each in DeathReason}, pb.DeathReason),
        ({each.name: each.value for each in TryOutcome}, pb.Try.Outcome),
        ({each.name for each in DeclareOutcome}, pb.DeclareResult.Outcome),
        ({each.name for each in RemoveOutcome}, pb.RemoveResult.Outcome),
    ],
    ids=["MessageState", "DeathReason", "TryOutcome", "DeclareOutcome", "RemoveOutcome"],
)
def test_an_enum_has_every_member_of_the_wire(ours: dict[str, int] | set[str], theirs: type[pb.MessageState]) -> None:
    prefix = next(name for name, number in theirs.items() if number == 0).removesuffix("UNSPECIFIED")
    members = {name.removeprefix(prefix): number for name, number in theirs.items() if number}
    assert ours == (members if isinstance(ours, dict) else members.keys())


@pytest.mark.parametrize("number", [0, 9])
def test_a_value_of_a_later_version_is_refused(number: int) -> None:
    queue = queue_to_pb()
    queue.store = number  # type: ignore[assignment]  # a later version may send it
    for convert in (
        lambda: queue_from_pb(queue),
        lambda: changes_from_pb(pb.WatchQueuesResponse(queues=[queue])),
        lambda: declare_result_from_pb(pb.DeclareResult(outcome=number)),  # type: ignore[arg-type]  # a later version may send it
        lambda: remove_result_from_pb(pb.RemoveResult(outcome=number)),  # type: ignore[arg-type]  # a later version may send it
        lambda: browsed_from_pb(pb.BrowsedMessage(state=number)),  # type: ignore[arg-type]  # a later version may send it
    ):
        with pytest.raises(UNREADABLE):
            convert()
    with pytest.raises(BadResponse, match=r"^GetQueue: the response has a value that .* does not know \("):
        converted("GetQueue", queue_from_pb, queue)


# Errors


def test_a_refusal_has_its_error() -> None:
    refused = pb.DeclareResult(
        outcome=pb.DeclareResult.OUTCOME_REFUSED, error=error_to_pb(StoreMismatch("it is in memory"))
    )
    error = declare_result_from_pb(refused).error
    assert isinstance(error, StoreMismatch)
    assert error.message == "it is in memory"
    assert remove_result_from_pb(pb.RemoveResult(outcome=pb.RemoveResult.OUTCOME_REFUSED)).error
    assert remove_result_from_pb(pb.RemoveResult(outcome=pb.RemoveResult.OUTCOME_ABSENT)).error is None


def test_an_error_keeps_its_code_and_reason() -> None:
    known = error_from_pb(error_to_pb(QueueNotFound("where?")))
    assert (code_of(known), reason_of(known)) == (Code.NOT_FOUND, QueueNotFound.reason)
    later = error_from_pb(pb.Error(code=9, reason="TOO_NEW", message="a later version refuses this"))
    assert type(later) is QueueletError
    assert (code_of(later), reason_of(later), later.message) == (9, "TOO_NEW", "a later version refuses this")
    assert error_from_pb(pb.Error(code=9, reason="TOO_NEW")).message == "the server refused this: TOO_NEW"

"""Errors survive the wire: the client raises what the server raised."""

from __future__ import annotations

import pytest

from queuelet import errors
from queuelet.errors import QueueletError, QueueNotFound
from queuelet.wire.errors import CODES, Code, error_from_pb, error_of, error_to_pb, negz_status_of, status_of


def all_kinds(kind: type[QueueletError] = QueueletError) -> set[type[QueueletError]]:
    """Return an error type and all of its subclasses."""
    below = {kind}.union(*map(all_kinds, kind.__subclasses__()))
    # The client library has a few types of its own, which no server sends.
    return {each for each in below if each.__module__ == errors.__name__}


def test_every_kind_has_a_code_and_a_reason_of_its_own() -> None:
    assert set(CODES) == all_kinds()
    assert len({kind.reason for kind in CODES}) == len(CODES)


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_an_error_comes_out_as_it_went_in(kind: type[QueueletError]) -> None:
    sent = kind("what happened", queue="orders", limit=3)
    got = error_of(*status_of(sent))
    assert type(got) is kind
    assert got.message == "what happened"
    assert got.facts == {"queue": "orders", "limit": "3"}
    assert type(error_from_pb(error_to_pb(sent))) is kind


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_an_error_without_a_text_says_what_it_is(kind: type[QueueletError]) -> None:
    assert kind().message == kind.__doc__
    assert kind().message.endswith(".")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (14, errors.Unreachable),
        (4, errors.DeadlineExceeded),
        (3, errors.InvalidArgument),
        (8, errors.MessageTooLarge),
        (16, errors.Unauthenticated),
        (2, errors.Unreachable),
        (13, errors.Unreachable),
        (12, QueueletError),
        (77, QueueletError),
    ],
)
def test_a_status_of_another_server_becomes_the_nearest_kind(code: int, kind: type[QueueletError]) -> None:
    assert type(error_of(code, "text")) is kind
    assert type(error_of(code, "text", b"\xff garbage")) is kind


def test_negz_q_s_clients_get_a_reason_with_their_own_text_and_code() -> None:
    negz = negz_status_of(QueueNotFound(queue="x"), "Pop")
    assert isinstance(error_of(*negz), QueueNotFound)
    assert error_of(*negz).message == negz.text
    assert negz.code is Code.INVALID_ARGUMENT

"""IDs and names."""

from __future__ import annotations

from uuid import UUID

import pytest

from queuelet.bounds import Bounds
from queuelet.errors import InvalidArgument
from queuelet.ids import MessageIds, checked_name, new_id_prefix, parse_uuid, why_not_uuid

SOME = "6f9c0000-1111-4222-8333-444455556666"


@pytest.mark.parametrize("text", [SOME, SOME.upper(), f"urn:uuid:{SOME}", f"URN:UUID:{SOME}"])
def test_an_id_that_negz_q_accepts_is_accepted(text: str) -> None:
    assert parse_uuid(text) == SOME


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid UUID length: 0"),
        ("orders", "invalid UUID length: 6"),
        (SOME.replace("-", ""), "invalid UUID length: 32"),
        ("{" + SOME + "}", "invalid UUID length: 38"),
        (SOME.replace("-", "x"), "invalid UUID format"),
        ("g" + SOME[1:], "invalid UUID format"),
        (f"urn:guid:{SOME}", 'invalid urn prefix: "urn:guid:"'),
        (f"urn:uuid:g{SOME[1:]}", "invalid UUID format"),
    ],
)
def test_an_invalid_id_is_refused_in_the_words_of_negz_q(text: str, reason: str) -> None:
    assert parse_uuid(text) is None
    assert why_not_uuid(text) == reason


def test_message_ids_are_valid_random_uuids_that_contain_their_number() -> None:
    ids = MessageIds(new_id_prefix())
    made = [ids.made(seq).decode() for seq in (1, 2, 1 << 40)]
    assert [UUID(text).version for text in made] == [4, 4, 4]
    assert [str(UUID(text)) for text in made] == made
    assert [ids.seq_of(text.encode()) for text in made] == [1, 2, 1 << 40]


def test_ids_of_two_queues_differ() -> None:
    assert MessageIds(new_id_prefix()).made(1) != MessageIds(new_id_prefix()).made(1)
    assert MessageIds(new_id_prefix()).seq_of(MessageIds(new_id_prefix()).made(1)) is None


@pytest.mark.parametrize("name", ["a", "orders", "shop.orders", "0", "a-b.c-9", "a" * 317])
def test_names_may_be_what_kubernetes_allows(name: str) -> None:
    assert checked_name(name, Bounds()) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", ".a", "a.", "A", "a_b", "a b", "ä", "a\n", "a" * 318, SOME])
def test_other_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidArgument, match="name: ") as refused:
        checked_name(name, Bounds())
    assert refused.value.facts["field"] == "name"

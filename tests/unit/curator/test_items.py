"""The content of a node in Curator: a version, items, an end marker (C40)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.curator.items import DamagedNode, decode, encode

VERSION = bytes.fromhex("00010001")


@pytest.mark.parametrize(
    ("items", "stored"),
    [
        ([], "00010001 02"),
        ([b"ab"], "00010001 01 00000002 6162 02"),
        ([b"a", b"", b"c"], "00010001 01 00000001 61 01 00000000 01 00000001 63 02"),
    ],
    ids=["none", "one", "an empty one between others"],
)
def test_c40_items_are_stored_as_curator_stores_them(items: list[bytes], stored: str) -> None:
    assert encode(items) == bytes.fromhex(stored)
    assert decode(bytes.fromhex(stored)) == items


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ("", "0 bytes are too few for a version"),
        ("000100", "3 bytes are too few for a version"),
        ("00010002 02", "its version is 0x00010002, not 0x00010001"),
        ("00010001", "it is truncated after 0 items: no end marker follows"),
        ("00010001 01 00000001 61", "it is truncated after 1 item: no end marker follows"),
        ("00010001 01 0000", "it is truncated after 0 items, within a length"),
        ("00010001 01 00000003 6162", "it is truncated: only 2 of 3 bytes of an item are there"),
        ("00010001 03 02", "byte 0x03 after 0 items is neither an item nor the end marker"),
        ("00010001 01 ffffffff 02", "an item after 0 items has -1 bytes"),
        ("00010001 02 00", "1 more bytes follow the end marker"),
    ],
)
def test_c40_what_curator_does_not_write_is_damaged(stored: str, complaint: str) -> None:
    with pytest.raises(DamagedNode) as raised:
        decode(bytes.fromhex(stored))
    assert str(raised.value) == complaint


@given(st.lists(st.binary()))
def test_items_come_back_as_they_were_stored(items: list[bytes]) -> None:
    assert decode(encode(items)) == items


@given(st.lists(st.binary(max_size=20), min_size=1), st.data())
def test_a_node_that_is_cut_off_anywhere_is_damaged(items: list[bytes], data: st.DataObject) -> None:
    stored = encode(items)
    with pytest.raises(DamagedNode):
        decode(stored[: data.draw(st.integers(0, len(stored) - 1))])


@given(st.binary(), st.booleans())
def test_any_bytes_are_read_whole_or_damaged(rest: bytes, has_version: bool) -> None:  # noqa: FBT001  # hypothesis draws it
    data = VERSION + rest if has_version else rest
    try:
        items = decode(data)
    except DamagedNode:
        return
    assert encode(items) == data

"""What Curator stores in a node: a version, items, an end (C40)."""

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
        ("", "it has 0 bytes, too few for a version"),
        ("000100", "it has 3 bytes, too few for a version"),
        ("00010002 02", "it is of version 0x00010002, not 0x00010001"),
        ("00010001", "it is cut off after 0 items: no end follows"),
        ("00010001 01 00000001 61", "it is cut off after 1 item: no end follows"),
        ("00010001 01 0000", "it is cut off after 0 items, within a length"),
        ("00010001 01 00000003 6162", "it is cut off: of 3 bytes of an item, 2 are there"),
        ("00010001 03 02", "after 0 items stands 0x03, which is neither an item nor the end"),
        ("00010001 01 ffffffff 02", "after 0 items stands an item of -1 bytes"),
        ("00010001 02 00", "1 more bytes follow its end"),
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

"""The board packs queues so that a snapshot and the frames after it are always the same as a later snapshot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuelet.console import board as boards
from queuelet.console.board import DEFINED, Board, Definition, Numbers

NOW = 1_800_000_000_000


def definition(queue_id: str, name: str = "", *, limit: int = -1) -> Definition:
    return Definition(
        id=queue_id, name=name, tags=("a=b",), store="MEMORY", limit=limit, owner="", draining=False, created=NOW
    )


def events(frames: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Return the frames of a stream, as a browser parses them."""
    parsed = []
    for event in frames.decode().removesuffix("\n\n").split("\n\n"):
        number, data = event.split("\n")
        parsed.append((int(number.removeprefix("id: ")), json.loads(data.removeprefix("data: "))))
    return parsed


def rows_of(snapshot: bytes) -> dict[int, list[Any]]:
    """Return the rows of a snapshot."""
    columns = json.loads(snapshot)
    return {row: [columns[each][i] for each in (*DEFINED, *Numbers._fields)] for i, row in enumerate(columns["row"])}


def applied(rows: dict[int, list[Any]], frames: bytes) -> dict[int, list[Any]]:
    """Return the rows after frames, as a browser applies them."""
    width = len(DEFINED)
    rows = {row: list(values) for row, values in rows.items()}
    for _, frame in events(frames):
        for row in frame.get("gone", []):
            rows.pop(row, None)
        for row, *values in frame.get("queues", []):
            rows[row] = values + (rows[row][width:] if row in rows else [0] * len(Numbers._fields))
        for row, *values in frame.get("counts", []):
            rows[row][width:] = values
    return rows


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("define"), st.integers(0, 5), st.integers(-1, 3)),
        st.tuples(st.just("count"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("frame"), st.just(0), st.just(0)),
        st.tuples(st.just("look"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(CHANGES)
def test_a_snapshot_with_the_frames_after_it_is_a_later_snapshot(changes: Sequence[tuple[str, int, int]]) -> None:
    board = Board("b")
    board.frame(NOW)
    seen, seen_at = rows_of(board.snapshot(NOW)), board.number
    for what, queue, value in changes:
        if what == "define":
            board.define(definition(f"q{queue}", limit=value))
        elif what == "count":
            board.count(f"q{queue}", Numbers(ready=value, added=value))
        elif what == "remove":
            board.remove(f"q{queue}")
        elif what == "frame":
            board.frame(NOW)
        else:
            # A snapshot has changes that no frame has yet. The next frame repeats them, which does no harm.
            seen, seen_at = rows_of(board.snapshot(NOW)), board.number
    board.frame(NOW)
    missed = board.frames_after(seen_at)
    assert missed is not None
    after = applied(seen, missed) if missed else seen
    assert after == rows_of(board.snapshot(NOW))


def test_a_frame_has_only_what_has_changed() -> None:
    board = Board("b")
    for i in range(100):
        board.define(definition(f"q{i}", f"queue-{i}"))
    board.frame(NOW)
    board.count("q7", Numbers(ready=1, delayed=2, leased=3, dead=4, added=5, removed=6, oldest=7))
    board.count("q8", Numbers())
    [(number, frame)] = events(board.frame(NOW + 1))
    assert number == 2
    assert frame == {"at": NOW + 1, "counts": [[7, 1, 2, 3, 4, 5, 6, 7]]}


def test_a_frame_without_changes_has_the_time_and_no_new_number() -> None:
    board = Board("b")
    board.define(definition("q"))
    board.frame(NOW)
    assert events(board.frame(NOW + 1)) == [(1, {"at": NOW + 1})]
    assert board.frames_after(1) == b""


def test_a_reader_that_knows_too_little_or_too_much_has_to_begin_again() -> None:
    board = Board("b")
    for i in range(boards.LOG_FRAMES + 5):
        board.define(definition(f"q{i}"))
        board.frame(NOW)
    assert board.frames_after(2) is None
    assert board.frames_after(board.number + 1) is None
    kept = board.frames_after(board.number - boards.LOG_FRAMES)
    assert kept is not None
    assert len(events(kept)) == boards.LOG_FRAMES


def test_frames_are_kept_only_up_to_a_size() -> None:
    board = Board("b")
    large = definition("q", "n" * 300)
    board.define(large)
    board.frame(NOW)
    for i in range(30):
        for row in range(2_000):
            board.define(definition(f"{row}", f"{i}-" + "n" * 300))
        board.frame(NOW)
    assert board.frames_after(1) is None
    assert len(board.frames_after(board.number - 5) or b"") <= boards.LOG_BYTES


def test_rows_of_deleted_queues_are_not_used_again() -> None:
    board = Board("b")
    board.define(definition("a"))
    board.remove("a")
    board.define(definition("b"))
    assert list(rows_of(board.snapshot(NOW))) == [1]
    assert len(board) == 1


def test_a_board_of_mostly_deleted_queues_asks_for_a_new_one() -> None:
    board = Board("b")
    for i in range(1_001):
        board.define(definition(f"q{i}"))
    assert not board.is_sparse
    for i in range(1_001):
        board.remove(f"q{i}")
    assert board.is_sparse


def test_text_is_sent_as_it_is() -> None:
    board = Board("b")
    board.define(definition("q", "naïve-\u2028-<script>"))
    [(_, frame)] = events(board.frame(NOW))
    assert frame["queues"][0][2] == "naïve-\u2028-<script>"


@pytest.mark.need(3)
def test_ten_thousand_queues_that_all_changed_make_a_frame_of_less_than_a_mebibyte() -> None:
    board = Board("b")
    for i in range(10_000):
        board.define(definition(f"q{i}"))
    board.frame(NOW)
    for i in range(10_000):
        board.count(f"q{i}", Numbers(ready=1_234, leased=12, added=1_234_567, removed=1_233_333, oldest=NOW))
    assert len(board.frame(NOW)) < 1024 * 1024

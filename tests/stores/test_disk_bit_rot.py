"""Bits that flip in stored messages: `queuelet check` reports the messages, and the store sets them aside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import pytest

from queuelet.core.message import DeliveryRecord, Rank
from queuelet.definition import MessageState
from queuelet.errors import StoreFailed
from queuelet.stores.disk.backup import back_up, restore
from queuelet.stores.disk.backward import read_messages_backward
from queuelet.stores.disk.check import check_database, check_store, damaged_rows
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.database import inspecting
from queuelet.stores.disk.schema import PAGE_BYTES
from queuelet.stores.disk.verified_rows import read_messages
from queuelet.stores.durable.damage import Damage
from queuelet.stores.durable.places import first_place
from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli
from support.counts import soaked
from support.disk_harness import QUEUE_ID, DiskHarness
from support.pages import samples
from support.rpc import Rpc
from support.server_process import ServerProcess

COUNT = 50
BODY_BYTES = 600


@pytest.fixture
def harness() -> Iterator[DiskHarness]:
    harness = DiskHarness()
    yield harness
    harness.close()


def fill_and_rot(harness: DiskHarness, seed: int) -> tuple[list[bytes], list[int]]:
    """Store messages and flip a bit in ten of them; return all messages, and the indexes of the ten."""
    random = Random(seed)
    bodies = [random.randbytes(BODY_BYTES) for _ in range(COUNT)]
    messages = harness.open()
    for seq, body in enumerate(bodies, 1):
        messages.append(seq, body)
    messages.tally.next_seq = COUNT + 1
    harness.commit()
    harness.restart()
    assert not check_store(harness.folder).problems
    harness.loop.run_until_complete(harness.store.close())
    path = harness.folder / DATABASE
    data = bytearray(path.read_bytes())
    rotten = sorted(random.sample(range(COUNT), 10))
    for each in rotten:
        byte, bit = random.randrange(BODY_BYTES), 1 << random.randrange(8)
        # SQLite may leave a second copy in a page that it has split, so flip the bit in all copies.
        for place in [found.start() for found in re.finditer(re.escape(bodies[each]), data)]:
            data[place + byte] ^= bit
    path.write_bytes(data)
    return bodies, rotten


def test_looking_at_a_damaged_message_sets_nothing_aside(harness: DiskHarness) -> None:
    """Tail looks at messages in the middle of other calls, which must not lose them meanwhile."""
    bodies, rotten = fill_and_rot(harness, 1)
    harness.store = harness.restarted()
    messages = harness.messages
    forgotten: list[int] = []
    messages.report_damaged(forgotten.append)
    looked = [messages.look(seq) for seq in range(1, COUNT + 1)]
    assert looked == [None if each in rotten else body for each, body in enumerate(bodies)]
    assert (len(messages), messages.damaged, forgotten) == (COUNT, 0, [])


@pytest.mark.parametrize("seed", range(soaked(20, 1_000)))
def test_a_flipped_bit_is_found_and_the_message_is_set_aside_alone(harness: DiskHarness, seed: int) -> None:
    bodies, rotten = fill_and_rot(harness, seed)
    found = check_store(harness.folder).problems
    assert [text.partition(" of queue")[0] for text in found] == [f"message {each + 1}" for each in rotten]
    assert all(text.endswith("is damaged: its checksum is wrong") for text in found)

    harness.store = harness.restarted()
    messages = harness.messages
    forgotten: list[int] = []
    messages.report_damaged(forgotten.append)
    good = [(seq, body) for seq, body in enumerate(bodies, 1) if seq - 1 not in rotten]
    assert messages.checkout_many(5, 1 << 30) == tuple(map(list, zip(*good[:5], strict=True)))
    assert list(zip(*messages.take_many(COUNT, 1 << 30), strict=True)) == good[5:]
    assert forgotten == [each + 1 for each in rotten]
    assert (len(messages), messages.damaged, messages.first_many(1, 0)) == (5, 10, ([], []))
    harness.commit()
    assert harness.store.stats().damaged_found == 10

    messages = harness.restart()
    assert (len(messages), messages.damaged) == (5, 10)
    assert messages.after(0, COUNT, 1 << 30) == good[:5]
    found = check_store(harness.folder).problems
    assert len(found) == 10, "check reports the damaged messages, whose bytes are still there, and no wrong counts"
    assert all("is damaged, and set aside: its checksum is wrong" in text for text in found)
    messages.append(messages.tally.next_seq, b"new")
    assert list(zip(*messages.take_many(COUNT, 1 << 30), strict=True)) == [*good[:5], (messages.tally.next_seq, b"new")]


@pytest.mark.parametrize("step", [1, 7, COUNT])
@pytest.mark.parametrize("seed", range(soaked(5, 100)))
def test_damaged_messages_are_set_aside_when_messages_are_read_backwards(
    harness: DiskHarness, seed: int, step: int
) -> None:
    bodies, rotten = fill_and_rot(harness, seed)
    harness.store = harness.restarted()
    messages = harness.messages
    forgotten: list[int] = []
    messages.report_damaged(forgotten.append)
    found: list[tuple[int, bytes]] = []
    seq = COUNT + 1
    while page := messages.before(seq, step, 1 << 30):
        found += page
        seq = page[-1][0]
    good = [(seq, body) for seq, body in enumerate(bodies, 1) if seq - 1 not in rotten]
    assert found == good[::-1]
    assert forgotten == [each + 1 for each in reversed(rotten)]
    assert messages.after(0, COUNT, 1 << 30) == good


@pytest.mark.parametrize("how", ["clear", "drop"])
def test_damaged_messages_of_a_removed_queue_do_no_harm(harness: DiskHarness, how: str) -> None:
    fill_and_rot(harness, 1)
    harness.store = harness.restarted()
    messages = harness.messages
    assert len(messages.take_many(COUNT, 1 << 30)[0]) == COUNT - 10
    harness.commit()
    messages.clear() if how == "clear" else harness.store.drop(QUEUE_ID)
    if how == "drop":
        messages = harness.open()
    messages.append(1, b"new")
    harness.commit()
    assert (len(messages), messages.damaged) == (1, 0)
    messages = harness.restart()
    assert messages.take() == (1, b"new")


@pytest.mark.parametrize("table", ["ranks", "deliveries"])
def test_a_message_whose_rank_or_delivery_is_damaged_is_set_aside(harness: DiskHarness, table: str) -> None:
    messages = harness.open()
    messages.keep(1, b"ranked", Rank(1, 2, 3, 4))
    messages.append(2, b"leased")
    messages.append(3, b"good")
    messages.checkout_many(1, 0)
    messages.deliveries[2] = DeliveryRecord(MessageState.LEASED, 1, 99)
    messages.mark_changed([2])
    harness.commit()
    harness.loop.run_until_complete(harness.store.close())
    connection = apsw.Connection(str(harness.folder / DATABASE))
    connection.execute(f"UPDATE {table} SET checksum = checksum + 1")  # noqa: S608
    connection.close()
    harness.store = harness.restarted()
    messages = harness.messages
    assert (len(messages), messages.damaged) == (2, 1)
    assert messages.get(1 if table == "ranks" else 2) is None
    harness.commit()
    assert (len(harness.restart()), harness.messages.damaged) == (2, 1)


def spoil(harness: DiskHarness, statement: str) -> None:
    """Close the store and change its database."""
    harness.loop.run_until_complete(harness.store.close())
    with closing(apsw.Connection(str(harness.folder / DATABASE))) as connection:
        connection.execute(statement)


def check_store_file(path: Path) -> Iterator[str]:
    """Yield the problems of a file, such as a backup."""
    with inspecting(path) as connection:
        yield from check_database(connection)
        yield from damaged_rows(connection)


def rotten_backup(harness: DiskHarness, tmp_path: Path, *, in_backup: bool) -> tuple[Path, list[bytes], list[int]]:
    """Return a backup, its messages, and the indexes of ten that were damaged in the store or in the backup."""
    bodies, rotten = fill_and_rot(harness, 7)
    if not in_backup:
        copy = tmp_path / "copy.db"
        assert back_up(harness.folder, copy) == (COUNT - 10, 10)
        assert not list(check_store_file(copy)), "what is damaged is not in it"
        return copy, bodies, rotten
    return harness.folder / DATABASE, bodies, rotten


@pytest.mark.parametrize("in_backup", [False, True], ids=["damaged store", "damaged backup"])
def test_backup_and_restore_leave_damaged_messages_out_and_keep_their_neighbours(
    harness: DiskHarness, tmp_path: Path, *, in_backup: bool
) -> None:
    copy, bodies, rotten = rotten_backup(harness, tmp_path, in_backup=in_backup)
    assert restore(copy, tmp_path / "new") == (COUNT - 10, 10 if in_backup else 0)
    assert not check_store(tmp_path / "new").problems
    messages = harness.move_to(tmp_path / "new")
    good = [(seq, body) for seq, body in enumerate(bodies, 1) if seq - 1 not in rotten]
    assert list(zip(*messages.take_many(COUNT, 1 << 30), strict=True)) == good


def test_messages_that_were_set_aside_before_are_not_in_a_backup(harness: DiskHarness, tmp_path: Path) -> None:
    fill_and_rot(harness, 3)
    harness.store = harness.restarted()
    assert len(harness.messages.first_many(COUNT, 1 << 30)[0]) == COUNT - 10
    harness.commit()
    assert back_up(harness.folder, tmp_path / "copy.db") == (COUNT - 10, 10)
    assert restore(tmp_path / "copy.db", tmp_path / "new") == (COUNT - 10, 0)


@pytest.mark.parametrize("table", ["ranks", "deliveries", "answers"])
def test_a_backup_leaves_out_the_message_whose_rank_or_delivery_is_damaged(
    harness: DiskHarness, tmp_path: Path, table: str
) -> None:
    messages = harness.open()
    messages.keep(1, b"ranked", Rank(1, 2, 3, 4))
    messages.append(2, b"leased")
    messages.append(3, b"good")
    messages.store_response(b"key", 1, b"response")
    messages.checkout_many(1, 0)
    messages.deliveries[2] = DeliveryRecord(MessageState.LEASED, 1, 99)
    messages.mark_changed([2])
    harness.commit()
    spoil(harness, f"UPDATE {table} SET checksum = checksum + 1")  # noqa: S608
    damaged = 0 if table == "answers" else 1
    assert back_up(harness.folder, tmp_path / "copy.db") == (3 - damaged, damaged)
    assert restore(tmp_path / "copy.db", tmp_path / "new") == (3 - damaged, 0)


@pytest.mark.parametrize("table", ["meta", "queues", "tallies"])
def test_backup_and_restore_refuse_a_store_with_damaged_metadata(
    harness: DiskHarness, tmp_path: Path, table: str
) -> None:
    harness.open().append(1, b"one")
    harness.commit()
    spoil(harness, f"UPDATE {table} SET checksum = checksum + 1")  # noqa: S608
    with pytest.raises(StoreFailed, match=f"a row of {table} has the wrong checksum"):
        back_up(harness.folder, tmp_path / "copy.db")
    with pytest.raises(StoreFailed, match=rf"a row of {table} has the wrong checksum.*use another"):
        restore(harness.folder / DATABASE, tmp_path / "new")
    assert not list(tmp_path.rglob("*.db*"))


def test_a_message_that_is_missing_without_a_damaged_row_makes_a_backup_fail(
    harness: DiskHarness, tmp_path: Path
) -> None:
    """There is damage that cannot be reported then, for example in the number of rows of a page."""
    fill_and_rot(harness, 3)
    spoil(harness, "DELETE FROM messages WHERE place = (SELECT max(place) FROM messages)")
    with pytest.raises(StoreFailed, match="but its counts say 50"):
        back_up(harness.folder, tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_damage_in_a_row_that_the_store_needs_is_reported(harness: DiskHarness) -> None:
    harness.open()
    harness.commit()
    harness.loop.run_until_complete(harness.store.close())
    connection = apsw.Connection(str(harness.folder / DATABASE))
    connection.execute("UPDATE queues SET definition = replace(definition, 'orders', 'ordess')")
    connection.close()
    with pytest.raises(StoreFailed, match=r"is damaged \(a row of queues has the wrong checksum.*queuelet restore"):
        harness.restarted()
    connection = apsw.Connection(str(harness.folder / DATABASE))
    connection.execute("UPDATE queues SET definition = replace(definition, 'ordess', 'orders')")
    connection.close()
    harness.store = harness.restarted()


def test_a_server_delivers_the_neighbours_of_a_damaged_message_and_counts_it(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path))
    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name="disk", store=pb.Queue.DISK, limit=-1), pb.NewQueueResponse)
        for number in range(6):
            message = pb.NewMessage(payload=b"payload %d" % number, priority=number % 2)
            rpc.call("Add", pb.AddRequest(queue_id="disk", message=message), pb.AddResponse)
        assert server.stop() == 0
    path = tmp_path / DATABASE
    content = path.read_bytes()
    path.write_bytes(content.replace(b"payload 2", b"paylobd 2").replace(b"payload 3", b"paylobd 3"))

    with ServerProcess(*flags) as server, closing(Rpc(server.address)) as rpc:
        popped = rpc.call("PopBatch", pb.PopBatchRequest(queue_id="disk", max=10), pb.PopBatchResponse)
        assert [each.payload for each in popped.messages] == [b"payload %d" % number for number in (0, 4, 1, 5)]
        assert len(server.log("damaged message set aside")) == 2
        metrics = f"{server.metrics_url}/metrics"
        assert samples(metrics, "queuelet_disk_damaged_messages_total")[""] == 2
        assert list(samples(metrics, "queuelet_queue_damaged_messages").values()) == [2]
        assert set(samples(metrics, "queuelet_queue_messages").values()) == {0}
        stats = rpc.call("GetStats", pb.GetStatsRequest(queue_id="disk"), pb.GetStatsResponse).queue
        assert (stats.damaged, sum(getattr(stats.queue.messages, state) for state in ("ready", "leased"))) == (2, 0)
        assert Cli(server.address)("stats", "disk").json["queue"]["damaged"] == "2"
        assert server.stop() == 0


def pages_of_messages(path: Path, kind: str) -> list[int]:
    """Return the offsets of the leaf or overflow pages of the table `messages`."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        rows = connection.execute("SELECT pgoffset FROM dbstat WHERE name = 'messages' AND pagetype = ?", (kind,))
        return [int(str(offset)) for (offset,) in rows]


def rot_pages(harness: DiskHarness, seed: int, kind: str, within: int, sizes: Sequence[int]) -> dict[int, bytes]:
    """Store messages, flip three bits in the first bytes of their pages of one kind, and return the messages."""
    random = Random(seed)
    messages = harness.open()
    bodies = {seq: random.randbytes(random.choice(sizes)) for seq in range(1, COUNT + 1)}
    for seq, body in bodies.items():
        messages.append(seq, body)
    messages.tally.next_seq = COUNT + 1
    harness.commit()
    harness.loop.run_until_complete(harness.store.close())
    path = harness.folder / DATABASE
    pages = pages_of_messages(path, kind)
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[random.choice(pages) + random.randrange(within)] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    return bodies


LED_BACK = 840
"""A seed with which damage once made reading go back to an earlier row for ever."""


PARTS = pytest.mark.parametrize(
    ("kind", "within", "sizes"),
    [
        ("leaf", PAGE_BYTES, (20, 200, 600, 6_000, 12_000)),
        ("leaf", PAGE_BYTES, (1, 5)),
        ("leaf", 32, (20, 200, 600, 6_000)),
        ("overflow", PAGE_BYTES, (6_000, 12_000)),
        ("overflow", 4, (20, 6_000, 12_000)),
    ],
    ids=["leaves", "rows", "headers", "long messages", "chains"],
)
"""The parts of a page of messages."""


@PARTS
@pytest.mark.parametrize("seed", sorted({*range(soaked(10, 1_000)), LED_BACK}))
def test_a_bit_that_flips_anywhere_in_a_page_of_messages_alters_none_and_hides_none(
    harness: DiskHarness, seed: int, kind: str, within: int, sizes: Sequence[int]
) -> None:
    """Including headers of pages and rows, and the page chains of long messages."""
    bodies = rot_pages(harness, seed, kind, within, sizes)
    found = check_store(harness.folder).problems
    delivered: dict[int, bytes] = {}
    damaged = 0
    try:
        harness.store = harness.restarted()
        messages = harness.messages
        while (taken := messages.checkout_many(7, 1 << 30))[0]:
            delivered.update(zip(*taken, strict=True))
        damaged = messages.damaged
    except StoreFailed:
        damaged = COUNT
    assert delivered.items() <= bodies.items()
    assert len(delivered) + damaged >= COUNT, "what is not delivered is counted"
    assert found or len(delivered) == COUNT


def browsed(
    harness: DiskHarness, content: bytes, step: int, *, newest_first: bool
) -> tuple[list[tuple[int, bytes]], int] | None:
    """Open a file and read all messages in pages. Return them, and how many are damaged; None if it cannot be read."""
    harness.loop.run_until_complete(harness.store.close())
    (harness.folder / DATABASE).write_bytes(content)
    found: list[tuple[int, bytes]] = []
    try:
        harness.store = harness.restarted()
        messages = harness.messages
        seq = COUNT + 1 if newest_first else 0
        while page := (messages.before if newest_first else messages.after)(seq, step, 1 << 30):
            found += page
            seq = page[-1][0]
    except StoreFailed:
        return None
    return found, messages.damaged


@PARTS
@pytest.mark.parametrize("seed", range(soaked(10, 1_000)))
def test_messages_around_damage_are_the_same_in_both_directions(
    harness: DiskHarness, seed: int, kind: str, within: int, sizes: Sequence[int]
) -> None:
    """If a key is damaged, SQLite may not find its neighbours by a search, and others in each direction."""
    bodies = rot_pages(harness, seed, kind, within, sizes)
    content, step = (harness.folder / DATABASE).read_bytes(), (1_000, 7, 1)[seed % 3]
    forwards = browsed(harness, content, step, newest_first=False)
    backwards = browsed(harness, content, step, newest_first=True)
    if forwards is None or backwards is None:
        assert forwards is backwards, "a page that cannot be read is found in both directions"
        return
    assert backwards[0] == forwards[0][::-1]
    assert dict(forwards[0]).items() <= bodies.items()
    assert len(forwards[0]) + forwards[1] >= COUNT
    assert len(backwards[0]) + backwards[1] >= COUNT


KEYED = 20


def keyed_store(harness: DiskHarness) -> tuple[Path, dict[int, bytes]]:
    """Store messages on one or more pages, close the store, and return its file and the messages by sequence number."""
    random = Random(1)
    messages = harness.open()
    bodies = {seq: random.randbytes(120) for seq in range(1, 2 * KEYED + 1)}
    for seq, body in bodies.items():
        messages.append(seq, body)
    messages.tally.next_seq = len(bodies) + 1
    harness.commit()
    harness.loop.run_until_complete(harness.store.close())
    return harness.folder / DATABASE, bodies


def flip_key(path: Path, bodies: dict[int, bytes], seq: int, bit: int) -> None:
    """Flip a bit of the lowest byte of the key of a message's row."""
    data = bytearray(path.read_bytes())
    key = bytes([*(128 | first_place(1) >> shift & 127 for shift in (35, 28, 21, 14, 7)), seq])
    for found in [each.start() for each in re.finditer(re.escape(bodies[seq]), data)]:
        at = data.rindex(key, found - 40, found)
        data[at + 5] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize(("seq", "bit"), [(9, 0), (10, 0), (9, 1), (11, 1), (7, 3), (20, 2), (20, 4), (40, 3)])
def test_a_message_whose_key_is_damaged_costs_no_neighbour(
    harness: DiskHarness, tmp_path: Path, seq: int, bit: int, step: int
) -> None:
    """The damaged key may equal that of a neighbour, which was delivered twice then, and another one not at all."""
    path, bodies = keyed_store(harness)
    flip_key(path, bodies, seq, bit)
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        rows = list(read_messages(connection, first_place(1), first_place(2)))
        assert [place - first_place(1) for place, body, _ in rows if isinstance(body, Damage)] == [seq]
        assert list(read_messages_backward(connection, first_place(1), first_place(2))) == rows[::-1]
        found = list(damaged_rows(connection))
    assert f"message {seq} of queue {QUEUE_ID} is damaged: its row has the wrong key" in found
    assert back_up(harness.folder, tmp_path / "copy.db") == (len(bodies) - 1, 1)

    harness.store = harness.restarted()
    messages = harness.messages
    taken: list[tuple[int, bytes]] = []
    while (page := messages.checkout_many(step, 1 << 30))[0]:
        taken += zip(*page, strict=True)
        assert len(messages) >= 0
    assert [each for each, _ in taken] == sorted({each for each, _ in taken})
    assert dict(taken).items() <= bodies.items()
    assert len(taken) + messages.damaged == len(bodies)
    assert len(taken) == len(bodies) - 1
    assert harness.store.stats().damaged_found == 1


@pytest.mark.parametrize("seed", range(soaked(10, 200)))
def test_reading_delivers_each_message_once_in_order_or_reports_it(harness: DiskHarness, seed: int) -> None:
    path, bodies = keyed_store(harness)
    pages = pages_of_messages(path, "leaf")
    whole = path.read_bytes()
    random = Random(seed)
    for _ in range(30):
        data = bytearray(whole)
        data[random.choice(pages) + random.randrange(PAGE_BYTES)] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            try:
                rows = list(read_messages(connection, first_place(1), first_place(2)))
            except apsw.CorruptError:
                continue
            backwards = list(read_messages_backward(connection, first_place(1), first_place(2)))
        assert [(at, body) for at, body, _ in backwards if isinstance(body, bytes)] == [
            (at, body) for at, body, _ in reversed(rows) if isinstance(body, bytes)
        ]
        read = [(place - first_place(1), body) for place, body, _ in rows if isinstance(body, bytes)]
        assert [seq for seq, _ in read] == sorted({seq for seq, _ in read})
        assert dict(read).items() <= bodies.items()
        assert len(rows) == len({place for place, _, _ in rows}) == len(bodies)

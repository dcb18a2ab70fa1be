"""Files of older versions are migrated without loss, even if the process is killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from queuelet.core.budget import MemoryBudget
from queuelet.core.storage import StoredQueue
from queuelet.core.stored_form import decode
from queuelet.definition import MessageState
from queuelet.errors import StoreFailed
from queuelet.stores.disk import DiskStore, migrations
from queuelet.stores.disk.backup import back_up, restore
from queuelet.stores.disk.check import check_store
from queuelet.stores.disk.data_dir import DATABASE, LOG
from queuelet.stores.disk.schema import VERSION
from support.logged_process import clean_environment
from support.pages import samples
from support.server_process import ServerProcess

VERSION_1 = Path(__file__).with_name("disk_version_1")
OWN_ID = b"0d6a0000-0000-4000-8000-00000000000%d"
REQUEST_ID = b"p0d6a0000-0000-4000-8000-00000000000a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder as a killed server of version 1 left it."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (DATABASE, LOG):
        shutil.copyfile(VERSION_1 / name, folder / name)
    return folder


def version_of(path: Path) -> int:
    """Return the version of a database."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return int(str(connection.pragma("user_version")))


def opened(folder: Path, progress: list[str] | None = None) -> dict[str, StoredQueue]:
    """Open a store, close it, and return its queues by name."""

    async def run() -> dict[str, StoredQueue]:
        report = (progress if progress is not None else []).append
        store = DiskStore(folder, budget=MemoryBudget(1 << 40), on_progress=report)
        queues = {queue.definition.name: queue for queue in store.queues()}
        assert_is_all_of_version_1(queues)
        await store.close()
        return queues

    return asyncio.run(run())


def assert_is_all_of_version_1(queues: dict[str, StoredQueue]) -> None:
    """Check that a store has everything that `disk_version_1/make.py` has put in."""
    assert list(queues) == ["states", "sizes", "answers", "empty"]
    states, sizes = queues["states"], queues["sizes"].messages
    assert (states.definition.limit, states.definition.delivery.lease_seconds) == (1_000, 60)
    assert [tuple(tag) for tag in states.definition.tags] == [("team", "käse"), ("team", "")]
    messages = states.messages
    payloads = {seq: decode(body).payload for seq, body in messages.after(0, 100, 1 << 20)}
    assert payloads == {
        1: b"leased",
        2: b"nacked",
        3: b"delayed by a nack",
        4: b"dead",
        5: b"redriven",
        6: b"urgent",
        7: b"delayed by its producer",
        8: b"with an id",
        9: b"urgent, with an id",
        10: b"",
    }
    assert {payloads[seq]: delivery.state for seq, delivery in messages.deliveries.items()} == {
        b"leased": MessageState.LEASED,
        b"nacked": MessageState.READY,
        b"delayed by a nack": MessageState.DELAYED,
        b"dead": MessageState.DEAD,
        b"redriven": MessageState.READY,
    }
    assert {delivery.consumer for delivery in messages.deliveries.values()} == {"a worker, ünïcode"}
    assert [seq for seq, delivery in messages.deliveries.items() if delivery.superseded] == [5]
    assert not any(delivery.by_stream for delivery in messages.deliveries.values())
    assert {seq: rank.priority for seq, rank in messages.ranks.items()} == {5: 0, 6: -7, 7: 0, 9: -1}
    assert messages.ranks[7].ttl == 999_999 * 10**9
    assert [messages.seq_of(OWN_ID % number) for number in (1, 2)] == [8, 9]
    assert messages.tally.next_seq > 10
    assert (messages.tally.enqueued, messages.tally.nacked) == (10, 4)
    assert [decode(body).payload for _, body in sizes.after(0, 100, 1 << 20)] == [
        b"x" * size for size in (1, 100, 1_000, 5_000, 20_000)
    ]
    response = queues["answers"].messages.response(REQUEST_ID)
    assert response is not None
    assert decode(response).payload == b"popped with a request id"
    assert len(queues["answers"].messages) == len(queues["empty"].messages) == 0


def test_a_file_of_version_1_is_opened_with_all_it_holds(folder: Path) -> None:
    progress: list[str] = []
    before = opened(folder, progress)
    assert version_of(folder / DATABASE) == VERSION
    assert not check_store(folder).problems
    assert any("writing version 2: all 16 rows of messages" in each for each in progress)
    again = opened(folder, progress := [])
    assert not progress, "it is migrated once"
    assert [queue.queue_id for queue in again.values()] == [queue.queue_id for queue in before.values()]


def test_the_old_file_is_kept_under_its_version_and_is_whole(folder: Path, tmp_path: Path) -> None:
    opened(folder)
    kept = folder / "queuelet.db.version-1"
    assert version_of(kept) == 1
    assert restore(kept, tmp_path / "new").messages == 15
    opened(tmp_path / "new")
    shutil.copyfile(kept, folder / DATABASE)  # as after going back to the older version and migrating again
    opened(folder)
    assert version_of(folder / "queuelet.db.version-1.2") == 1


def test_a_file_system_without_links_keeps_a_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    opened(folder)
    assert version_of(folder / "queuelet.db.version-1") == 1
    assert not list(folder.glob("*.unfinished"))


def test_a_disk_without_space_for_the_new_file_is_reported_before_anything_is_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(migrations, "free_bytes", lambda _: 1_000)
    with pytest.raises(StoreFailed, match=r"too little space to migrate it: 1,000 bytes are free and [\d,]+ are"):
        opened(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


KILLED = """
import os, sys
from pathlib import Path
from queuelet.stores.disk.database import open_for_writing

left = int(sys.argv[2])

def trace(event, arguments):
    global left
    if event in {"open", "os.rename", "os.link", "os.remove"} and "queuelet.db" in str(arguments):
        left -= 1
        if left == 0:
            os._exit(9)

sys.addaudithook(trace)

def progress(doing):
    trace("open", "queuelet.db")

open_for_writing(Path(sys.argv[1]) / "queuelet.db", progress=progress).close()
print(left)
"""


def killed_migrations(folder: Path, root: Path) -> Iterator[Path]:
    """Yield folders in which a migration was killed, one for each of its steps."""
    for step in range(1, 1_000):
        copy = root / str(step)
        shutil.copytree(folder, copy)
        ran = subprocess.run([sys.executable, "-c", KILLED, copy, str(step)], check=False, env=clean_environment())
        yield copy
        if ran.returncode == 0:
            return
        assert ran.returncode == 9


def test_a_migration_that_is_killed_at_any_step_is_done_at_the_next_start(folder: Path, tmp_path: Path) -> None:
    count = 0
    for count, left in enumerate(killed_migrations(folder, tmp_path / "killed"), 1):  # noqa: B007  # asserted below
        opened(left)
        assert version_of(left / DATABASE) == VERSION
        assert [file.name for file in left.glob("*.version-*")] == ["queuelet.db.version-1"]
        assert not list(left.glob("*.next*"))
    assert count > 15


def test_a_damaged_file_of_an_older_version_is_refused_and_left_as_it_is(folder: Path) -> None:
    connection = apsw.Connection(str(folder / DATABASE))
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'messages'").fetchall()[0][0]
    connection.close()
    assert isinstance(root, int)
    content = bytearray((folder / DATABASE).read_bytes())
    content[(root - 1) * 4_096 : (root - 1) * 4_096 + 8] = bytes(8)
    (folder / DATABASE).write_bytes(content)
    with pytest.raises(StoreFailed, match="is damaged"):
        opened(folder)
    assert (folder / DATABASE).read_bytes() == content
    assert version_of(folder / DATABASE) == 1


def test_a_store_of_an_older_version_is_checked_and_backed_up_as_it_is(folder: Path, tmp_path: Path) -> None:
    assert not check_store(folder).problems
    assert back_up(folder, tmp_path / "copy.db").messages == 15
    assert version_of(tmp_path / "copy.db") == version_of(folder / DATABASE) == 1


def test_a_backup_of_an_older_version_is_restored(folder: Path, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "copy.db")
    assert restore(tmp_path / "copy.db", tmp_path / "new").messages == 15
    assert {file.name for file in (tmp_path / "new").iterdir()} == {DATABASE, "queuelet.lock"}
    assert version_of(tmp_path / "new" / DATABASE) == VERSION
    opened(tmp_path / "new")


def test_a_server_migrates_at_its_start_and_logs_it(folder: Path) -> None:
    with ServerProcess("--data-dir", str(folder)) as server:
        logged = server.log("migrating the disk store")
        assert logged[-1]["doing"] == f"the store now has version {VERSION}"
        assert samples(f"{server.metrics_url}/metrics", "queuelet_disk_open")[""] == 1
        assert server.stop() == 0

"""`queuelet backup`, `queuelet restore` and `queuelet check`, on stores in use and on damaged ones."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import apsw
import pytest

from queuelet.cli import data, run
from queuelet.core.message import Rank
from queuelet.errors import StoreFailed
from queuelet.stores.disk import backup
from queuelet.stores.disk.data_dir import DATABASE, LOCK, LOG, DataDirLock
from queuelet.stores.disk.database import inspecting
from queuelet.stores.disk.remedies import NOT_SALVAGED, SALVAGE, SET_ASIDE
from queuelet.stores.durable.places import SEQ_BITS
from support.disk_harness import DiskHarness
from support.logged_process import clean_environment


class Ran:
    """The result of a command."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out
        self.err = err.decode()

    @property
    def json(self) -> Any:  # noqa: ANN401  # any JSON
        return json.loads(self.out)


Queuelet = Callable[..., Ran]


@pytest.fixture
def queuelet(capsysbinary: pytest.CaptureFixture[bytes]) -> Queuelet:
    """Runs a command in this process."""

    def call(*arguments: str | Path) -> Ran:
        code = run([str(argument) for argument in arguments])
        return Ran(code, *capsysbinary.readouterr())

    return call


@pytest.fixture
def harness() -> Iterator[DiskHarness]:
    """A store with ten messages in one queue."""
    harness = DiskHarness()
    messages = harness.open()
    for seq in range(1, 10):
        messages.append(seq, b"message %d" % seq)
    messages.keep(10, b"ranked", Rank(1, 2, 3, 4))
    messages.store_response(b"key", 10, b"response")
    messages.tally.next_seq = 11
    harness.commit()
    yield harness
    harness.close()


# Backup


def test_a_backup_of_a_store_in_use_can_be_restored(harness: DiskHarness, queuelet: Queuelet, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    made = queuelet("backup", "--data-dir", harness.folder, copy)
    assert (made.code, made.json) == (0, {"file": str(copy), "messages": 10, "damaged": 0})
    harness.messages.append(11, b"later")
    harness.commit()
    epoch, token = harness.store.epoch, harness.store.first_token

    folder = tmp_path / "new"
    restored = queuelet("restore", "--data-dir", folder, copy)
    assert (restored.code, restored.json) == (0, {"data_dir": str(folder), "messages": 10, "damaged": 0})
    messages = harness.move_to(folder)
    assert [seq for seq, _ in messages.after(0, 100, 1 << 40)] == list(range(1, 11))
    assert messages.ranks == {10: Rank(1, 2, 3, 4)}
    assert messages.response(b"key") == b"response"
    assert harness.store.epoch != epoch
    assert harness.store.first_token > token + 2**40
    assert queuelet("check", "--data-dir", folder).json["problems"] == []


def test_a_backup_under_load_is_one_moment_of_the_store(harness: DiskHarness, tmp_path: Path) -> None:
    messages = harness.messages
    made: list[int] = []
    for number in range(5):
        thread = Thread(target=lambda: made.append(backup.back_up(harness.folder, tmp_path / f"{number}.db").messages))  # noqa: B023  # joined below
        thread.start()
        seq = messages.tally.next_seq
        while thread.is_alive():
            # Each commit adds two messages and takes one, so the lowest number determines how many there are.
            messages.append(seq, bytes(1_000))
            messages.append(seq + 1, bytes(1_000))
            messages.take()
            seq += 2
            messages.tally.next_seq = seq
            harness.commit()
        thread.join()
        places = rows_of(tmp_path / f"{number}.db", "SELECT place FROM messages ORDER BY place")
        seqs = [place & (1 << SEQ_BITS) - 1 for (place,) in places if isinstance(place, int)]
        line = [seq for seq in seqs if seq != 10]
        assert len(seqs) == made[number]
        assert line == [seq for seq in range(line[0], line[-1] + 1) if seq != 10]  # one moment: no gap


def test_a_backup_needs_a_store_and_a_free_name(queuelet: Queuelet, harness: DiskHarness, tmp_path: Path) -> None:
    (tmp_path / "there.db").write_text("mine")
    assert_refused(queuelet("backup", "--data-dir", tmp_path, tmp_path / "new.db"), "back up: there is no store in")
    assert_refused(
        queuelet("backup", "--data-dir", harness.folder, tmp_path / "there.db"),
        "already exists; give a name that is free",
    )
    assert (tmp_path / "there.db").read_text() == "mine"


def test_a_backup_that_fails_leaves_nothing(queuelet: Queuelet, harness: DiskHarness, tmp_path: Path) -> None:
    assert queuelet("backup", "--data-dir", harness.folder, tmp_path / "no folder" / "copy.db").code == 1
    plant(harness, "DELETE FROM messages WHERE place & 15 = 3")
    assert_refused(queuelet("backup", "--data-dir", harness.folder, tmp_path / "copy.db"), "is damaged: queue")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_reports_what_it_left_out(queuelet: Queuelet, harness: DiskHarness, tmp_path: Path) -> None:
    plant(harness, "UPDATE messages SET body = CAST(body || 'x' AS BLOB) WHERE place & 15 IN (3, 10)")
    made = queuelet("backup", "--data-dir", harness.folder, tmp_path / "copy.db")
    assert (made.code, made.json["messages"], made.json["damaged"]) == (0, 8, 2)
    assert "2 messages left out because they are damaged" in made.err
    assert queuelet("restore", "--data-dir", tmp_path / "new", tmp_path / "copy.db").json["damaged"] == 0


def test_backups_of_the_same_name_do_not_disturb_each_other(harness: DiskHarness, tmp_path: Path) -> None:
    """The first one to finish stays, and the other one fails."""
    target = tmp_path / "copy.db"

    def make_another(doing: str) -> None:
        if doing == "reading every page":
            assert backup.back_up(harness.folder, target).messages == 10

    with pytest.raises(StoreFailed, match=r"copy\.db already exists"):
        backup.back_up(harness.folder, target, make_another)
    assert list(tmp_path.iterdir()) == [target]
    assert backup.restore(target, tmp_path / "new").messages == 10


def test_a_disk_too_small_for_the_backup_is_not_blamed_on_the_store(harness: DiskHarness, tmp_path: Path) -> None:
    for seq in range(11, 200):
        harness.messages.append(seq, bytes(1_000))
    harness.commit()
    command = ["backup", "--data-dir", str(harness.folder), str(tmp_path / "copy.db")]
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", sys.executable, "-m", "queuelet", *command]
    ended = subprocess.run(limited, check=False, capture_output=True, env=clean_environment())
    assert_refused(Ran(ended.returncode, ended.stdout, ended.stderr), f"cannot be copied to {tmp_path / 'copy.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_command_that_is_ended_by_a_signal_leaves_nothing(  # noqa: PLR0917  # fixtures and parameters
    queuelet: Queuelet,
    harness: DiskHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    number: signal.Signals,
    code: int,
) -> None:
    ready, folder = tmp_path / "ready.db", tmp_path / "new"
    assert backup.back_up(harness.folder, ready).messages == 10
    handler = signal.getsignal(number)
    last = {"backup": "reading every page", "restore": "copying"}[command]
    monkeypatch.setattr(data, "_say", lambda doing: os.kill(os.getpid(), number) if doing == last else None)
    if command == "backup":
        ended = queuelet("backup", "--data-dir", harness.folder, tmp_path / "copy.db")
    else:
        ended = queuelet("restore", "--data-dir", folder, ready)
    assert (ended.code, ended.out) == (code, b"")
    assert signal.getsignal(number) is handler
    assert {file.name for file in tmp_path.rglob("*")} <= {"ready.db", "new", "queuelet.lock"}


def test_a_long_statement_is_ended_by_a_signal(harness: DiskHarness) -> None:
    """Python handles signals only while its own code runs, and copying a large store is one SQLite statement."""
    counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1e12) SELECT max(i) FROM n"
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        with pytest.raises(KeyboardInterrupt), inspecting(harness.folder / DATABASE) as connection:
            connection.execute(counting)
    finally:
        signal.signal(signal.SIGUSR1, before)


# Restore


def test_a_store_is_restored_from_the_file_of_another_with_its_log(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path
) -> None:
    """The newest messages are in the log, because the server was killed."""
    killed, new = leave_with_log(harness, tmp_path), tmp_path / "new"
    restored = queuelet("restore", "--data-dir", new, killed / DATABASE)
    assert (restored.code, restored.json) == (0, {"data_dir": str(new), "messages": 59, "damaged": 0})
    assert seqs_in(harness, new) == list(range(1, 60))


@pytest.mark.parametrize("name", ["itself", "a symbolic link", "a hard link"])
def test_a_store_is_not_restored_from_its_own_file(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path, name: str
) -> None:
    killed = leave_with_log(harness, tmp_path)
    source = tmp_path / "link.db"
    if name == "itself":
        source = killed / DATABASE
    elif name == "a symbolic link":
        source.symlink_to(killed / DATABASE)
    else:
        source.hardlink_to(killed / DATABASE)
    before = files_of(killed)
    refused = queuelet("restore", "--data-dir", killed, "--force", source)
    assert_refused(refused, f"{source} is the database of that store and not a backup")
    assert {name: content for name, content in files_of(killed).items() if name in before} == before
    assert seqs_in(harness, killed) == list(range(1, 60))


def test_files_of_a_killed_restore_do_not_end_up_in_the_next_one(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    queuelet("backup", "--data-dir", harness.folder, copy)
    killed, new = leave_with_log(harness, tmp_path), tmp_path / "new"
    new.mkdir()
    shutil.copyfile(killed / DATABASE, new / "queuelet.db.unfinished")
    shutil.copyfile(killed / LOG, new / "queuelet.db.unfinished-wal")
    assert queuelet("restore", "--data-dir", new, copy).code == 0
    assert seqs_in(harness, new) == list(range(1, 11))
    assert not list(new.glob("*.unfinished*"))


def leave_with_log(harness: DiskHarness, tmp_path: Path) -> Path:
    """Return a folder as a killed process leaves it: with 59 messages, the newest of them only in the log."""
    for seq in range(11, 60):
        harness.messages.append(seq, bytes(1_000))
    harness.commit()
    harness.leave_behind_in(tmp_path / "killed")
    assert (tmp_path / "killed" / LOG).stat().st_size
    return tmp_path / "killed"


def test_a_store_is_replaced_only_with_force(queuelet: Queuelet, harness: DiskHarness, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    queuelet("backup", "--data-dir", harness.folder, copy)
    harness.messages.clear()
    harness.loop.run_until_complete(harness.store.close())
    assert_refused(queuelet("restore", "--data-dir", harness.folder, copy), "already has a store")
    assert queuelet("restore", "--data-dir", harness.folder, "--force", copy).code == 0
    assert len(harness.move_to(harness.folder)) == 10


def test_a_refused_restore_removes_the_folders_that_it_created(queuelet: Queuelet, tmp_path: Path) -> None:
    damaged, present = tmp_path / "damaged.db", tmp_path / "present"
    damaged.write_bytes(b"not a database" * 1_000)
    assert_refused(queuelet("restore", "--data-dir", present / "new" / "data", damaged), str(damaged))
    assert list(tmp_path.iterdir()) == [damaged]
    present.mkdir()
    (present / "notes").touch()
    assert_refused(queuelet("restore", "--data-dir", present / "data", damaged), str(damaged))
    assert list(present.iterdir()) == [present / "notes"]
    assert_refused(queuelet("restore", "--data-dir", present, damaged), str(damaged))
    assert (present / "notes").exists()


def test_a_lock_file_that_was_removed_meanwhile_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def removed_before(file: int, operation: int) -> None:
        (tmp_path / LOCK).unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    with pytest.raises(StoreFailed, match="was removed by a `queuelet restore` that failed; run the command again"):
        DataDirLock(tmp_path)


def test_a_store_in_use_is_not_overwritten(queuelet: Queuelet, harness: DiskHarness, tmp_path: Path) -> None:
    queuelet("backup", "--data-dir", harness.folder, tmp_path / "copy.db")
    refused = queuelet("restore", "--data-dir", harness.folder, "--force", tmp_path / "copy.db")
    assert_refused(refused, "is in use by another process")
    assert len(harness.messages) == 10


def test_the_log_of_the_store_before_does_not_end_up_in_the_restored_one(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    queuelet("backup", "--data-dir", harness.folder, copy)
    for seq in range(11, 200):
        harness.messages.append(seq, bytes(1_000))
    harness.commit()
    harness.leave_behind_in(tmp_path / "killed")
    assert (tmp_path / "killed" / "queuelet.db-wal").stat().st_size
    assert queuelet("restore", "--data-dir", tmp_path / "killed", "--force", copy).code == 0
    assert len(harness.move_to(tmp_path / "killed")) == 10


def seqs_in(harness: DiskHarness, folder: Path) -> list[int]:
    """Return the sequence numbers of the messages in the store of a folder, none if it is refused."""
    try:
        return [seq for seq, _ in harness.move_to(folder).after(0, 1_000, 1 << 40)]
    except StoreFailed:
        return []


@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
def test_a_restore_that_is_killed_leaves_the_old_store_or_the_new_one(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path, *, is_damaged: bool
) -> None:
    copy, before, root = tmp_path / "copy.db", tmp_path / "before", tmp_path / "restored"
    queuelet("backup", "--data-dir", harness.folder, copy)
    leave_with_log(harness, tmp_path).rename(before)
    if is_damaged:
        (before / DATABASE).write_bytes(b"not a database" * 1_000)
    subprocess.run(
        [sys.executable, "-m", "support.killed_restore", before, copy, root],
        check=True,
        env={**clean_environment(), "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    old, new = [] if is_damaged else list(range(1, 60)), list(range(1, 11))
    left = [seqs_in(harness, root / str(number)) for number in range(1, 1 + len(list(root.iterdir())))]
    assert len(left) > 20
    assert left[0] == old
    assert left[-1] == new
    assert all(seqs in (old, list(range(1, 60)), new) for seqs in left)


def test_a_store_that_is_being_read_is_not_overwritten(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "BUSY_TIMEOUT_MS", 0)
    queuelet("backup", "--data-dir", harness.folder, tmp_path / "copy.db")
    harness.leave_behind_in(tmp_path / "killed")
    with inspecting(tmp_path / "killed" / DATABASE) as connection, connection:
        connection.execute("SELECT * FROM meta").fetchall()
        refused = queuelet("restore", "--data-dir", tmp_path / "killed", "--force", tmp_path / "copy.db")
    assert_refused(refused, "is being read by a backup or a check")
    assert seqs_in(harness, tmp_path / "killed") == list(range(1, 11))


@pytest.mark.parametrize(
    ("backup_of", "error"),
    [
        ("nothing", "there is no backup"),
        ("text", "is not a Queuelet database, or its beginning is damaged; use another backup"),
        ("few bytes", "(it is empty or truncated); use another backup"),
        ("half a store", "; use another backup"),
        ("a store with damage", "but its counts say 10 of 87; use another backup"),
        ("another program's", "but not one of Queuelet's; use another backup"),
    ],
)
def test_a_file_that_is_not_a_complete_backup_is_refused_and_leaves_the_store(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path, backup_of: str, error: str
) -> None:
    copy = tmp_path / "copy.db"
    if backup_of != "nothing":
        queuelet("backup", "--data-dir", harness.folder, copy)
    if backup_of == "text":
        copy.write_text("not a database" * 100)
    elif backup_of == "few bytes":
        copy.write_bytes(copy.read_bytes()[:20])
    elif backup_of == "half a store":
        copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    elif backup_of == "a store with damage":
        connection = apsw.Connection(str(copy))
        connection.execute("DELETE FROM messages WHERE place & 1")
        connection.close()
    elif backup_of == "another program's":
        connection = apsw.Connection(str(copy))
        connection.pragma("application_id", 1)
        connection.close()
    harness.loop.run_until_complete(harness.store.close())
    before = (harness.folder / DATABASE).read_bytes()
    refused = queuelet("restore", "--data-dir", harness.folder, "--force", copy)
    assert_refused(refused, error)
    assert "move the folder" not in refused.err
    assert (harness.folder / DATABASE).read_bytes() == before
    assert not list(harness.folder.glob("*.unfinished*"))


# Check


def plant(harness: DiskHarness, statement: str) -> None:
    """Change the database while the store is open."""
    connection = apsw.Connection(str(harness.folder / DATABASE))
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "problem", "remedy"),
    [
        ("UPDATE tallies SET bytes = 1", "holds 10 messages of 87 bytes, but its counts say 10 of 1", NOT_SALVAGED),
        (
            "DELETE FROM messages WHERE place & 15 = 3",
            "holds 9 messages of 78 bytes, but its counts say 10 of 87",
            SALVAGE,
        ),
        ("DELETE FROM messages WHERE place & 15 = 10", "1 rows of ranks belong to no message", SALVAGE),
        ("INSERT INTO messages VALUES (99 << 40, NULL, 0, x'')", "1 rows of messages belong to no queue", SALVAGE),
        ("UPDATE answers SET number = 99", "1 rows of answers belong to no queue", SALVAGE),
        ("UPDATE ranks SET checksum = 1", "a row of ranks is damaged", SET_ASIDE),
        ("UPDATE meta SET value = value", "", ""),
        ("UPDATE messages SET own_id = x'41'", "1 IDs given by producers belong to several messages", SALVAGE),
        ("DELETE FROM meta", "the store has no epoch", NOT_SALVAGED),
    ],
)
def test_check_reports_problems_and_what_to_do(
    queuelet: Queuelet, harness: DiskHarness, statement: str, problem: str, remedy: str
) -> None:
    plant(harness, statement)
    ran = queuelet("check", "--data-dir", harness.folder)
    assert ran.code == bool(problem)
    assert problem in "\n".join(ran.json["problems"])
    assert bool(ran.json["problems"]) == bool(problem)
    assert ran.json["remedy"] == remedy


def test_check_finds_a_flipped_bit_in_the_tree_of_messages(queuelet: Queuelet, harness: DiskHarness) -> None:
    messages = harness.messages
    for seq in range(11, 1_000):
        messages.append(seq, bytes(1_000))
    harness.commit()
    harness.loop.run_until_complete(harness.store.close())
    content = bytearray((harness.folder / DATABASE).read_bytes())
    page = len(content) // 2 // 4_096 * 4_096
    content[page : page + 8] = bytes(8)
    (harness.folder / DATABASE).write_bytes(content)
    ran = queuelet("check", "--data-dir", harness.folder)
    assert ran.code == 1
    assert "damaged" in ran.json["problems"][0]


def test_check_fails_if_there_is_no_store(queuelet: Queuelet, tmp_path: Path) -> None:
    assert_refused(queuelet("check", "--data-dir", tmp_path), "cannot check: there is no store in")


def test_the_data_dir_may_come_from_a_variable(
    queuelet: Queuelet, harness: DiskHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUELET_CHECK_DATA_DIR", str(harness.folder))
    assert queuelet("check").code == 0


def test_users_read_sentences_on_a_terminal(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    made = queuelet("backup", "--data-dir", harness.folder, tmp_path / "copy.db")
    assert made.out.decode() == f"{tmp_path / 'copy.db'} holds 10 messages.\n"
    assert "copying ...\nreading every page ..." in made.err
    assert queuelet("check", "--data-dir", harness.folder).out.decode() == f"{harness.folder}: no damage found.\n"
    plant(harness, "UPDATE ranks SET checksum = 1")
    problem, what_to_do = queuelet("check", "--data-dir", harness.folder).out.decode().splitlines()
    assert problem.startswith("a row of ranks is damaged")
    assert what_to_do == f"What to do: {SET_ASIDE}."


# Read-only folders

ReadOnly = Callable[[Path], Path]


@pytest.fixture
def read_only(harness: DiskHarness, tmp_path: Path) -> Iterator[ReadOnly]:
    """Makes the files of a folder available in a read-only folder."""
    shown = tmp_path / "read only"
    mounted: list[Path] = []

    def show(folder: Path) -> Path:
        if os.geteuid():
            shutil.copytree(folder, shown)
            shown.chmod(0o555)
            return shown
        shown.mkdir()
        for options in (["--bind", str(folder)], ["--options", "remount,bind,ro"]):
            mount = ["mount", *options, str(shown)]
            if subprocess.run(mount, check=False, capture_output=True).returncode:
                pytest.skip("root may write everywhere but on a read-only mount, and may not mount one here")
            mounted[:] = [shown]
        return shown

    yield show
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
    if shown.exists():
        shown.chmod(0o755)


def run_apart(*arguments: str | Path) -> Ran:
    """Run a command in another process, because SQLite shares the state of a file within a process."""
    ran = subprocess.run(
        [sys.executable, "-m", "queuelet", *arguments], check=False, capture_output=True, env=clean_environment()
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of the files of a store, without that of the shared memory, because readers change it."""
    return {file.name: b"" if file.name.endswith("-shm") else file.read_bytes() for file in folder.iterdir()}


def copy_all(folder: Path, to: Path) -> None:
    """Copy the files that a killed process leaves, including its shared memory."""
    shutil.copytree(folder, to)


def close(harness: DiskHarness) -> None:
    """Close the store."""
    harness.loop.run_until_complete(harness.store.close())


@pytest.mark.parametrize("state", ["closed", "in use", "killed"])
def test_a_store_can_be_checked_and_backed_up_in_a_read_only_folder(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path, read_only: ReadOnly, state: str
) -> None:
    copy, source = tmp_path / "copy.db", harness.folder
    if state == "killed":
        source = tmp_path / "killed"
        harness.in_writer(partial(copy_all, harness.folder, source))
    elif state == "closed":
        close(harness)
    folder = read_only(source)
    before = files_of(folder)
    assert run_apart("check", "--data-dir", folder).json["problems"] == []
    assert run_apart("backup", "--data-dir", folder, copy).json["messages"] == 10
    assert files_of(folder) == before
    assert queuelet("restore", "--data-dir", tmp_path / "new", copy).code == 0


def test_check_finds_damage_in_a_read_only_folder(
    queuelet: Queuelet, harness: DiskHarness, read_only: ReadOnly
) -> None:
    plant(harness, "UPDATE tallies SET bytes = 1")
    close(harness)
    ran = queuelet("check", "--data-dir", read_only(harness.folder))
    assert ran.code == 1
    assert "its counts say 10 of 1" in ran.json["problems"][0]


def test_a_log_that_cannot_be_read_is_reported_with_a_remedy(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path, read_only: ReadOnly
) -> None:
    harness.leave_behind_in(tmp_path / "left")
    folder = read_only(tmp_path / "left")
    remedy = "run this where the folder can be written to, or copy queuelet.db and queuelet.db-wal"
    assert_refused(queuelet("check", "--data-dir", folder), remedy)
    assert_refused(queuelet("backup", "--data-dir", folder, tmp_path / "copy.db"), remedy)
    assert not (tmp_path / "copy.db").exists()


def test_a_store_can_be_restored_from_a_read_only_folder(
    queuelet: Queuelet, harness: DiskHarness, tmp_path: Path, read_only: ReadOnly
) -> None:
    close(harness)
    assert (
        queuelet("restore", "--data-dir", tmp_path / "new", read_only(harness.folder) / DATABASE).json["messages"] == 10
    )


def test_a_backup_into_a_folder_that_cannot_be_written_is_refused(
    queuelet: Queuelet, harness: DiskHarness, read_only: ReadOnly
) -> None:
    target = read_only(harness.folder) / "copy.db"
    assert_refused(queuelet("backup", "--data-dir", harness.folder, target), f"{target} cannot be used")


def test_changes_to_the_files_of_a_read_only_folder_are_detected(harness: DiskHarness, read_only: ReadOnly) -> None:
    close(harness)
    path = read_only(harness.folder) / DATABASE
    changed = path if os.geteuid() else harness.folder / DATABASE
    with pytest.raises(StoreFailed, match="was changed while it was read"), inspecting(path):
        os.utime(changed, ns=(1, 1))


def rows_of(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = connection.execute(statement).fetchall()
    connection.close()
    return rows


def assert_refused(ran: Ran, error: str) -> None:
    """Check that a command failed with an error."""
    assert ran.code == 1
    assert ran.out == b""
    assert ran.err.startswith("queuelet: cannot ")
    assert error in ran.err

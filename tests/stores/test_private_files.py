"""Only the server's user can read the files of a store, and the store refuses files that are symbolic links."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from queuelet.errors import StoreFailed
from queuelet.stores.disk.backup import back_up, restore
from queuelet.stores.disk.check import check_store
from queuelet.stores.disk.data_dir import DATABASE, LOCK, LOG, RESERVE
from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli
from support.disk_harness import DiskHarness
from support.rpc import Rpc
from support.server_process import ServerProcess

VERSION_1 = Path(__file__).with_name("disk_version_1")


@pytest.fixture
def harness() -> Iterator[DiskHarness]:
    harness = DiskHarness()
    harness.open().append(1, b"one")
    harness.commit()
    yield harness
    harness.close()


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes_of(folder: Path) -> dict[str, str]:
    """Return the permissions of all files in a folder, and of the folder itself under `.`."""
    return {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.lstat().st_mode)) for path in (folder, *folder.iterdir())
    }


def test_a_server_makes_its_folder_and_files_for_itself_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    with ServerProcess("--data-dir", str(folder)) as server, closing(Rpc(server.address)) as rpc:
        rpc.call("NewQueue", pb.NewQueueRequest(name="disk", store=pb.Queue.DISK, limit=-1), pb.NewQueueResponse)
        rpc.add("disk", b"one")
        modes = modes_of(folder)
        assert modes.pop(".") == "0o700"
        assert set(modes) >= {DATABASE, LOG, f"{DATABASE}-shm", LOCK, RESERVE}
        assert set(modes.values()) == {"0o600"}
        backup = tmp_path / "backup.db"
        assert Cli()("backup", "--data-dir", str(folder), str(backup)).code == 0
        server.signal(signal.SIGKILL)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert Cli()("restore", "--data-dir", str(tmp_path / "restored"), str(backup)).code == 0
    modes = modes_of(tmp_path / "restored")
    assert modes.pop(".") == "0o700"
    assert set(modes.values()) == {"0o600"}


def test_files_of_an_older_version_are_closed_to_others(harness: DiskHarness, tmp_path: Path) -> None:
    shutil.copytree(VERSION_1, tmp_path / "old")
    for path in (tmp_path / "old").iterdir():
        path.chmod(0o644)
    for name in (LOCK, RESERVE):
        (tmp_path / "old" / name).touch(0o644)
    (tmp_path / "old" / "make.py").unlink()
    harness.move_to(tmp_path / "old")
    modes = modes_of(tmp_path / "old")
    del modes["."]
    assert f"{DATABASE}.version-1" in modes
    assert set(modes.values()) == {"0o600"}


@pytest.mark.parametrize("name", [LOCK, RESERVE, DATABASE])
def test_a_store_does_not_open_through_a_symbolic_link(harness: DiskHarness, tmp_path: Path, name: str) -> None:
    harness.loop.run_until_complete(harness.store.close())
    victim = tmp_path / "victim"
    if name == DATABASE:
        (harness.folder / DATABASE).rename(victim)
    else:
        victim.write_text("precious")
        (harness.folder / name).unlink(missing_ok=True)
    (harness.folder / name).symlink_to(victim)
    before = victim.read_bytes()
    with pytest.raises(StoreFailed, match=rf"{name} is a symbolic link; "):
        harness.restarted()
    assert victim.read_bytes() == before
    if name == DATABASE:
        with pytest.raises(StoreFailed, match="is a symbolic link"):
            check_store(harness.folder)
        with pytest.raises(StoreFailed, match="is a symbolic link"):
            back_up(harness.folder, tmp_path / "copy.db")
    (harness.folder / name).unlink()
    if name == DATABASE:
        victim.rename(harness.folder / DATABASE)
    harness.store = harness.restarted()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_the_log_of_a_store_is_not_a_symbolic_link(harness: DiskHarness, tmp_path: Path, suffix: str) -> None:
    harness.loop.run_until_complete(harness.store.close())
    (tmp_path / "victim").write_text("precious")
    link = harness.folder / f"{DATABASE}{suffix}"
    link.symlink_to(tmp_path / "victim")
    with pytest.raises(StoreFailed, match="is a symbolic link; "):
        harness.restarted()
    assert (tmp_path / "victim").read_text() == "precious"
    link.unlink()
    harness.store = harness.restarted()


def test_a_backup_is_not_written_through_a_symbolic_link(harness: DiskHarness, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreFailed, match="already exists"):
        back_up(harness.folder, target)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_and_a_backup_may_be_named_by_a_symbolic_link(harness: DiskHarness, tmp_path: Path) -> None:
    back_up(harness.folder, tmp_path / "monday.db")
    (tmp_path / "latest.db").symlink_to("monday.db")
    (tmp_path / "real").mkdir()
    (tmp_path / "data").symlink_to("real")
    assert restore(tmp_path / "latest.db", tmp_path / "data").messages == 1
    assert len(harness.move_to(tmp_path / "data")) == 1

"""A disk that fails on demand, as a layer of SQLite over the system: full, broken, or without power.

It remembers what was written to each file since its last sync, and can tell what a loss of power would leave: what was
synced, and of the rest nothing, or any part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import apsw

SECTOR = 512
"""The bytes a disk writes whole or not at all."""


@dataclass
class Written:
    """A file as its disk has it, and what is on the way there."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Writes since the last sync, with their offsets; None is a cut at the offset."""

    def sync(self) -> None:
        """Have all on the disk."""
        self.durable = self.after(self.pending)
        self.pending = []

    def after(self, writes: list[tuple[int, bytes | None]]) -> bytearray:
        """Return the content with these writes done."""
        content = self.durable
        for offset, data in writes:
            if data is None:
                del content[offset:]
                continue
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        return content

    def after_power_loss(self, random: Random | None) -> bytes:
        """Return what is left: no write since the last sync, or random sectors of them."""
        kept = [part for write in self.pending for part in _torn(write, random)] if random else []
        return bytes(Written(bytearray(self.durable)).after(kept))


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong at present."""

    sync: bool = False
    """Syncs fail. What they should have kept is lost, unless it is written again."""
    write: bool = False
    read: bool = False
    capacity: int | None = None
    """The bytes that all files of one folder may have together; None for no bound."""


class FaultyDisk:
    """What happens to files."""

    def __init__(self, faults: Callable[[], Faults] | None = None) -> None:
        """Take what tells the present faults; without that, `set` does."""
        self._set = Faults()
        self._faults = faults or (lambda: self._set)
        self.files: dict[Path, Written] = {}
        self.syncs = 0
        """How many syncs there were."""

    @property
    def faults(self) -> Faults:
        """What goes wrong at present."""
        return self._faults()

    def set(self, faults: Faults) -> None:
        """Have this go wrong from now on."""
        self._set = faults

    def used(self, folder: Path) -> int:
        """Return how many bytes the files of a folder have."""
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())

    def free_bytes(self, folder: Path) -> int:
        """Return how much room there is; stands in for `room.free_bytes`."""
        capacity = self.faults.capacity
        return 1 << 40 if capacity is None else max(0, capacity - self.used(folder))

    def lose_power(self, folder: Path, to: Path, random: Random | None = None) -> None:
        """Make a folder as one looks when power comes back: without what was not synced, or with random parts of it."""
        to.mkdir()
        # Of folders that are gone nobody asks any more.
        self.files = {path: written for path, written in self.files.items() if path.parent.exists()}
        for path, written in self.files.items():
            if path.parent == folder and path.exists():
                (to / path.name).write_bytes(written.after_power_loss(random))


class FaultyVfs(apsw.VFS):
    """SQLite's layer over a `FaultyDisk`. It lasts as long as it is referred to."""

    def __init__(self, name: str, disk: FaultyDisk, *, is_default: bool = False) -> None:
        """Take a name for it, and the disk; as the default layer it is used by whoever asks for none."""
        self.disk = disk
        self._base = "unix"
        super().__init__(name, self._base, makedefault=is_default)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # apsw's name
        """Open a file: those of a database are watched."""
        if name is None:
            return apsw.VFSFile(self._base, name, flags)
        path = Path(name if isinstance(name, str) else name.filename())
        if path not in self.disk.files or not path.exists():
            self.disk.files[path] = Written(bytearray(path.read_bytes() if path.exists() else b""))
        return _FaultyFile(self._base, name, flags, self.disk, path)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802  # apsw's
        """Delete a file."""
        self.disk.files.pop(Path(filename), None)
        super().xDelete(filename, syncdir)


class _FaultyFile(apsw.VFSFile):
    """A file of a `FaultyDisk`."""

    def __init__(self, base: str, name: str | apsw.URIFilename, flags: list[int], disk: FaultyDisk, path: Path) -> None:
        super().__init__(base, name, flags)
        self._disk = disk
        self._path = path

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  # apsw's name
        """Read, unless that fails."""
        if self._disk.faults.read:
            raise _error(apsw.SQLITE_IOERR_READ)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # apsw's name
        """Write, unless that fails or there is no room."""
        disk, faults = self._disk, self._disk.faults
        if faults.write:
            raise _error(apsw.SQLITE_IOERR_WRITE)
        if faults.capacity is not None:
            growth = offset + len(data) - super().xFileSize()
            if growth > 0 and disk.used(self._path.parent) + growth > faults.capacity:
                raise apsw.FullError("no space left on device")
        super().xWrite(data, offset)
        disk.files[self._path].pending.append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802  # apsw's name
        """Cut."""
        super().xTruncate(newsize)
        self._disk.files[self._path].pending.append((newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802  # apsw's name
        """Sync, unless that fails. The system does not try again with what it has failed to write."""
        self._disk.syncs += 1
        written = self._disk.files[self._path]
        if self._disk.faults.sync:
            written.pending = []
            raise _error(apsw.SQLITE_IOERR_FSYNC)
        # Nothing survives here that a test does not take with it: the system need not be bothered.
        written.sync()


def _error(kind: int) -> apsw.IOError:
    error = apsw.IOError("disk I/O error, made by a test")
    error.extendedresult = kind  # type: ignore[attr-defined]  # it is what SQLite is told
    return error


def _torn(write: tuple[int, bytes | None], random: Random) -> list[tuple[int, bytes | None]]:
    """Return random sectors of a write."""
    offset, data = write
    if data is None:
        return [write] if random.random() < 0.5 else []
    return [
        (offset + start, data[start : start + SECTOR]) for start in range(0, len(data), SECTOR) if random.random() < 0.5
    ]

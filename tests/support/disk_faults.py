"""A disk that fails on demand, as a SQLite VFS: full, broken, or without power.

It records the writes to each file since its last fsync, so it can reproduce what a power loss leaves: everything that
was synced, and nothing or any part of the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import apsw

SECTOR = 512
"""The number of bytes that a disk writes atomically."""


@dataclass
class Written:
    """The content of a file on the disk, and the writes that are not synced."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Writes since the last fsync, with their offsets; None is a truncation at the offset."""

    def sync(self) -> None:
        """Make all writes durable."""
        self.durable = self.after(self.pending)
        self.pending = []

    def after(self, writes: list[tuple[int, bytes | None]]) -> bytearray:
        """Return the content after these writes."""
        content = self.durable
        for offset, data in writes:
            if data is None:
                del content[offset:]
                continue
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        return content

    def after_power_loss(self, random: Random | None) -> bytes:
        """Return the content after a power loss: without the writes since the last fsync, or with random sectors."""
        kept = [part for write in self.pending for part in _torn(write, random)] if random else []
        return bytes(Written(bytearray(self.durable)).after(kept))


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The present faults."""

    sync: bool = False
    """Fsyncs fail. The writes that they should have synced are lost, unless they are written again."""
    write: bool = False
    read: bool = False
    capacity: int | None = None
    """The bytes that all files of one folder may have together; None for unlimited."""


class FaultyDisk:
    """The state of all files. The faults come from `faults` if it is given, otherwise from `set`."""

    def __init__(self, faults: Callable[[], Faults] | None = None) -> None:
        self._set = Faults()
        self._faults = faults or (lambda: self._set)
        self.files: dict[Path, Written] = {}
        self.syncs = 0
        """The number of fsyncs."""

    @property
    def faults(self) -> Faults:
        """The present faults."""
        return self._faults()

    def set(self, faults: Faults) -> None:
        """Set the faults."""
        self._set = faults

    def used(self, folder: Path) -> int:
        """Return the size of all files of a folder, in bytes."""
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())

    def free_bytes(self, folder: Path) -> int:
        """Return the free space in bytes; tests use it instead of `reserve.free_bytes`."""
        capacity = self.faults.capacity
        return 1 << 40 if capacity is None else max(0, capacity - self.used(folder))

    def lose_power(self, folder: Path, to: Path, random: Random | None = None) -> None:
        """Copy a folder as a power loss leaves it: without the writes that were not synced, or with random parts."""
        to.mkdir()
        # Forget the files of folders that were removed.
        self.files = {path: written for path, written in self.files.items() if path.parent.exists()}
        for path, written in self.files.items():
            if path.parent == folder and path.exists():
                (to / path.name).write_bytes(written.after_power_loss(random))


class FaultyVfs(apsw.VFS):
    """A SQLite VFS over a `FaultyDisk`, registered under a name and maybe as the default, while it is referenced."""

    def __init__(self, name: str, disk: FaultyDisk, *, is_default: bool = False) -> None:
        self.disk = disk
        self._base = "unix"
        super().__init__(name, self._base, makedefault=is_default)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # apsw's name
        """Open a file. Files with a name are recorded."""
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
        """Read, unless reads fail."""
        if self._disk.faults.read:
            raise _error(apsw.SQLITE_IOERR_READ)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # apsw's name
        """Write, unless writes fail or the disk is full."""
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
        """Truncate."""
        super().xTruncate(newsize)
        self._disk.files[self._path].pending.append((newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802  # apsw's name
        """Fsync, unless fsyncs fail. The kernel does not retry the writes of a failed fsync."""
        self._disk.syncs += 1
        written = self._disk.files[self._path]
        if self._disk.faults.sync:
            written.pending = []
            raise _error(apsw.SQLITE_IOERR_FSYNC)
        # No real fsync, because the files need not survive the test.
        written.sync()


def _error(kind: int) -> apsw.IOError:
    error = apsw.IOError("disk I/O error, made by a test")
    error.extendedresult = kind  # type: ignore[attr-defined]  # apsw passes it to SQLite
    return error


def _torn(write: tuple[int, bytes | None], random: Random) -> list[tuple[int, bytes | None]]:
    """Return random sectors of a write."""
    offset, data = write
    if data is None:
        return [write] if random.random() < 0.5 else []
    return [
        (offset + start, data[start : start + SECTOR]) for start in range(0, len(data), SECTOR) if random.random() < 0.5
    ]

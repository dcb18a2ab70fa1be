"""A Disk store for tests without a running event loop: it has one of its own, and can end as a killed process does."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from queuelet.core.budget import MemoryBudget
from queuelet.definition import Definition, StoreKind
from queuelet.stores.disk import DiskSettings, DiskStore
from queuelet.stores.disk.messages import DiskMessages
from support.disk_faults import FaultyDisk
from support.patience import patient

QUEUE_ID = "6f9c0000-0000-4000-8000-000000000001"


class DiskHarness:
    """A Disk store with one queue."""

    outlives_process = True

    def __init__(self, settings: DiskSettings | None = None) -> None:
        """Take how the store uses its disk."""
        self.budget = MemoryBudget(1 << 50)
        self.settings = settings or DiskSettings(reserve_bytes=0)
        self.loop = asyncio.new_event_loop()
        self._root = Path(tempfile.mkdtemp(prefix="queuelet-"))
        self._folders = 0
        self.folder = self._root / "0"
        """Where the files are now."""
        self.reopenings = 0
        """How often the store was opened again after a failure."""
        self.store = self._start()

    def open(self) -> DiskMessages:
        """Make the queue."""
        return self.store.new(QUEUE_ID, 1, Definition(store=StoreKind.DISK, name="orders"))

    def open_in(self, folder: Path) -> DiskMessages:
        """Make the queue in a new store in another folder."""
        self.loop.run_until_complete(self.store.close())
        self.folder = folder
        self.store = self._start()
        return self.open()

    def turn(self) -> None:
        """Let the loop do what is due."""
        self.loop.run_until_complete(asyncio.sleep(0))

    def commit(self) -> None:
        """Wait until all that was done is kept."""
        self.wait(self.store.commit())

    def wait(self, awaitable: Awaitable[None] | None) -> None:
        """Wait for a commit, if there is something to wait for."""
        if awaitable is not None:
            self.loop.run_until_complete(_wait_for(awaitable))

    def reopen(self) -> DiskMessages:
        """Go on with the files as they are now, and leave those of the store that had them."""
        files = self._next_folder()
        self.in_writer(lambda: copy_store(files, self.folder))
        self.loop.run_until_complete(self.store.close())
        shutil.rmtree(files)
        self.store = self._start()
        return self.messages

    def leave_behind_in(self, folder: Path) -> None:
        """Leave in a folder what a process leaves that is killed now."""
        self.in_writer(lambda: copy_store(self.folder, folder))

    def move_to(self, folder: Path) -> DiskMessages:
        """Close the store, and go on with that of another folder."""
        self.loop.run_until_complete(self.store.close())
        self.folder = folder
        self.store = self._start()
        return self.messages

    def restart(self) -> DiskMessages:
        """Close the store and open it again."""
        self.store = self.restarted()
        return self.messages

    def restarted(self, settings: DiskSettings | None = None) -> DiskStore:
        """Return the store, closed and opened again, maybe with other settings."""
        self.settings = settings or self.settings
        self.loop.run_until_complete(self.store.close())
        return self._start()

    def lose_power(self, disk: FaultyDisk, random: Random | None) -> None:
        """Go on with what a loss of power leaves: of what is not synced nothing, or random parts."""
        files = self._next_folder()
        self.in_writer(lambda: disk.lose_power(files, self.folder, random))
        self.loop.run_until_complete(self.store.close())
        shutil.rmtree(files)
        self.store = self._start()

    def until(self, happened: Callable[[], bool], seconds: float = 30) -> None:
        """Let the loop go on until something has happened."""

        async def wait() -> None:
            while not happened():  # noqa: ASYNC110  # what happens here sets no event
                await asyncio.sleep(0.001)

        try:
            self.loop.run_until_complete(asyncio.wait_for(wait(), patient(seconds)))
        except TimeoutError:
            raise AssertionError(f"it did not happen; the store says: {self.store.problem or 'all is well'}") from None

    @property
    def messages(self) -> DiskMessages:
        """The messages of the queue, as the store knows them."""
        return next(each for each in self.store._messages.values())  # noqa: SLF001  # of the class, not of the protocol

    def in_writer(self, work: Callable[[], None]) -> None:
        """Do something while the store writes nothing."""
        done = threading.Event()
        worker = self.store._keeper._worker  # noqa: SLF001  # nobody else may stop it
        assert worker
        worker.do(work, lambda _: None)
        worker.do(done.set, lambda _: None)
        assert done.wait(patient(30))

    def close(self) -> None:
        """End, and remove the files."""
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        shutil.rmtree(self._root)

    def _next_folder(self) -> Path:
        """Have the files elsewhere from now on; return where they were."""
        files = self.folder
        self._folders += 1
        self.folder = self._root / str(self._folders)
        return files

    def _start(self) -> DiskStore:
        return DiskStore(
            self.folder, budget=self.budget, settings=self.settings, loop=self.loop, on_reopened=self._note_reopened
        )

    def _note_reopened(self) -> None:
        self.reopenings += 1


def copy_store(folder: Path, to: Path) -> None:
    """Copy what a process leaves behind that is killed: all files but the lock and the shared memory."""
    to.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".lock" and not file.name.endswith("-shm"):
            shutil.copyfile(file, to / file.name)


async def _wait_for(awaitable: Awaitable[None]) -> None:
    await awaitable

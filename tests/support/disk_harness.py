"""A Disk store for tests without a running event loop: it has its own loop, and can end like a killed process."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from queuelet.core.budget import MemoryBudget
from queuelet.definition import QueueDefinition, StoreKind
from queuelet.stores.disk import DiskSettings, DiskStore
from queuelet.stores.durable.messages import DurableMessages
from support.disk_faults import FaultyDisk
from support.patience import patient

QUEUE_ID = "6f9c0000-0000-4000-8000-000000000001"


class DiskHarness:
    """A Disk store with one queue."""

    outlives_process = True

    def __init__(self, settings: DiskSettings | None = None) -> None:
        self.budget = MemoryBudget(1 << 50)
        self.settings = settings or DiskSettings(reserve_bytes=0)
        self.loop = asyncio.new_event_loop()
        self._root = Path(tempfile.mkdtemp(prefix="queuelet-"))
        self._folders = 0
        self.folder = self._root / "0"
        """The data folder now in use."""
        self.reopenings = 0
        """How often the store was reopened after a failure."""
        self.store = self._start()

    def open(self) -> DurableMessages:
        """Create the queue."""
        return self.store.new(QUEUE_ID, 1, QueueDefinition(store=StoreKind.DISK, name="orders"))

    def open_in(self, folder: Path) -> DurableMessages:
        """Create the queue in a new store in another folder."""
        self.loop.run_until_complete(self.store.close())
        self.folder = folder
        self.store = self._start()
        return self.open()

    def turn(self) -> None:
        """Run one iteration of the event loop."""
        self.loop.run_until_complete(asyncio.sleep(0))

    def commit(self) -> None:
        """Wait for the commit of all changes."""
        self.wait(self.store.commit())

    def wait(self, awaitable: Awaitable[None] | None) -> None:
        """Wait for a commit, unless there is nothing to wait for."""
        if awaitable is not None:
            self.loop.run_until_complete(_wait_for(awaitable))

    def reopen(self) -> DurableMessages:
        """Open a copy of the present files, as if the process had been killed now."""
        files = self._next_folder()
        self.in_writer(lambda: copy_store(files, self.folder))
        self.loop.run_until_complete(self.store.close())
        shutil.rmtree(files)
        self.store = self._start()
        return self.messages

    def leave_behind_in(self, folder: Path) -> None:
        """Copy the files to a folder as a process that is killed now would leave them."""
        self.in_writer(lambda: copy_store(self.folder, folder))

    def move_to(self, folder: Path) -> DurableMessages:
        """Close the store, and open the one of another folder."""
        self.loop.run_until_complete(self.store.close())
        self.folder = folder
        self.store = self._start()
        return self.messages

    def restart(self) -> DurableMessages:
        """Close the store and open it again."""
        self.store = self.restarted()
        return self.messages

    def restarted(self, settings: DiskSettings | None = None) -> DiskStore:
        """Close the store, open it again, maybe with other settings, and return it."""
        self.settings = settings or self.settings
        self.loop.run_until_complete(self.store.close())
        return self._start()

    def lose_power(self, disk: FaultyDisk, random: Random | None) -> None:
        """Open the files as a power loss leaves them: without the writes that are not synced, or with random parts."""
        files = self._next_folder()
        self.in_writer(lambda: disk.lose_power(files, self.folder, random))
        self.loop.run_until_complete(self.store.close())
        shutil.rmtree(files)
        self.store = self._start()

    def until(self, happened: Callable[[], bool], seconds: float = 30) -> None:
        """Run the event loop until a condition is true."""

        async def wait() -> None:
            while not happened():  # noqa: ASYNC110  # there is no event to wait for
                await asyncio.sleep(0.001)

        try:
            self.loop.run_until_complete(asyncio.wait_for(wait(), patient(seconds)))
        except TimeoutError:
            raise AssertionError(f"it did not happen; the store's problem: {self.store.problem or 'none'}") from None

    @property
    def messages(self) -> DurableMessages:
        """The messages of the queue in the present store."""
        return next(each for each in self.store._messages.values())  # noqa: SLF001  # of the class, not of the protocol

    def in_writer(self, work: Callable[[], None]) -> None:
        """Run something in the writer thread, so that the store writes nothing meanwhile."""
        done = threading.Event()
        thread = self.store._backend.thread  # noqa: SLF001  # there is no public way to stop the writer
        assert thread
        thread.submit(work, lambda _: None)
        thread.submit(done.set, lambda _: None)
        assert done.wait(patient(30))

    def close(self) -> None:
        """Close the store and remove its files."""
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        shutil.rmtree(self._root)

    def _next_folder(self) -> Path:
        """Switch to a new data folder; return the previous one."""
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
    """Copy the files that a killed process leaves: all except the lock and the shared memory."""
    to.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".lock" and not file.name.endswith("-shm"):
            shutil.copyfile(file, to / file.name)


async def _wait_for(awaitable: Awaitable[None]) -> None:
    await awaitable

"""Takes the place of a Disk store whose file is damaged when the server starts, so that other stores are served.

It leaves the data folder alone and unlocked, so `queuelet restore` can replace the file while the server runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from queuelet.core.storage import StoredQueue
from queuelet.definition import Durability, QueueDefinition
from queuelet.errors import StoreFailed
from queuelet.stores.disk import reserve
from queuelet.stores.disk.data_dir import DATABASE
from queuelet.stores.disk.stats import DiskStats
from queuelet.stores.durable.histograms import CHANGE_BOUNDS, SECOND_BOUNDS, Histogram


class DamagedStore:
    """A store without queues that refuses new ones. It is not opened again: the server has to be restarted."""

    is_durable = True
    durability = Durability.DISK
    epoch = ""
    problem_reason = StoreFailed.reason

    def __init__(self, folder: Path, why: str) -> None:
        """Make a store for a data folder; `why` is a sentence that names its file and what to do."""
        self._folder = folder
        self.problem = f"{why}; then restart the server"

    def queues(self) -> Iterable[StoredQueue]:
        """Return nothing, because the queues cannot be read."""
        return ()

    def new(self, queue_id: str, created: int, definition: QueueDefinition) -> NoReturn:  # noqa: ARG002  # of `Store`
        """Raise `StoreFailed`."""
        raise StoreFailed(self.problem)

    def redefine(self, queue_id: str, revision: int, definition: QueueDefinition) -> None:  # noqa: ARG002  # of `Store`
        """Raise `StoreFailed`."""
        raise StoreFailed(self.problem)

    def drop(self, queue_id: str) -> None:  # noqa: ARG002  # of `Store`
        """Raise `StoreFailed`."""
        raise StoreFailed(self.problem)

    def check_room(self) -> None:
        """Raise `StoreFailed`."""
        raise StoreFailed(self.problem)

    def commit(self) -> None:
        """Return None, because there are no changes."""

    async def close(self) -> None:
        """Do nothing."""

    def stats(self) -> DiskStats:
        """Return the statistics of a store that failed once."""
        file = self._folder / DATABASE
        return DiskStats(
            is_open=False,
            is_full=False,
            failures=1,
            commits=0,
            changes=Histogram(CHANGE_BOUNDS).read(),
            commit_seconds=Histogram(SECOND_BOUNDS).read(),
            file_bytes=file.stat().st_size if file.exists() else 0,
            free_bytes=0,
            disk_free_bytes=reserve.free_bytes(self._folder),
            window_bytes=0,
            damaged_found=0,
        )

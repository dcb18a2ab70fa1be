"""The Disk store: messages in one SQLite database per data folder, durable through any crash.

The queue decides on the event loop's thread. A call on `DiskMessages` (`messages.py`) changes memory and notes the
change in a group of the `Journal` (`groups.py`). The `CommitLoop` (`commits.py`) lets a thread (`thread.py`,
`writer.py`) write groups: one transaction and one sync each (`batch.py`), then all calls that wait for it are
answered. Changes gather while a group is written, so the more there are, the more share a sync. Messages are read
back on the event loop (`reader.py`, `rows.py`), so a backlog needs no memory beyond a window (`window.py`).

`store.py` puts these together. `schema.py` has the tables, `records.py` their rows as values, `checksums.py` the
checksums of rows, `database.py` opens a file and `migrations.py` brings an older one up to date; `loading.py` reads a
store when it is opened. `data_dir.py` has the files of the folder, `reserve.py` the space that is given up when a
disk is full, `reclaim.py` tidies up, `stats.py` counts. `check.py`, `copying.py` and `backup.py` are the tools.
"""

from queuelet.stores.disk.stats import DiskFigures, Distribution
from queuelet.stores.disk.store import DiskStore
from queuelet.stores.disk.writer import DiskSettings

__all__ = ["DiskFigures", "DiskSettings", "DiskStore", "Distribution"]

"""The Disk store: messages in one SQLite database per data folder, durable through any crash.

Most of it is in `stores/durable`, whose docstring explains the group commit. Here a thread (`backend.py`, `thread.py`,
`writer.py`) writes each group as one transaction with one fsync (`statements.py`), and messages are read on the event
loop (`reader.py`, `verified_rows.py`, and `backward.py` for the newest first).

`store.py` puts these together, and `damaged.py` takes its place if the file is damaged. `schema.py` has the tables.
`database.py` opens a file, `migrations.py` migrates one of an older version, and `loading.py` loads a store when it is
opened. `data_dir.py` has the files of the data folder, `reserve.py` the disk space that is released when the disk is
full, `reclaim.py` deletes and vacuums in the background, `stats.py` has the statistics. `check.py`, `copying.py` and
`backup.py` implement `queuelet check`, `backup` and `restore`, and `remedies.py` decides which of them helps.
"""

from queuelet.stores.disk.damaged import DamagedStore
from queuelet.stores.disk.database import StoreDamaged
from queuelet.stores.disk.stats import DiskStats
from queuelet.stores.disk.store import DiskStore
from queuelet.stores.disk.writer import DiskSettings
from queuelet.stores.durable.histograms import Distribution

__all__ = ["DamagedStore", "DiskSettings", "DiskStats", "DiskStore", "Distribution", "StoreDamaged"]

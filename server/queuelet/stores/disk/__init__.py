"""The Disk store: messages in one SQLite database per data folder, there again after any crash.

The queue decides on the event loop's thread; a call on `DiskMessages` does its work in memory and notes it in the
`Journal`. A `Keeper` has groups of the journal written by a thread, one transaction and one sync each (`batch.write`),
and all who waited are answered. While one is written, the next gathers: the more there is to do, the more share a sync.
What is committed is read back by the loop's own `Reader`, so a backlog needs no memory beyond a window (`Line`).

From top to bottom: `store`, `keeper`, `messages`, `journal`, `line`, `reader`, `writer`, and what these use.
"""

from queuelet.stores.disk.stats import DiskFigures, Distribution
from queuelet.stores.disk.store import DiskStore
from queuelet.stores.disk.writer import DiskSettings

__all__ = ["DiskFigures", "DiskSettings", "DiskStore", "Distribution"]

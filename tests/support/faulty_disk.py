"""Queuelet on a disk that fails on demand: `python -m support.faulty_disk CONTROL server --data-dir ...`.

CONTROL is a file of words, which is read on each access: `sync`, `write` and `read` make those operations fail, and
`capacity=N` limits the bytes of the data folder's files. If the file is missing or empty, nothing fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

from queuelet.cli import main
from queuelet.stores.disk import reserve
from support.disk_faults import Faults, FaultyDisk, FaultyVfs


def faults_in(control: Path) -> Faults:
    """Return the faults that a control file names."""
    words = control.read_text().split() if control.exists() else []
    bounds = [int(word.removeprefix("capacity=")) for word in words if "=" in word]
    return Faults(
        sync="sync" in words, write="write" in words, read="read" in words, capacity=bounds[0] if bounds else None
    )


if __name__ == "__main__":
    disk = FaultyDisk(lambda: faults_in(Path(sys.argv[1])))
    layer = FaultyVfs("faulty", disk, is_default=True)
    reserve.free_bytes = disk.free_bytes  # it asks the operating system and not the VFS
    main(sys.argv[2:])

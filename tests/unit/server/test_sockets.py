"""Listing connections does not disturb other open files of the process."""

from __future__ import annotations

import fcntl
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from queuelet.server.sockets import connections, cut

IS_LOCKED = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("locked")
"""


def test_locks_on_files_are_kept(tmp_path: Path) -> None:
    """Locks of SQLite: without them another process could truncate its shared memory, and the server would crash."""
    path = tmp_path / "database"
    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert list(connections(1)) == []
        command = [sys.executable, "-c", IS_LOCKED, str(path)]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "locked\n"


def test_a_connection_is_found_and_cut_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            opened, address = listening.accept()
            with opened:
                client.sendall(b"1234")
                assert opened.recv(4) == b"1234"
                (found,) = connections(port)
                assert (found.peer.host, found.peer.port, found.received) == (*address, 4)
                assert cut(found, port)
                assert client.recv(1) == b""
                assert not cut(found._replace(peer=found.peer._replace(port=1)), port)

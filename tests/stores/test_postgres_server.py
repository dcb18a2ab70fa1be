"""The PostgreSQL that tests and `make run` start leaves nothing behind, however its owner ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.documents import ROOT
from support.rpc import eventually
from tools.postgres import Postgres, PostgresError

_OWNER = """
import json, signal
from support.postgres_server import Standby, shared_postgres
server = shared_postgres()
Standby(server)
pids = [int((folder / "postmaster.pid").read_text().split()[0]) for folder in (server.folder, server.root / "standby")]
print(json.dumps({"root": str(server.root), "pids": pids}), flush=True)
signal.pause()
"""


def owner() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start a process like that of a test run, which has a PostgreSQL and a standby."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])
    command = [sys.executable, "-c", _OWNER]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, json.loads(process.stdout.readline())


def runs(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_postgresql_ends_and_its_folder_is_removed_when_its_owner_is_killed(number: signal.Signals) -> None:
    process, found = owner()
    with process:
        assert all(map(runs, found["pids"]))
        process.send_signal(number)
    eventually(lambda: not any(map(runs, found["pids"])), "the database and its standby have ended")
    eventually(lambda: not Path(found["root"]).exists(), "the folder is removed")


def test_two_at_once_do_not_disturb_each_other() -> None:
    first, of_first = owner()
    second, of_second = owner()
    with first, second:
        first.kill()
        eventually(lambda: not Path(of_first["root"]).exists(), "the folder of the first one is removed")
        assert all(map(runs, of_second["pids"]))
        second.kill()
    eventually(lambda: not Path(of_second["root"]).exists(), "the folder of the second one is removed")


def test_one_that_cannot_be_created_leaves_no_folder_and_no_guard(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data" / "file").touch()
    with pytest.raises(PostgresError, match="initdb failed"):
        Postgres(root, 0, package=True)
    assert not root.exists()

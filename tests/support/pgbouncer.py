"""A real pgbouncer in front of a PostgreSQL."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress
from typing import Self

from support.patience import patient
from support.ports import lasting_port
from support.postgres_server import PostgresServer
from tools.pooler import program


class Pgbouncer:
    """A pgbouncer process, for as long as the context lasts."""

    def __init__(self, server: PostgresServer, **settings: str) -> None:
        """Take the PostgreSQL, and settings of pgbouncer such as `pool_mode`."""
        self._server = server
        self._port = lasting_port()
        self._log = server.root / f"pgbouncer-{self._port}.log"
        users = server.root / f"pgbouncer-{self._port}.users"
        users.write_text('"postgres" ""\n')
        self._file = server.root / f"pgbouncer-{self._port}.ini"
        usual = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self._port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(users),
        }
        lines = [f"{name} = {value}" for name, value in {**usual, **settings}.items()]
        self._file.write_text(
            "\n".join(["[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]", *lines])
        )
        for file in (users, self._file):
            file.chmod(0o644)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The connection string of the database through it."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        path = program()
        assert path
        with self._log.open("wb") as log:
            self._process = self._server.spawn([path, self._file], log)
        end = time.monotonic() + patient(10)
        while not self._is_listening():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def _is_listening(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
            return True
        return False

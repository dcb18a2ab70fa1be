"""A real nginx in front of a server, configured as users do for gRPC."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from support.patience import patient
from support.ports import lasting_port
from tools.proxy import PATH, PROGRAM

_CONFIGURATION = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
{server}
    }}
}}
"""

_GRPC = """
        listen 127.0.0.1:{port} http2;
        client_max_body_size {body};
        client_body_timeout {idle}s;
        location / {{
            {location}
        }}
"""


class NginxProcess:
    """An nginx process, for as long as the context lasts."""

    def __init__(self, folder: Path, port: int, server: str) -> None:
        """Take a folder for its files, its port, and what its `server` block has."""
        self.port = port
        self._folder = folder
        self._file = folder / "nginx.conf"
        self._file.write_text(_CONFIGURATION.format(folder=folder, server=server))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which(PROGRAM, path=PATH)
        assert program
        log = (self._folder / "nginx.log").open("wb")
        with log:
            self._process = subprocess.Popen([program, "-p", str(self._folder), "-c", str(self._file)], stderr=log)
        end = time.monotonic() + patient(10)
        while not self._is_listening():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "nginx.log").read_text())
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait()

    def _is_listening(self) -> bool:
        needle = f"0100007F:{self.port:04X} 00000000:0000 0A"
        return needle in Path("/proc/net/tcp").read_text()


class Nginx(NginxProcess):
    """An nginx process that forwards gRPC."""

    def __init__(self, folder: Path, server: str = "", *, idle: int = 60, body: str = "0", status: int = 0) -> None:
        """Take a folder for its files, and its settings: with `status` it returns that to every request."""
        port = lasting_port()
        location = f"grpc_pass grpc://{server}; grpc_read_timeout {idle}s; grpc_send_timeout {idle}s;"
        if status:
            location = f"return {status};"
        super().__init__(folder, port, _GRPC.format(port=port, idle=idle, body=body, location=location))

    @property
    def address(self) -> str:
        """The address at which clients reach the server through it."""
        return f"127.0.0.1:{self.port}"

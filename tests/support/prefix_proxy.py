"""A real nginx that serves a console below a prefix, as an ingress does."""

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
        listen 127.0.0.1:{port};
        location {prefix} {{
            proxy_pass http://127.0.0.1:{server}/;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


class PrefixProxy:
    """An nginx process, for as long as the context lasts."""

    def __init__(self, folder: Path, server: int, prefix: str) -> None:
        """Take a folder for its files, the port of the server, and the prefix, which begins and ends with a slash."""
        port = lasting_port()
        self.url = f"http://127.0.0.1:{port}{prefix}"
        self._folder = folder
        self._needle = f"0100007F:{port:04X} 00000000:0000 0A"
        (folder / "nginx.conf").write_text(
            _CONFIGURATION.format(folder=folder, port=port, server=server, prefix=prefix)
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which(PROGRAM, path=PATH)
        assert program
        with (self._folder / "nginx.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")], stderr=log
            )
        end = time.monotonic() + patient(10)
        while self._needle not in Path("/proc/net/tcp").read_text():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "nginx.log").read_text())
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait()

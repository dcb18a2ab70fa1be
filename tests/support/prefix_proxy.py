"""A real nginx that serves a console below a prefix, as an ingress does."""

from __future__ import annotations

from pathlib import Path

from support.nginx import NginxProcess
from support.ports import lasting_port

_SERVER = """
        listen 127.0.0.1:{port};
        location {prefix} {{
            proxy_pass http://127.0.0.1:{server}/;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
        }}
"""


class PrefixProxy(NginxProcess):
    """An nginx process that forwards HTTP below a prefix."""

    def __init__(self, folder: Path, server: int, prefix: str) -> None:
        """Take a folder for its files, the port of the server, and the prefix, which begins and ends with a slash."""
        port = lasting_port()
        self.url = f"http://127.0.0.1:{port}{prefix}"
        super().__init__(folder, port, _SERVER.format(port=port, server=server, prefix=prefix))

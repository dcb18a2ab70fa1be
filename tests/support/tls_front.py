"""Puts TLS in front of a PostgreSQL whose programs were built without it."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Self

import trustme

_REQUEST_BYTES = 8
"""The length of the request for TLS, with which a connection begins."""


class TlsFront:
    """Answers requests for TLS with a certificate, and passes what it decrypts to a port of loopback."""

    def __init__(self, port: int, authority: trustme.CA, name: str) -> None:
        """Use a certificate of this authority for this name, in front of this port."""
        self._backend = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """The port with TLS."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            client.recv(_REQUEST_BYTES, socket.MSG_WAITALL)
            client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as secured,
                socket.create_connection(("127.0.0.1", self._backend)) as backend,
            ):
                other = threading.Thread(target=_pass, args=(backend, secured), daemon=True)
                other.start()
                _pass(secured, backend)
                other.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes until the source ends."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)

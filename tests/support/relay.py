"""A relay between a client and a server, for tests that cut connections while both stay up."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self


class Relay:
    """Forwards bytes unchanged, on a port of its own, until its connections are cut."""

    def __init__(self, port: int, *, source: str = "") -> None:
        """Take the port of the server, and the source address of connections to it."""
        self._port = port
        self._source = (source, 0) if source else None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._silenced: frozenset[socket.socket] = frozenset()
        self._silencing = b""
        self.delay = 0.0
        """For how many seconds each piece that the server sends is held."""
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        """The address at which clients reach the server through it."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Cut all connections, and accept no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._ends):
            each.close()

    def cut(self) -> None:
        """Cut all current connections; new ones are accepted."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def silence(self) -> None:
        """Stop forwarding on the current connections, and leave them open; new ones are not affected."""
        self._silenced = frozenset(self._ends)

    def silence_at(self, text: bytes) -> None:
        """Silence the current connections once a client sends a text, which does not reach the server any more."""
        self._silencing = text

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._port), source_address=self._source)
                except OSError:
                    client.close()  # the server is down, which the client notices as it would without a relay
                    continue
                self._ends += [client, server]
                for ends in ((client, server, False), (server, client, True)):
                    self._threads.append(threading.Thread(target=self._pass_on, args=ends, daemon=True))
                    self._threads[-1].start()

    def _note(self, source: socket.socket, *, is_response: bool) -> None:
        """Note that data is about to be passed on."""

    def _pass_on(self, source: socket.socket, target: socket.socket, is_response: bool) -> None:  # noqa: FBT001  # of a thread
        with suppress(OSError):
            while data := source.recv(65_536):
                self._note(source, is_response=is_response)
                if is_response and self.delay:
                    time.sleep(self.delay)
                elif self._silencing and self._silencing in data:
                    self._silencing = b""
                    self.silence()
                if source not in self._silenced:
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

"""A relay that counts how often a client waits for the server."""

from __future__ import annotations

import socket
import threading

from support.relay import Relay


class TurnsRelay(Relay):
    """Counts the round trips of all connections: a client that sends after it has received begins one more."""

    def __init__(self, port: int) -> None:
        self.turns = 0
        self._answered: set[int] = set()
        """The connections, by their places, whose server was the last to send."""
        self._counting = threading.Lock()
        super().__init__(port)

    def _note(self, source: socket.socket, *, is_response: bool) -> None:
        connection = self._ends.index(source) // 2
        with self._counting:
            if is_response:
                self._answered.add(connection)
            elif connection in self._answered:
                self._answered.remove(connection)
                self.turns += 1

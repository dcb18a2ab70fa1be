"""A server that runs inside another program, and what it leaves there."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from queuelet.server import Settings, run


@pytest.fixture
def own_handler() -> Iterator[None]:
    """A handler of SIGTERM of this program."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("own_handler")
def test_a_server_that_ended_leaves_the_signals_of_its_program_as_they_were() -> None:
    """The program ignored Ctrl-C and SIGTERM after it, because uvloop leaves its handlers in place."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="address already in use"):
            run(Settings(listen="127.0.0.1:0", metrics=address))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

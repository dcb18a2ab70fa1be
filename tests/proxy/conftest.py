"""A real server, with a real nginx in front of it if nginx is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.server_process import ServerProcess
from tools.proxy import why_not


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server that the tests of a worker share. Tests with a proxy are skipped without nginx."""
    if reason := why_not():
        pytest.skip(reason)
    with ServerProcess() as process:
        yield process
        assert process.stop() == 0

"""Which transport serves the gRPC port."""

from __future__ import annotations

import sys
from contextlib import closing
from importlib.util import find_spec

import pytest

from support.rpc import Rpc
from support.server_process import ServerProcess

needs_native = pytest.mark.skipif(
    find_spec("grpc_sansio") is None, reason="grpc-sansio is not installed: the native transport needs it"
)

WITHOUT_PACKAGE = """
import sys
sys.modules["grpc_sansio"] = None
from queuelet.cli import main
main()
"""
"""Runs our command as if the package grpc-sansio was not installed."""


def assert_serves_with(transport: str, server: ServerProcess) -> None:
    """Check which transport a server reports, and that it serves."""
    assert server.log("serving")[0]["transport"] == transport
    with closing(Rpc(server.address)) as rpc:
        queue = rpc.new_queue().meta.id
        rpc.add(queue, b"payload")
        assert rpc.pop(queue).payload == b"payload"


def test_native_without_its_package_is_refused_with_a_remedy() -> None:
    program = [sys.executable, "-c", WITHOUT_PACKAGE, "server"]
    with pytest.raises(RuntimeError, match="--transport native: package grpc-sansio is not installed") as caught:
        ServerProcess("--transport", "native", program=program).start()
    assert "pip install grpc-sansio" in str(caught.value)


def test_auto_without_the_package_is_the_grpc_library() -> None:
    program = [sys.executable, "-c", WITHOUT_PACKAGE, "server"]
    with ServerProcess("--transport", "auto", program=program) as server:
        assert_serves_with("grpc", server)


@needs_native
@pytest.mark.parametrize("choice", ["auto", "native"])
def test_with_the_package_auto_is_native(choice: str) -> None:
    with ServerProcess("--transport", choice) as server:
        assert_serves_with("native", server)


def test_grpc_is_the_grpc_library_in_any_case() -> None:
    with ServerProcess("--transport", "grpc") as server:
        assert_serves_with("grpc", server)

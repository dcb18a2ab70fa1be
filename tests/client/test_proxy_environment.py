"""A client in an environment that names an HTTP proxy, as on many machines in companies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from queuelet.client import Client, Connection
from queuelet.errors import DeadlineExceeded, Unreachable
from support.ports import lasting_port
from support.server_process import ServerProcess

VARIABLES = ["grpc_proxy", "https_proxy", "http_proxy"]


@pytest.fixture(autouse=True)
def only_our_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of this machine that gRPC reads."""
    for name in (*VARIABLES, "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def recording_proxy(seen: bytearray) -> AsyncIterator[str]:
    """Run a proxy that keeps what it is sent, accepts each CONNECT and then says nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if not server.is_serving():
            writer.close()
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                seen.extend(data)
                if data.startswith(b"CONNECT"):
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    # Closed first, because gRPC may connect once more at any time.
    server.close()
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("variable", VARIABLES)
async def test_a_proxy_of_the_environment_never_sees_a_call_to_loopback(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, seen = tmp_path / "token", bytearray()
    token.write_text("open sesame")
    with ServerProcess("--token-file", str(token)) as server:
        async with recording_proxy(seen) as proxy:
            monkeypatch.setenv(variable, proxy)
            connection = Connection(server=f"127.0.0.1:{server.port}", token_file=token, timeout=5)
            async with Client(connection) as client:
                assert not await client.list_queues()
    assert not seen


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "ipv4:127.0.0.1", ""])
async def test_a_dead_proxy_of_the_environment_does_not_stop_calls_to_loopback(
    host: str, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{lasting_port()}")
    async with Client(Connection(server=f"{host}:{server.port}", timeout=5)) as client:
        await client.list_queues()


async def test_tls_to_loopback_goes_past_the_proxy_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    pem, ca = tmp_path / "server.pem", tmp_path / "ca.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    authority.cert_pem.write_to_path(ca)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{lasting_port()}")
    with ServerProcess("--tls-cert", str(pem), "--tls-key", str(pem)) as server:
        async with Client(Connection(server=f"localhost:{server.port}", tls_ca=ca, timeout=5)) as client:
            await client.list_queues()


async def test_another_machine_is_reached_through_the_proxy_and_its_token_only_in_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, ca, seen = tmp_path / "token", tmp_path / "ca.pem", bytearray()
    token.write_text("open sesame")
    trustme.CA().cert_pem.write_to_path(ca)
    async with recording_proxy(seen) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        connection = Connection(server="queues.example:10002", token_file=token, tls_ca=ca, timeout=1)
        async with Client(connection) as client:
            with pytest.raises((Unreachable, DeadlineExceeded)):
                await client.list_queues()
    assert seen.startswith(b"CONNECT queues.example:10002")
    assert b"sesame" not in seen

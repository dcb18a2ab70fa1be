"""A client's file with the token, which may be emptied, removed and renewed while the client runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trustme

from queuelet.cli.failures import USAGE
from queuelet.client import Client, Connection
from queuelet.errors import Unauthenticated
from support.commands import Cli
from support.server_process import ServerProcess

UNUSABLE = {
    "empty": b"",
    "blank": b" \n",
    "lines": b"open\nsesame\n",
    "carriage returns": b"open\rsesame",
    "a tab": b"open\tsesame",
    "binary": b"\xff\xfe\x00",
    "a byte order mark": b"\xef\xbb\xbfopen sesame",
    "not ASCII": "öpen sesame".encode(),
}


@pytest.mark.parametrize("content", [*UNUSABLE.values(), None], ids=[*UNUSABLE, "gone"])
async def test_the_last_good_token_is_sent_while_its_file_is_unusable(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_text("open sesame")
    ours.write_text("open sesame\n")
    with ServerProcess("--token-file", str(theirs)) as server:
        async with Client(Connection(server=server.address, token_file=ours)) as client:
            await client.list_queues()
            if content is None:
                ours.unlink()
            else:
                ours.write_bytes(content)
                assert str(ours) in client.connection.file_problems()[ours]
            for _ in range(3):
                await client.list_queues()
            (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
            assert str(ours) in warning.getMessage()
            assert "sesame" not in caplog.text
            ours.write_text("wrong")
            with pytest.raises(Unauthenticated):
                await client.list_queues()


async def test_a_token_that_was_never_there_is_an_error_of_the_call(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with Client(Connection(server=server.address, token_file=file)) as client:
        with pytest.raises(FileNotFoundError):
            await client.list_queues()
        file.touch()
        with pytest.raises(ValueError, match="empty; write the token to it"):
            await client.list_queues()


@pytest.mark.parametrize(
    "command", [("list",), ("pop", "q"), ("add", "q", "--payload", "x"), ("consume", "q", "true"), ("tail", "q")]
)
@pytest.mark.parametrize("content", [UNUSABLE["lines"], UNUSABLE["binary"]], ids=["lines", "binary"])
def test_a_command_names_an_unusable_token_file_in_one_sentence(
    server: ServerProcess, tmp_path: Path, command: tuple[str, ...], content: bytes
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    ended = Cli(server.address)("--token-file", str(file), *command)
    assert ended.code == USAGE, ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert f"{file}: " in ended.err
    assert "write the token to it" in ended.err or "write only the token to it" in ended.err
    assert "sesame" not in ended.err


@pytest.mark.parametrize(
    "server", ["queues.example.com", "10.0.0.7:10002", "dns:///queues.example.com:1", "ipv4:127.0.0.1:1,10.0.0.7:1"]
)
def test_a_token_for_another_machine_needs_tls_or_a_word(server: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    with pytest.raises(ValueError, match=r"token_file: the token would be sent to .* in plain text; use TLS"):
        Connection(server=server, token_file=token)
    assert Connection(server=server, token_file=token, insecure=True).insecure
    Connection(server=server, token_file=token, tls_ca=tmp_path / "ca.crt")
    Connection(server=server)


@pytest.mark.parametrize(
    "server",
    ["localhost", ":10002", "127.0.0.1:1", "127.8.9.1", "[::1]:10002", "::1", "unix:/run/q", "ipv4:127.0.0.1:1"],
)
def test_a_token_stays_on_this_machine_without_tls(server: str, tmp_path: Path) -> None:
    assert Connection(server=server, token_file=tmp_path / "token").server == server


async def test_an_authority_whose_file_is_gone_stays_in_use(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    pem, ca = tmp_path / "server.pem", tmp_path / "ca.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(pem)
    authority.cert_pem.write_to_path(ca)
    with ServerProcess("--tls-cert", str(pem), "--tls-key", str(pem)) as server:
        connection = Connection(server=f"localhost:{server.port}", tls_ca=ca)
        async with Client(connection) as client:
            await client.list_queues()
        for spoil in (lambda: ca.write_bytes(b""), ca.unlink):
            spoil()
            async with Client(connection) as client:
                await client.list_queues()

"""A client's file with the token, which may be emptied, removed and renewed while the client runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from queuelet.client import Client, Connection
from queuelet.errors import Unauthenticated
from support.server_process import ServerProcess


@pytest.mark.parametrize("content", ["", " \n", None], ids=["empty", "blank", "gone"])
async def test_the_last_good_token_is_sent_while_its_file_is_empty_or_gone(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
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
                ours.write_text(content)
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
        with pytest.raises(ValueError, match="the token file is empty; put the token into it"):
            await client.list_queues()

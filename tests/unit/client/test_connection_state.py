"""The watch of a connection."""

from __future__ import annotations

import asyncio
import gc

import grpc
import pytest

from queuelet.client.connection_state import ConnectionState, ConnectionWatch


async def watch_with_a_listener_that_ends_the_process() -> None:
    def end(_: ConnectionState) -> None:
        raise SystemExit

    async with grpc.aio.insecure_channel("unix:/nowhere") as channel:
        ConnectionWatch(channel, lost_after=0).listen(end)
        await asyncio.Event().wait()


def test_what_a_listener_ends_the_loop_with_is_not_logged_when_the_task_is_collected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log of a traceback during any collection harms code that is just parsed, so it failed other tests."""
    with asyncio.Runner() as runner:
        try:
            runner.run(watch_with_a_listener_that_ends_the_process())
        except SystemExit:
            pass
        else:
            pytest.fail("the listener was not called")
    gc.collect()
    assert not [message for message in caplog.messages if "never retrieved" in message]

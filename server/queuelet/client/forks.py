"""What a fork does to clients.

A child has none of its parent's threads, and gRPC cannot do without them: in a child whose parent had a channel open, a
new channel hangs or crashes too, so `Forked` is raised there at once. A channel that was open in the main thread, as
that of an asyncio client is, does that harm after it was closed too. One of another thread does not once gRPC's threads
have ended, so `queuelet.client.blocking` closes the channel of an idle client for the time of a fork.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path
from threading import current_thread, main_thread
from time import monotonic, sleep
from weakref import WeakSet

import grpc

from queuelet.client.errors import Forked

_open: WeakSet[grpc.aio.Channel] = WeakSet()
"""Channels of this process that still exist."""

_lost: list[grpc.aio.Channel] = []
"""Channels from before a fork. They are kept, because to free them waits for threads that are gone."""

_generation = 0

_is_spoilt = False
"""Whether gRPC left something behind in this process when it was forked."""

_was_in_main_thread = False
"""Whether an asyncio client was open in the main thread: gRPC then keeps a state there that a child hangs by."""

_was_quiet = True
"""Whether gRPC had no threads when this process was forked last, or a channel that `_lost` keeps."""

_THREADS = Path("/proc/self/task")

_NAMES = ("event_engine", "grpc_", "lifeguard")
"""What the names of gRPC's threads begin with."""

_ENDING = 1.0
"""How long gRPC's threads may take to end, in seconds. They take a few milliseconds; a fork waits for them."""


def generation() -> int:
    """Return how often this process and those before it were forked: what was opened in another one is not ours."""
    return _generation


def note_channel(channel: grpc.aio.Channel) -> None:
    """Note that a channel was opened."""
    global _was_in_main_thread  # noqa: PLW0603  # there is one process
    _was_in_main_thread = _was_in_main_thread or current_thread() is main_thread()
    _open.add(channel)


def quiesce() -> None:
    """Free the channels that are closed, and wait until gRPC's threads have ended, if no channel needs them."""
    global _was_quiet  # noqa: PLW0603  # there is one process
    if _was_in_main_thread:
        return  # no wait would help the child
    if _open:
        gc.collect()  # a traceback may keep a channel in a cycle
    end = monotonic() + _ENDING
    while not _open and _has_threads() and monotonic() < end:
        sleep(0.001)
    _was_quiet = bool(_open) or not _has_threads()


def _has_threads() -> bool:
    """Return whether gRPC has threads: they have names of their own. Where there is no such list, take it for no."""
    for file in _THREADS.glob("*/comm"):
        with suppress(OSError):  # it has ended
            if file.read_text().startswith(_NAMES):
                return True
    return False


def is_lost(channel: grpc.aio.Channel) -> bool:
    """Return whether a channel is one of a parent process."""
    return any(each is channel for each in _lost)


def check_usable() -> None:
    """Raise `Forked` if gRPC was in use in the parent process when this one was forked."""
    if _lost or _is_spoilt:
        raise Forked(
            "a client of the parent process was in use when this process was forked, so gRPC does not work here; "
            "open clients after the fork (gunicorn: open in post_fork; multiprocessing: spawn)"
        )


def _begin_child() -> None:
    global _generation, _is_spoilt  # noqa: PLW0603  # there is one process
    _generation += 1
    _is_spoilt = _is_spoilt or _was_in_main_thread or not _was_quiet
    _lost.extend(_open)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)

"""Forks: whether clients can be used in a child process.

A child has none of its parent's threads, and gRPC depends on its threads: if the parent had a channel open, then a new
channel hangs or crashes in the child too, so `Forked` is raised there at once. A channel that was open in the main
thread, as that of an asyncio client is, has this effect even after it was closed. A channel of another thread has not
once gRPC's threads have ended, so `queuelet.client.blocking` closes the channel of an idle client during a fork.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import current_thread, main_thread
from time import monotonic, sleep
from weakref import WeakSet

import grpc

from queuelet.client.errors import Forked

_THREADS = Path("/proc/self/task")

_NAMES = ("event_engine", "grpc_", "lifeguard")
"""The prefixes of the names of gRPC's threads."""

_THREADS_TIMEOUT = 1.0
"""How long gRPC's threads may take to end, in seconds. They take a few milliseconds; a fork waits for them."""


@dataclass
class _Process:
    """The channels of this process, and what its ancestors left behind."""

    generation: int = 0
    """How many forks led to this process."""

    open_channels: WeakSet[grpc.aio.Channel] = field(default_factory=WeakSet)
    """Channels of this process that still exist."""

    was_used_in_main_thread: bool = False
    """Whether a channel was open in the main thread: gRPC then keeps state there that makes a child hang."""

    was_quiet: bool = True
    """Whether, before the last fork, gRPC had no threads, apart from those of `open_channels`."""

    inherited_channels: list[grpc.aio.Channel] = field(default_factory=list)
    """Channels from before a fork. They are kept, because freeing one waits for threads that do not exist here."""

    inherited_state: bool = False
    """Whether gRPC left state or threads behind in an ancestor, so that it does not work here."""

    def begin_child(self) -> None:
        """Become the state of a child, right after the fork."""
        self.generation += 1
        self.inherited_state = self.inherited_state or self.was_used_in_main_thread or not self.was_quiet
        self.inherited_channels.extend(self.open_channels)
        self.open_channels.clear()


_process = _Process()


def generation() -> int:
    """Return how many forks led to this process. Objects from another generation belong to another process."""
    return _process.generation


def note_channel(channel: grpc.aio.Channel) -> None:
    """Note that a channel was opened."""
    _process.was_used_in_main_thread = _process.was_used_in_main_thread or current_thread() is main_thread()
    _process.open_channels.add(channel)


def quiesce() -> None:
    """Free the channels that are closed, and wait until gRPC's threads have ended, unless a channel is open."""
    if _process.was_used_in_main_thread:
        return  # waiting would not help the child
    if _process.open_channels:
        gc.collect()  # a traceback may keep a channel alive in a cycle
    end = monotonic() + _THREADS_TIMEOUT
    while not _process.open_channels and _has_threads() and monotonic() < end:
        sleep(0.001)
    _process.was_quiet = bool(_process.open_channels) or not _has_threads()


def _has_threads() -> bool:
    """Return whether gRPC has threads, by their names. Return False on systems without /proc."""
    for file in _THREADS.glob("*/comm"):
        with suppress(OSError):  # the thread has ended
            if file.read_text().startswith(_NAMES):
                return True
    return False


def is_inherited(channel: grpc.aio.Channel) -> bool:
    """Return whether a channel belongs to a parent process."""
    return any(each is channel for each in _process.inherited_channels)


def check_usable() -> None:
    """Raise `Forked` if gRPC was in use in the parent process when this one was forked."""
    if _process.inherited_channels or _process.inherited_state:
        raise Forked(
            "a client of the parent process was in use when this process was forked, so gRPC does not work here; "
            "open clients after the fork (gunicorn: open in post_fork; multiprocessing: spawn)"
        )


def check_made_here(generation: int, what: str) -> None:
    """Raise `Forked` if something of this generation was started by the parent: its outcome is only known there."""
    if generation != _process.generation:
        raise Forked(f"{what} by the parent of this process; its outcome is known there")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.begin_child)

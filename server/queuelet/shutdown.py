"""How a process that serves is asked to stop: by SIGTERM or SIGINT, and a second time to stop at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopped_by_signals(request_stop: Callable[[], None], is_stopping: Callable[[], bool]) -> Iterator[None]:
    """Call a function at the first SIGTERM or SIGINT in this context; end the process at the next one.

    Afterwards the handlers from before are in place again.

    Args:
        request_stop: starts the shutdown.
        is_stopping: returns whether a shutdown has begun, for whatever reason.
    """
    loop = asyncio.get_running_loop()

    def signalled(number: signal.Signals) -> None:
        if is_stopping():
            log.warning("stopped immediately by a second signal", signal=number.name)
            os._exit(128 + number)
        request_stop()
        log.info("shutdown requested", signal=number.name)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        loop.add_signal_handler(number, signalled, number)
    try:
        yield
    finally:
        # uvloop leaves them in place when it is closed, and then the process ignores Ctrl-C.
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            if before[number] is not None:  # one that was not set from Python cannot be put back
                signal.signal(number, before[number])

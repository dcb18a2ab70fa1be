"""Logs: JSON lines on standard error, with negz/q's keys `level`, `ts` (seconds since 1970) and `msg`.

Logging never fails: if the reader of standard error has gone, the server discards the lines and continues. A traceback
shows files and lines but no values of variables, because those may contain payloads.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from time import time
from typing import Any, TextIO, cast

import structlog
from structlog.processors import ExceptionRenderer, JSONRenderer, add_log_level
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from queuelet.printable import printable_json


def configure_logs(*, debug: bool, to: TextIO | None = None) -> None:
    """Log to a stream (standard error if None), from level info on, or from debug on."""
    lines = cast("TextIO", _Lines(to or sys.stderr))
    structlog.configure(
        processors=[
            add_log_level,
            _stamp,
            ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            JSONRenderer(serializer=_to_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(lines),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Library()], level=logging.WARNING, force=True)


class _Lines:
    """A stream whose reader may go away."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # Redirect the stream, because the rest of its buffer would fail again, now or at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except ValueError:
            """Discard the line, because the stream is closed."""

    def flush(self) -> None:
        """Do nothing, because `write` flushes."""


class _Library(logging.Handler):
    """Passes on what libraries log with the standard library, in the same JSON format."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record of a library."""
        facts = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, **facts)


def _to_json(event: EventDict, **options: Any) -> str:  # noqa: ANN401  # structlog's
    return printable_json(json.dumps(event, **options))


def _stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {"level": event.pop("level"), "ts": time(), "msg": event.pop("event"), **event}

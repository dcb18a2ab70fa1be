"""Log lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from queuelet.logs import configure_logs


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log lines of a test."""
    handlers, level = logging.root.handlers[:], logging.root.level
    written = io.StringIO()
    configure_logs(debug=False, to=written)
    yield written
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines, parsed."""
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_line_is_json_with_the_keys_of_negz_q(log: io.StringIO) -> None:
    structlog.get_logger().info("add queue", queue="x")
    structlog.get_logger().debug("hidden")
    (line,) = lines(log)
    assert list(line) == ["level", "ts", "msg", "queue"]
    assert (line["level"], line["msg"]) == ("info", "add queue")


def test_a_traceback_contains_no_values(log: io.StringIO) -> None:
    def handler(payload: bytes) -> int:
        return len(payload) // 0

    try:
        handler(b"top secret")
    except ZeroDivisionError as error:
        structlog.get_logger().error("add", exc_info=error)
    (line,) = lines(log)
    assert line["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert "top secret" not in log.getvalue()


def test_logs_of_libraries_have_the_same_format(log: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").error("cannot %s", "serve")
    logging.getLogger("aiohttp.server").info("hidden")
    (line,) = lines(log)
    assert (line["level"], line["msg"], line["logger"]) == ("error", "cannot serve", "aiohttp.server")


def test_a_closed_stream_is_no_error(log: io.StringIO) -> None:
    log.close()
    structlog.get_logger().info("unheard")


def test_a_line_cannot_control_a_terminal(log: io.StringIO) -> None:
    structlog.get_logger().info("add tag", value="\x1b[2J\x7f\u202e\x9b")
    assert all(c.isprintable() for c in log.getvalue().rstrip("\n"))
    assert lines(log)[0]["value"] == "\x1b[2J\x7f\u202e\x9b"

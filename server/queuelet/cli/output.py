"""Writes to standard output: JSON as negz/q's `qcli` prints it, lines of JSON, and plain bytes."""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any, BinaryIO

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as ProtobufMessage

from queuelet.printable import printable_json
from queuelet.v1 import queue_pb2 as pb


def stdout() -> BinaryIO:
    """Return standard output. Raises OSError if it is closed."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    return sys.stdout.buffer


def write(data: bytes) -> None:
    """Write bytes and flush. Raises OSError if the reader is gone."""
    stream = stdout()
    try:
        stream.write(data)
        stream.flush()
    except OSError:
        # Redirected to /dev/null, because Python flushes the rest of the buffer at exit and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def write_line(value: dict[str, Any]) -> None:
    """Write a value as a line of JSON."""
    write(to_line(value))


def to_line(value: dict[str, Any]) -> bytes:
    """Return a value as a line of JSON."""
    return _encode(value)


def to_text(value: dict[str, Any]) -> bytes:
    """Return a value as JSON over several lines, as `qcli` prints it."""
    return _encode(value, indent=2)


def to_json(message: ProtobufMessage) -> dict[str, Any]:
    """Return a message as Go's jsonpb writes it: defaults included, 64-bit numbers as strings, bytes in base64."""
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def messages(count: int) -> str:
    """Return a number of messages in words."""
    return f"{count:,} message{'' if count == 1 else 's'}"


def state_word(state: pb.MessageState) -> str:
    """Return the word for a message's state."""
    return pb.MessageState.Name(state).removeprefix("MESSAGE_STATE_").lower()


def reason_word(reason: pb.DeathReason) -> str:
    """Return the words for the reason of a message's death."""
    return pb.DeathReason.Name(reason).removeprefix("DEATH_REASON_").lower().replace("_", " ")


def outcome_word(outcome: pb.Try.Outcome) -> str:
    """Return the words for the outcome of a failed delivery."""
    return pb.Try.Outcome.Name(outcome).removeprefix("OUTCOME_").lower().replace("_", " ")


def event_word(kind: pb.TailEvent.Kind) -> str:
    """Return the word for what happened to a message."""
    return pb.TailEvent.Kind.Name(kind).removeprefix("KIND_").lower()


def _encode(value: dict[str, Any], indent: int | None = None) -> bytes:
    return f"{printable_json(json.dumps(value, indent=indent, ensure_ascii=False))}\n".encode()

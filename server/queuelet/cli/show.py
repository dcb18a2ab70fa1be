"""Answers, written for scripts or for people."""

from __future__ import annotations

from google.protobuf.message import Message as ProtobufMessage

from queuelet.cli.output import to_json, to_text, write


def show(answer: ProtobufMessage, *, as_json: bool) -> None:
    """Write a whole answer to standard output."""
    if as_json:
        write(to_text(to_json(answer)))
        return
    # rich takes a while to import, and scripts do without.
    from queuelet.cli.tables import show_answer  # noqa: PLC0415

    show_answer(answer)

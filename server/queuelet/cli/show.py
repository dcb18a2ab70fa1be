"""Prints responses as JSON or as tables."""

from __future__ import annotations

from google.protobuf.message import Message as ProtobufMessage

from queuelet.cli.output import to_json, to_text, write


def show(response: ProtobufMessage, *, as_json: bool) -> None:
    """Write a response to standard output."""
    if as_json:
        write(to_text(to_json(response)))
        return
    # Imported on demand, because rich takes long to import and JSON does not need it.
    from queuelet.cli.tables import show_response  # noqa: PLC0415

    show_response(response)

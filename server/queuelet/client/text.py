"""Text on its way to the wire.

Text from elsewhere, such as an exception's or a machine's name, is made to fit: it must not stop what it describes.
Text that a caller chose is refused with the field's name if it cannot be sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from queuelet.errors import InvalidArgument

LONGEST_CONSUMER = 256
"""The longest consumer name that the server takes, in bytes."""

LONGEST_REASON = 1_024
"""The longest reason that the server takes, in bytes."""

_SHOWN = 80
"""How much of a bad value an error shows, in characters."""

P = ParamSpec("P")
R = TypeVar("R")


def sendable(text: object, at_most: int) -> str:
    """Return text that UTF-8 can encode, cut to `at_most` bytes. A lone surrogate becomes its escape."""
    return str(text)[:at_most].encode(errors="backslashreplace")[:at_most].decode(errors="ignore")


def described(error: BaseException, prefix: str = "") -> str:
    """Return an exception's kind and text as a reason that the server takes. Never raises."""
    kind = type(error).__name__
    try:
        # A text may be of a class of its own, which can raise as well.
        text = "".join(str(error)[:LONGEST_REASON])
    except BaseException as second:  # noqa: BLE001  # an exception whose text raises, whatever that is
        text = f"(its text cannot be shown: {type(second).__name__})"
    return sendable(f"{prefix}{kind}: {text}".rstrip(": "), LONGEST_REASON)


def filled(kind: Callable[P, R], *args: P.args, **fields: P.kwargs) -> R:
    """Return a message of the wire with these fields.

    Raises:
        InvalidArgument: a field cannot be sent; protobuf's own error does not name it.
    """
    try:
        return kind(*args, **fields)
    except (TypeError, ValueError):
        for name, value in fields.items():
            _check(kind, name, value)
        raise


def check_text(field: str, text: str) -> None:
    """Raise `InvalidArgument` for a text that cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _invalid(field, text, error) from None


def _check(kind: Callable[..., object], name: str, value: object) -> None:
    try:
        kind(**{name: value})
    except (TypeError, ValueError) as error:
        raise _invalid("queue" if name == "queue_id" else name, value, error) from error


def _invalid(field: str, value: object, error: Exception) -> InvalidArgument:
    shown = ascii(value)[:_SHOWN]
    if isinstance(error, UnicodeEncodeError):
        why = "cannot be encoded in UTF-8; use text without lone surrogates (os.fsencode makes bytes of a file name)"
    else:
        why = f"cannot be sent: {error}"
    return InvalidArgument(f"{field}: {shown} {why}", field=field)

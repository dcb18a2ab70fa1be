"""Text for requests.

Text from elsewhere, such as an exception's message or a host name, is cut and escaped to fit, because it must not fail
the call that it describes. Text that a caller chose raises an error with the field's name if it cannot be sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from queuelet.errors import InvalidArgument
from queuelet.limits import MAX_REASON_BYTES

_SHOWN = 80
"""How much of an invalid value an error text shows, in characters."""

P = ParamSpec("P")
R = TypeVar("R")


def sendable(text: object, at_most: int) -> str:
    """Return a text that UTF-8 can encode, cut to `at_most` bytes. Lone surrogates become escapes."""
    return str(text)[:at_most].encode(errors="backslashreplace")[:at_most].decode(errors="ignore")


def described(error: BaseException, prefix: str = "") -> str:
    """Return the kind and text of an exception, short enough for a reason. Never raises."""
    kind = type(error).__name__
    try:
        # The text may be of a subclass of str, whose methods can raise too.
        text = "".join(str(error)[:MAX_REASON_BYTES])
    except BaseException as second:  # noqa: BLE001  # an exception's own __str__ may raise anything
        text = f"(its text cannot be shown: {type(second).__name__})"
    return sendable(f"{prefix}{kind}: {text}".rstrip(": "), MAX_REASON_BYTES)


def filled(kind: Callable[P, R], *args: P.args, **fields: P.kwargs) -> R:
    """Return a protobuf message with these fields.

    Raises:
        InvalidArgument: A field cannot be sent. Unlike protobuf's own error, this one has the field's name.
    """
    try:
        return kind(*args, **fields)
    except (TypeError, ValueError):
        for name, value in fields.items():
            _check(kind, name, value)
        raise


def check_text(field: str, text: str) -> None:
    """Raise `InvalidArgument` if a text cannot be encoded."""
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

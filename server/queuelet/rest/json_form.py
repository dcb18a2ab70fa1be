"""Messages of protobuf as JSON, both ways.

JSON has the names of the .proto file, names of enums, 64-bit integers as text and bytes as base64. Fields that are zero
or empty are left out (Q51). When JSON is read, the names of fields may also be in lowerCamelCase, as protobuf defines.
Every error names the field.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NoReturn, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from queuelet.errors import InvalidArgument

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}

_LONG = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}

_MAX_DIGITS = 40
"""The longest text that is read as an integer; 64 bits have 20 digits."""

_QUOTED = 60
"""The most characters of a wrong value that an error repeats."""

_EXAMPLES = {
    Timestamp.DESCRIPTOR.full_name: 'a time, such as "2026-01-31T12:00:00Z"',
    Duration.DESCRIPTOR.full_name: 'a duration in seconds, such as "1.5s"',
}


# From a message to JSON


def to_json(message: Message) -> str:
    """Return a message as JSON in one line."""
    return _ENCODER.encode(to_plain(message))


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def to_plain(message: Message) -> dict[str, Any]:
    """Return a message as a dictionary that `json.dumps` can write."""
    plain: dict[str, Any] = {}
    for field, value in message.ListFields():
        convert, is_repeated = _writer(field)
        plain[field.name] = [convert(each) for each in value] if is_repeated else convert(value)
    return plain


@cache
def _writer(field: FieldDescriptor) -> tuple[Callable[[Any], Any], bool]:
    """Return how values of a field are converted, and whether the field is repeated."""
    return _converter(field), field.is_repeated


def _converter(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.cpp_type in _LONG:
        return str
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        # Of two names for a number, the first one in the .proto file: DISK and not BOLTDB.
        names = {value.number: value.name for value in reversed(_enum(field).values)}
        return lambda number: names.get(number, number)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _to_base64
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return _to_text if _is_well_known(field) else to_plain
    return _unchanged


def _to_base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()


def _to_text(value: Timestamp | Duration) -> str:
    return value.ToJsonString()


def _unchanged(value: object) -> object:
    return value


# From JSON to a message


def read_json(text: bytes | str, message: Message, field: str = "") -> None:
    """Read JSON into a message.

    Args:
        text: the JSON, UTF-8.
        message: it is changed.
        field: the field of the request that the message is; empty for the request itself.

    Raises:
        InvalidArgument: the text is not JSON, or a field is unknown or has a wrong value.
    """
    try:
        value = _DECODER.decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        why = "too deep" if isinstance(error, RecursionError) else str(error)
        raise InvalidArgument(f"body: not valid JSON ({why[:200]}); send a JSON object", field="body") from None
    _read_object(value, message, field)


def read_texts(texts: Iterable[tuple[str, str]], message: Message, *, taken: Iterable[str] = (), strict: bool) -> None:
    """Read the fields in a path or a query into a message. A field of a message in it is `message.field`.

    Args:
        texts: names and values; a repeated field has several.
        message: it is changed.
        taken: fields that are given otherwise, which may not occur here.
        strict: whether unknown fields are refused instead of ignored.

    Raises:
        InvalidArgument: a field is unknown, has a wrong value or is given twice.
    """
    seen = set(taken)
    for name, text in texts:
        found = _field_by_path(message, name)
        if found is None:
            if strict:
                raise _unknown(name, message)
            continue
        holder, field, path = found
        if field.is_repeated:
            if path in seen and path in taken:
                _refuse(path, "given twice; give it in the path only")
            getattr(holder, field.name).append(_read_text(text, field, path))
            continue
        if path in seen:
            _refuse(path, "given twice; give it once")
        seen.add(path)
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            _read_well_known(text, getattr(holder, field.name), path)
        else:
            setattr(holder, field.name, _read_text(text, field, path))


def _field_by_path(message: Message, name: str) -> tuple[Message, FieldDescriptor, str] | None:
    """Return the message that holds a field, the field, and its name in the .proto file."""
    holder, path = message, ""
    *parents, last = name.split(".")
    for parent in parents:
        field = _fields(holder.DESCRIPTOR).get(parent)
        if field is None or field.message_type is None or field.is_repeated or _is_well_known(field):
            return None
        holder, path = getattr(holder, field.name), f"{path}{field.name}."
    field = _fields(holder.DESCRIPTOR).get(last)
    if field is None or (field.message_type is not None and (field.is_repeated or not _is_well_known(field))):
        return None
    return holder, field, path + field.name


def _read_text(text: str, field: FieldDescriptor, path: str) -> object:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if text not in {"true", "false"}:
            _refuse(path, f"{_quoted(text)} is not allowed; use true or false")
        return text == "true"
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and re.fullmatch(r"-?[0-9]{1,10}", text):
        return _read_value(int(text), field, path)
    return _read_value(text, field, path)


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    """Return the fields of a message by their names in the .proto file and in lowerCamelCase."""
    return {name: field for field in descriptor.fields for name in (field.json_name, field.name)}


def _enum(field: FieldDescriptor) -> EnumDescriptor:
    return cast("EnumDescriptor", field.enum_type)


def _is_well_known(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name in _EXAMPLES


def _read_object(value: object, message: Message, path: str) -> None:
    if not isinstance(value, dict):
        _refuse(path or "body", f"{_quoted(value)} is not allowed; use an object")
    fields = _fields(message.DESCRIPTOR)
    prefix = f"{path}." if path else ""
    seen: set[str] = set()
    for name, item in value.items():
        field = fields.get(name)
        if field is None:
            raise _unknown(prefix + name, message)
        at = prefix + field.name
        if field.name in seen:
            _refuse(at, "given twice, in both spellings; give it once")
        seen.add(field.name)
        if item is not None:
            _read_field(item, field, message, at)


def _read_field(item: object, field: FieldDescriptor, message: Message, at: str) -> None:
    if field.is_repeated:
        _read_list(item, field, getattr(message, field.name), at)
    elif field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        setattr(message, field.name, _read_value(item, field, at))
    elif _is_well_known(field):
        _read_well_known(item, getattr(message, field.name), at)
    else:
        part = getattr(message, field.name)
        part.SetInParent()
        _read_object(item, part, at)


def _read_list(items: object, field: FieldDescriptor, into: Any, at: str) -> None:  # noqa: ANN401  # protobuf's own list
    if not isinstance(items, list):
        _refuse(at, f"{_quoted(items)} is not allowed; use a list")
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        for index, item in enumerate(items):
            _read_object(item, into.add(), f"{at}[{index}]")
    else:
        into.extend([_read_value(item, field, f"{at}[{index}]") for index, item in enumerate(items)])


def _read_well_known(value: object, message: Any, at: str) -> None:  # noqa: ANN401  # a Timestamp or a Duration
    example = _EXAMPLES[message.DESCRIPTOR.full_name]
    if not isinstance(value, str):
        _refuse(at, f"{_quoted(value)} is not allowed; use {example}")
    try:
        message.FromJsonString(value)
    except ValueError:
        _refuse(at, f"{_quoted(value)} is not allowed; use {example}")
    message.SetInParent()


def _read_value(value: object, field: FieldDescriptor, at: str) -> object:
    """Return the value of a field that is not a message."""
    if field.cpp_type in _INTEGERS:
        return _read_integer(value, _INTEGERS[field.cpp_type], at)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return _read_enum(value, field, at)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            _refuse(at, f"{_quoted(value)} is not allowed; use true or false")
        return value
    if not isinstance(value, str):
        _refuse(at, f"{_quoted(value)} is not allowed; use a text")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _read_base64(value, at)
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(at, "has half of a surrogate pair; use valid Unicode")
    return value


def _read_integer(value: object, bounds: tuple[int, int], at: str) -> int:
    least, most = bounds
    number: int | None = None
    if isinstance(value, str):
        if len(value) <= _MAX_DIGITS and re.fullmatch(r"-?[0-9]+", value):
            number = int(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        number = int(value)
    if number is None:
        _refuse(at, f"{_quoted(value)} is not allowed; use a whole number")
    if not least <= number <= most:
        _refuse(at, f"{_quoted(value)} is out of range; use {least:,} to {most:,}")
    return number


def _read_enum(value: object, field: FieldDescriptor, at: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return _read_integer(value, _INTEGERS[FieldDescriptor.CPPTYPE_INT32], at)
    enum = _enum(field)
    found = enum.values_by_name.get(value) if isinstance(value, str) else None
    if found is None:
        names = ", ".join(each.name for each in enum.values)
        _refuse(at, f"{_quoted(value)} is not allowed; use one of {names}")
    return found.number


def _read_base64(text: str, at: str) -> bytes:
    """Decode base64 with either alphabet, padded or not."""
    try:
        padded = text.translate(_STANDARD_ALPHABET) if "-" in text or "_" in text else text
        padded += "=" * (-len(padded) % 4)
        return base64.b64decode(padded, validate=True)
    except ValueError:
        _refuse(at, f"{_quoted(text)} is not base64; encode the bytes as base64")


_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _quoted(value: object) -> str:
    text = json.dumps(value) if not isinstance(value, float) else repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def _unknown(path: str, message: Message) -> InvalidArgument:
    names = ", ".join(field.name for field in message.DESCRIPTOR.fields)
    return InvalidArgument(
        f"{path[:_QUOTED]}: not a field of {message.DESCRIPTOR.name}; use one of its fields: {names or 'it has none'}",
        field=path[:_QUOTED],
    )


def _refuse(field: str, why: str) -> NoReturn:
    raise InvalidArgument(f"{field}: {why}", field=field)

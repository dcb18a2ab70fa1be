"""Messages of queue.proto in JSON Schema, in the form that the gateway writes and reads."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from queuelet.v1 import queue_pb2 as pb
from tools.openapi.comments import comments, markdown
from tools.openapi.limits import DURATION, LIMITS

Schema = dict[str, Any]

PACKAGE = f"{pb.DESCRIPTOR.package}."

_REQUIRED = re.compile(r"\bRequired[.:]")

_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
}

_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {
        "type": "string",
        "contentEncoding": "base64",
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    },
    FieldDescriptor.TYPE_INT32: {
        "type": "integer",
        "format": "int32",
        "minimum": -(2**31),
        "maximum": 2**31 - 1,
    },
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,18}$"},
    FieldDescriptor.TYPE_FIXED64: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,19}$"},
}

REFUSAL: Schema = {
    "type": "object",
    "description": "An error. Every response with a status of 400 or more has this form.",
    "required": ["error", "code", "reason"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong and what to do, as a sentence for users."},
        "code": {"type": "integer", "format": "int32", "description": "The number of the google.rpc.Code."},
        "reason": {"type": "string", "description": "The kind of error, for programs, such as QUEUE_FULL."},
        "facts": {
            "type": "object",
            "description": "The values behind the sentence, such as the queue, the limit or the wrong field.",
            "additionalProperties": {"type": "string"},
        },
    },
}


class Schemas:
    """The schemas that were used, and those that they refer to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {"Refusal": REFUSAL}

    def message(self, message: Descriptor, *, is_request: bool = False, without: Collection[str] = ()) -> Schema:
        """Return a reference to the schema of a message.

        Args:
            message: the message.
            is_request: whether clients send it. A request has no unknown fields.
            without: fields that are given elsewhere, in the path.
        """
        name = message.full_name.removeprefix(PACKAGE)
        known = self.components.get(name)
        if known is None or (is_request and "additionalProperties" not in known):
            schema = self.components[name] = {"type": "object", "description": _about(message.full_name)}
            if is_request:
                schema["additionalProperties"] = False
            fields = [field for field in message.fields if field.name not in without]
            if required := [field.name for field in fields if is_required(field)]:
                schema["required"] = required
            if fields:
                schema["properties"] = {field.name: self.field(field, is_request=is_request) for field in fields}
        return {"$ref": f"#/components/schemas/{name}"}

    def field(self, field: FieldDescriptor, *, is_request: bool, one: bool = False) -> Schema:
        """Return the schema of a field with its description.

        Args:
            field: the field.
            is_request: whether it is part of a request.
            one: whether it has one value although it is repeated, because it is in a path.
        """
        limits = dict(LIMITS.get(field.full_name.removeprefix(PACKAGE), {}))
        schema = self._value(field, is_request=is_request)
        if field.is_repeated:
            items = {**schema, **limits.pop("items", {})}
            schema = items if one else {"type": "array", "items": items}
        return {**schema, **({} if one else limits), "description": _about(field.full_name)}

    def _value(self, field: FieldDescriptor, *, is_request: bool) -> Schema:
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.message_type is None:
            return dict(_SCALARS[field.type])
        if known := _WELL_KNOWN.get(field.message_type.full_name):
            is_duration = is_request and "pattern" in known
            return {**known, "pattern": DURATION} if is_duration else dict(known)
        return self.message(field.message_type, is_request=is_request)

    def _enum(self, enum: EnumDescriptor) -> Schema:
        name = enum.full_name.removeprefix(PACKAGE)
        if name not in self.components:
            values = [f"- `{each.name}`: {_about(f'{enum.full_name}.{each.name}')}" for each in enum.values]
            self.components[name] = {
                "type": "string",
                "description": "\n".join([_about(enum.full_name), "", *values]),
                "enum": [each.name for each in enum.values],
            }
        return {"$ref": f"#/components/schemas/{name}"}


def is_required(field: FieldDescriptor) -> bool:
    """Return whether the comment of a field says that it is required, or a list needs an item."""
    needs_item = LIMITS.get(field.full_name.removeprefix(PACKAGE), {}).get("minItems", 0) > 0
    return needs_item or bool(_REQUIRED.search(comments()[field.full_name]))


def _about(name: str) -> str:
    text = comments()[name]
    if not text:
        raise ValueError(f"{name}: it has no comment; write one in queue.proto")
    return markdown(text)

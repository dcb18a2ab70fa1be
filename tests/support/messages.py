"""Arbitrary messages of protobuf for property tests, made from descriptors."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def messages(descriptor: Descriptor, depth: int = 3) -> st.SearchStrategy[Any]:
    """Return a strategy for valid messages of a type."""
    kind = GetMessageClass(descriptor)
    if descriptor.full_name == "google.protobuf.Timestamp":
        # What JSON can represent: years 1 to 9999.
        return st.builds(kind, seconds=st.integers(-62_135_596_800, 253_402_300_799), nanos=st.integers(0, 999_999_999))
    if descriptor.full_name == "google.protobuf.Duration":
        return st.builds(kind, seconds=st.integers(0, 315_576_000_000), nanos=st.integers(0, 999_999_999))
    fields = {field.name: _values(field, depth) for field in descriptor.fields}
    # Each field is left out now and then.
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: kind(**values))


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    one = _one(field, depth)
    return st.lists(one, max_size=2) if field.is_repeated else one


def _one(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth - 1) if depth else st.builds(GetMessageClass(field.message_type))
    if field.enum_type is not None:
        # An open enum may have numbers without a name.
        return st.sampled_from([*field.enum_type.values_by_number, 77])
    if field.cpp_type in _INTEGERS:
        return _INTEGERS[field.cpp_type]
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    return st.binary(max_size=8) if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS


def copy_of(message: Message) -> Message:
    """Return an empty message of the same type."""
    return type(message)()

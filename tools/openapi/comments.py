"""The comments of queue.proto as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import google.api
import grpc_tools
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from queuelet.wire.errors import Code

SERVER = Path(__file__).parents[2] / "server"

PROTO = "queuelet/v1/queue.proto"

_ERRORS = "Errors:"

_CAUSE = re.compile(r"([A-Z_]+) \(([A-Z_, ]+)\): (.+)")

# Numbers of fields in descriptor.proto, of which the paths of comments consist.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS = 2, 3, 4
_VALUES, _METHODS = 2, 2


class Cause(NamedTuple):
    """An error that a method can fail with."""

    code: Code
    reasons: list[str]
    text: str


class MethodComment(NamedTuple):
    """The parts of the comment of a method."""

    summary: str
    """The first sentence, without the name of the method."""

    details: str
    """All other sentences, as Markdown."""

    causes: list[Cause]


@cache
def comments() -> Mapping[str, str]:
    """Return the comments of queue.proto by the full name of their subject, such as `queuelet.v1.Queue.name`."""
    with TemporaryDirectory() as folder:
        image = Path(folder) / "image.binpb"
        includes = (Path(grpc_tools.__file__).parent / "_proto", Path(google.api.__path__[0]).parents[1], SERVER)
        options = [f"-I{each}" for each in includes]
        if protoc.main(["protoc", *options, "--include_source_info", f"-o{image}", PROTO]) != 0:
            raise ValueError(f"{PROTO}: protoc refused it; see its output above")
        (file,) = FileDescriptorSet.FromString(image.read_bytes()).file
    at = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
    return {f"{file.package}.{name}": _cleaned(at.get(path, "")) for name, path in _subjects(file)}


def method_comment(name: str, text: str) -> MethodComment:
    """Split the comment of a method into its parts."""
    text, _, errors = text.partition(f"{_ERRORS}\n")
    sentence, rest = _first_sentence(markdown(text))
    summary = sentence.removeprefix(f"{name} ")
    causes = [_cause(name, each) for each in markdown(errors).removeprefix("- ").split("\n- ")] if errors else []
    return MethodComment(summary[:1].upper() + summary[1:], rest, causes)


def markdown(text: str) -> str:
    """Return a comment with each paragraph and each item of a list in one line."""
    lines: list[str] = []
    for line in text.splitlines():
        if lines and lines[-1] and line and not line.startswith("- "):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return re.sub(r"(?m)^([^-\n].*)\n- ", r"\1\n\n- ", "\n".join(lines)).strip()


def _first_sentence(text: str) -> tuple[str, str]:
    match = re.match(r"(.+?\.)(?:\s+|$)", text, re.DOTALL)
    if not match:
        raise ValueError(f"comment: {text[:60]!r} is not a sentence; end it with a period")
    return match[1], text[match.end() :]


def _cause(method: str, text: str) -> Cause:
    match = _CAUSE.fullmatch(text)
    if not match:
        raise ValueError(f"{method}: the error {text[:60]!r} has not the form CODE (REASON): text; see other methods")
    return Cause(Code[match[1]], match[2].split(", "), match[3])


def _cleaned(text: str) -> str:
    lines = (line.removeprefix(" ") for line in text.splitlines())
    return "\n".join(line for line in lines if not line.startswith("buf:lint:")).strip()


def _subjects(file: FileDescriptorProto) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Yield names and paths of everything that has a comment."""
    for index, service in enumerate(file.service):
        yield service.name, (_SERVICES, index)
        for number, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (_SERVICES, index, _METHODS, number)
    for index, enum in enumerate(file.enum_type):
        yield from _of_enum(enum, "", (_ENUMS, index))
    for index, message in enumerate(file.message_type):
        yield from _of_message(message, "", (_MESSAGES, index))


def _of_message(message: DescriptorProto, prefix: str, path: tuple[int, ...]) -> Iterable[tuple[str, tuple[int, ...]]]:
    name = f"{prefix}{message.name}"
    yield name, path
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, _FIELDS, index)
    for index, nested in enumerate(message.nested_type):
        yield from _of_message(nested, f"{name}.", (*path, _NESTED, index))
    for index, enum in enumerate(message.enum_type):
        yield from _of_enum(enum, f"{name}.", (*path, _NESTED_ENUMS, index))


def _of_enum(enum: EnumDescriptorProto, prefix: str, path: tuple[int, ...]) -> Iterable[tuple[str, tuple[int, ...]]]:
    name = f"{prefix}{enum.name}"
    yield name, path
    for index, value in enumerate(enum.value):
        yield f"{name}.{value.name}", (*path, _VALUES, index)

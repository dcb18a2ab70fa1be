"""Generates the client library's reference from its docstrings: `python -m tools.api_reference docs/client-api.md`.

Names come from `__all__`, and their descriptions from the source, in the order of the source. `gaps` returns the names
without a docstring.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import queuelet.client
import queuelet.errors
from queuelet.client import blocking

INTRODUCTION = """\
# The client library, name by name

Made of the docstrings by `make generate`: change it there. How to use all this is told in [client.md](client.md).
"""

MADE_FOR_YOU = frozenset({"Consumption", "Delivery", "Message", "News", "Received", "Sent"})
"""Classes that only the library creates, so their constructors are private."""

INSIDE = frozenset({
    "Client.call_once",
    "Client.inner",
    "Client.park",
    "Client.thread",
    "Connection.error_of",
    "Connection.metadata",
    "Connection.open_channel",
    "Consumption.is_in_use",
    "News.of",
    "Sent.deadline",
    "Sent.is_withdrawn",
    "Sent.message",
    "Sent.settle",
    "Sent.size",
})  # fmt: skip
"""Names that are public only because other modules of the library use them."""

ARGUMENTS = {
    "answer": "the class of the answer, one of `queuelet.v1.queue_pb2`",
    "at_once": "whether not to wait until what was said is heard",
    "call": "a function that is called with the outcome",
    "client": "an open client",
    "concurrency": "on how many messages you work at a time; 0 for all",
    "connection": "how to reach the server, or its address alone",
    "consumer": "what you call yourself in the history of messages that fail",
    "count": "how many more messages may come",
    "credit": "how many messages may come before you say that more may",
    "dead": "whether the messages are dead at once",
    "declarations": "what queues should be, as `queuelet.v1.queue_pb2.QueueDeclaration`",
    "delay": "how long the message is not delivered, in seconds",
    "delivery": "how messages are delivered; None for the server's defaults",
    "dry_run": "whether only to tell how many it would be",
    "errors": "some of the errors, the first ones",
    "everything": "whether it is all messages",
    "exclusive": "whether to be the only one who takes messages from the queue",
    "extra": "how much longer than others the call may take, in seconds",
    "failed": "how many messages they are",
    "handler": "does the work of a message",
    "heartbeat": "for how long a stream may be silent, in seconds; 0 for any time",
    "ids": "ids of messages",
    "item": "what is put, as the serializer takes it",
    "items": "what is put, in order",
    "key": "messages of one key go to one shard; empty for none",
    "lease": "how long leases last, in seconds; 0 for what the queue says",
    "limit": "the most messages a queue holds; -1 for no bound",
    "listener": "a function that is called with each state",
    "max_bytes": "how many bytes of messages may be here; 0 for any number",
    "maximum": "the most messages at once; 0 for as many as an answer holds",
    "message_id": "a UUID of yours for the message; one that is still queued is not added again",
    "messages": "what to add, as `queuelet.v1.queue_pb2.NewMessage`",
    "model": "the class of the items",
    "name": "of `new_queue`: what the queue is called; of `call` and `stream`: the method of the server",
    "not_before": "until when the message is not delivered; a time without a zone is local time",
    "options": "settings by name, as the class takes them that the text names",
    "page_size": "how many are asked for at once; 0 for the server's choice",
    "payload": "bytes of a message",
    "priority": "smaller comes first",
    "queue": "the queue's name or id",
    "rate": "the most messages a second; 0 for no bound",
    "reason": "what stands in the history of the messages",
    "removals": "queues to remove, as `queuelet.v1.queue_pb2.QueueRemoval`",
    "repeat": "whether this call may be made twice",
    "request": "the request, one of `queuelet.v1.queue_pb2`",
    "request_id": "a text of yours: the call, made again with it within a minute, comes to the same",
    "selector": "tags to select by, as kubectl reads them; empty for all",
    "serializer": "what makes bytes of items, and items of bytes",
    "states": "only messages in these states, if any are given",
    "store": "where messages live: `MEMORY` or `DISK`",
    "tag": "a pair of key and value",
    "tags": "pairs of key and value",
    "timeout": "how long to wait, or to try, in seconds; None for ever, or for what was set before",
    "token": "the token of a lease",
    "tokens": "the tokens of leases",
    "ttl": "after how long the message is dead unless it is done, in seconds; 0 for what the queue says",
    "unused": "whether this delivery does not count",
    "wait": "of what adds: whether to wait for room; of what takes: how long to wait for a message, in seconds",
}
"""Descriptions of arguments, used if a docstring has no `Args:` of its own."""

_WIDTH = 100
"""Of a signature on one line."""

_SECTION = re.compile(r"^(Args|Raises):\n((?: +.*\n?)+)", re.MULTILINE)


@dataclass
class Thing:
    """A name, its signature and its description."""

    name: str
    signature: str
    text: str
    unexplained: list[str] = field(default_factory=list)
    """Arguments that its text does not describe."""
    attributes: list[Thing] = field(default_factory=list)
    methods: list[Thing] = field(default_factory=list)


def main() -> None:
    """Write the reference into a file."""
    Path(sys.argv[1]).write_text(reference())


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [INTRODUCTION]
    for module in (queuelet.client, blocking):
        parts.append(f"## {module.__name__}\n\n{module.__doc__}")
        prefix = "" if module is queuelet.client else "blocking."
        parts += [_entry(thing, prefix) for thing in things(module)]
    parts.append("## Arguments\n\nWhat they are where nothing else is said.\n")
    parts.append(_table(("argument", ""), ((f"`{name}`", meaning) for name, meaning in ARGUMENTS.items())))
    parts.append("## queuelet.errors\n\nWhat calls raise. Each has a `message` and `facts`.\n")
    parts.append(
        _table(
            ("error", "reason", ""), ((f"`{kind.__name__}`", kind.reason, _first(kind.__doc__)) for kind in errors())
        )
    )
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def gaps() -> list[str]:
    """Return the public names without a docstring, and the arguments without a description."""
    missing = [kind.__name__ for kind in errors() if not _own_docstring(kind)]
    for module in (queuelet.client, blocking):
        for each in _flat(things(module)):
            where = f"{module.__name__}.{each.name}"
            missing += [where] * (not each.text)
            missing += [f"{where}({name})" for name in each.unexplained if name not in ARGUMENTS]
    return missing


def unused() -> set[str]:
    """Return the descriptions of arguments and names that do not exist."""
    found = list(_flat([*things(queuelet.client), *things(blocking)]))
    hidden = {name for name in INSIDE if not any(_has(module, name) for module in (queuelet.client, blocking))}
    return ARGUMENTS.keys() - {name for each in found for name in each.unexplained} | hidden


def things(module: ModuleType) -> list[Thing]:
    """Return the public names of a module."""
    return [_thing(module, name) for name in module.__all__]


def errors() -> list[type[queuelet.errors.QueueletError]]:
    """Return the error classes that calls raise, the base class first."""
    base = queuelet.errors.QueueletError
    return [kind for kind in vars(queuelet.errors).values() if inspect.isclass(kind) and issubclass(kind, base)]


# Reading


def _thing(module: ModuleType, name: str) -> Thing:
    value = getattr(module, name)
    if inspect.isclass(value):
        return _class(value)
    for home in (module, *(each for key, each in sorted(sys.modules.items()) if key.startswith("queuelet.client."))):
        if vars(home).get(name) is not value:
            continue
        for found, signature, text in _described(ast.parse(inspect.getsource(home)).body):
            if found == name:
                # A value without a docstring is described by its class.
                return Thing(name, signature, _prose(text or inspect.getdoc(type(value))))
    raise LookupError(f"the module of {name} is unknown")


def _class(kind: type[Any]) -> Thing:
    name = kind.__name__
    bases = ", ".join(base.__name__ for base in kind.__bases__ if issubclass(base, Exception | Enum))
    thing = Thing(name, f"class {name}({bases})" if bases else f"class {name}", _prose(_own_docstring(kind)))
    node = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(node, ast.ClassDef)  # noqa: S101  # the source of a class is one
    for found, signature, text in _described(node.body):
        if _is_public(name, found) and not callable(getattr(kind, found, None)):
            thing.attributes.append(Thing(f"{name}.{found}", signature, _prose(text)))
    _add_constructor(thing, kind, _constructor(node))
    _add_methods(thing, kind)
    return thing


def _add_constructor(thing: Thing, kind: type[Any], body: list[ast.stmt]) -> None:
    name = thing.name
    if name not in MADE_FOR_YOU and inspect.isfunction(kind.__init__):
        made = _function(name, kind.__init__, f"class {name}")
        if is_dataclass(kind):
            thing.signature = made.signature  # and its fields are explained
        elif body:
            thing.signature, thing.unexplained = made.signature, made.unexplained
            thing.text = f"{thing.text}\n\n{made.text}".strip()
    for found, signature, text in _described(body, "self."):
        if _is_public(name, found):
            thing.attributes.append(Thing(f"{name}.{found}", signature, _prose(text)))


def _add_methods(thing: Thing, kind: type[Any]) -> None:
    name = thing.name
    for found, value in vars(kind).items():
        if isinstance(value, property) and _is_public(name, found):
            returns = inspect.signature(_getter(value)).return_annotation
            thing.attributes.append(Thing(f"{name}.{found}", f"{found}: {returns}", _prose(inspect.getdoc(value))))
        elif inspect.isfunction(value) and _is_public(name, found):
            thing.methods.append(_function(f"{name}.{found}", value, _words(value)))


def _function(name: str, value: Callable[..., object], words: str) -> Thing:
    doc = inspect.getdoc(value) or ""
    parameters = list(inspect.signature(value).parameters.values())[1:]
    listed = {each for kind, body in _SECTION.findall(doc) if kind == "Args" for each in _items(body)}
    named = {each.name for each in parameters}
    if listed and listed != named:
        raise ValueError(f"{name}: Args and parameters differ by {sorted(listed ^ named)}")
    inner = inspect.unwrap(value)
    text = _prose(doc)
    if inner is not value:
        text = f"{_first(doc)} As `{inner.__module__.rpartition('.')[0]}.{inner.__qualname__}`."
    return Thing(name, _signature(words, value, parameters), text, sorted(named - listed))


def _described(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yield the names that statements assign to, the statements, and the docstrings below them."""
    for statement, below in zip(body, [*body[1:], ast.Pass()], strict=False):
        if isinstance(statement, ast.Assign):
            name = ast.unparse(statement.targets[0])
        elif isinstance(statement, ast.AnnAssign):
            name = ast.unparse(statement.target)
        else:
            continue
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if name.startswith(prefix):
            shown = ast.unparse(statement).removeprefix(prefix).replace("'", '"')
            # An assignment in a constructor says no more of an attribute than its name.
            signature = name.removeprefix(prefix) if prefix and isinstance(statement, ast.Assign) else shown
            yield name.removeprefix(prefix), signature, inspect.cleandoc(str(text)) if text else None


def _own_docstring(kind: type[Any]) -> str:
    """Return the docstring of a class itself, not one of its bases."""
    return inspect.cleandoc(vars(kind).get("__doc__") or "")


def _constructor(node: ast.ClassDef) -> list[ast.stmt]:
    """Return the statements of `__init__`, or none if the class has none in its source or only overloads."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__" and not each.decorator_list:
            return each.body
    return []


def _is_public(owner: str, name: str) -> bool:
    return not name.startswith("_") and name != "reason" and f"{owner}.{name}" not in INSIDE


def _has(module: ModuleType, path: str) -> bool:
    owner, name = path.split(".")
    kind = getattr(module, owner, None)
    return kind is not None and (hasattr(kind, name) or f"self.{name} = " in inspect.getsource(kind))


def _getter(value: property) -> Callable[[Any], Any]:
    assert value.fget is not None  # noqa: S101  # all of them can be read
    return value.fget


def _flat(found: list[Thing]) -> Iterator[Thing]:
    for each in found:
        yield each
        yield from each.attributes
        yield from each.methods


# Writing


def _entry(thing: Thing, prefix: str) -> str:
    lines = [f"### {prefix}{thing.name}", "", "```python", thing.signature, "```", "", thing.text]
    if thing.attributes:
        rows = ((f"`{_escaped(each.signature)}`", " ".join(each.text.split())) for each in thing.attributes)
        lines += ["", _table(("attribute", ""), rows).rstrip()]
    for each in thing.methods:
        lines += ["", f"#### {prefix}{each.name}", "", "```python", each.signature, "```", "", each.text]
    return "\n".join(lines)


def _words(value: Callable[..., object]) -> str:
    is_async = inspect.iscoroutinefunction(value)
    return f"{'async ' if is_async else ''}def {value.__name__}"


def _signature(words: str, value: Callable[..., object], parameters: list[inspect.Parameter]) -> str:
    returns = inspect.signature(value).return_annotation
    shown: list[str] = []
    for before, each in zip([None, *parameters], parameters, strict=False):
        if each.kind is each.KEYWORD_ONLY and (before is None or before.kind is before.POSITIONAL_OR_KEYWORD):
            shown.append("*")
        stars = "*" * (each.kind is each.VAR_POSITIONAL) + "**" * (each.kind is each.VAR_KEYWORD)
        default = "" if each.default is each.empty else f" = {_default(each.default)}"
        shown.append(f"{stars}{each.name}: {each.annotation}{default}")
    end = "" if words.startswith("class") else f" -> {returns}"
    if inspect.unwrap(value) is not value:
        end = end.replace("AsyncIterator[", "Iterator[")
    line = f"{words}({', '.join(shown)}){end}"
    return line if len(line) <= _WIDTH else f"{words}(\n    {(',' + chr(10) + '    ').join(shown)},\n){end}"


def _default(value: object) -> str:
    for name in queuelet.client.__all__:
        if getattr(queuelet.client, name) is value:
            return name
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if is_dataclass(value):
        return f"{type(value).__name__}()"
    text = repr(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) else text


def _prose(text: str | None) -> str:
    """Return a docstring as Markdown: what it lists becomes a list."""
    return _SECTION.sub(_list, text or "").strip()


def _list(section: re.Match[str]) -> str:
    kind, body = section.groups()
    rows = [f"- `{name}`: {text}" if text else f"- {name}" for name, text in _items(body).items()]
    return f"{'Arguments' if kind == 'Args' else kind}:\n\n" + "\n".join(rows) + "\n"


def _items(body: str) -> dict[str, str]:
    """Return the items of a section with their descriptions."""
    items: dict[str, str] = {}
    for line in inspect.cleandoc(body).splitlines():
        if line.startswith(" "):
            name = next(reversed(items))
            items[name] += f" {line.strip()}"
        else:
            name, _, text = line.partition(": ")
            items[name] = text
    return items


def _first(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


if __name__ == "__main__":
    main()

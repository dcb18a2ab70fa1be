"""Generates the reference of the client library: `python -m tools.api_reference docs/client-api.md`.

Names come from `__all__`, and their descriptions from the docstrings in Google's style, in the order of the source.
`gaps` lists public names without a docstring, and arguments and results that their docstring does not describe.
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
from tools.syntax import parse

INTRODUCTION = """\
# The client library, name by name

`make generate` makes this page from the docstrings; change it there. [client.md](client.md) shows how to use the
library.
"""

MADE_FOR_YOU = frozenset({
    "BrowsedMessage",
    "ConsumeUpdate",
    "Consumption",
    "DeclareResult",
    "Delivery",
    "Message",
    "PendingPut",
    "Queue",
    "QueueChanges",
    "QueueStats",
    "Received",
    "RedriveProgress",
    "RemoveResult",
    "RemovedQueue",
    "ServerStats",
    "StoreState",
    "Try",
})  # fmt: skip
"""Classes that programs do not construct."""

INSIDE = frozenset({
    "Client.call_once",
    "Client.inner",
    "Client.park",
    "Client.thread",
    "Connection.error_of",
    "Connection.metadata",
    "Connection.open_channel",
    "ConsumeUpdate.of",
    "Consumption.begin",
    "Consumption.is_in_use",
    "Consumption.send",
    "Owner.may_be",
    "PendingPut.deadline",
    "PendingPut.is_withdrawn",
    "PendingPut.message",
    "PendingPut.settle",
    "PendingPut.size",
})  # fmt: skip
"""Names without an underscore that are only for other modules of the library."""

PUBLIC = frozenset({*queuelet.client.__all__, *blocking.__all__})
"""Names that have an entry."""

_WIDTH = 100
"""The largest width of a signature on one line."""

_SECTION = re.compile(r"^(Args|Returns|Yields|Raises):\n((?: +.*\n?)+)", re.MULTILINE)


@dataclass
class Thing:
    """A public name, its signature and its description."""

    name: str
    signature: str
    text: str
    undocumented: list[str] = field(default_factory=list)
    """Arguments, and `return`, that its docstring does not describe."""
    attributes: list[Thing] = field(default_factory=list)
    methods: list[Thing] = field(default_factory=list)


def main() -> None:
    """Write the reference into the file of the first argument."""
    Path(sys.argv[1]).write_text(reference())


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [INTRODUCTION]
    for module in (queuelet.client, blocking):
        parts.append(f"## {module.__name__}\n\n{module.__doc__}")
        prefix = "" if module is queuelet.client else "blocking."
        parts += [_entry(thing, prefix) for thing in things(module)]
    parts.append("## queuelet.errors\n\nThe errors that calls raise. Each has a `message` and `facts`.\n")
    parts.append(
        _table(
            ("error", "reason", ""), ((f"`{kind.__name__}`", kind.reason, _first(kind.__doc__)) for kind in errors())
        )
    )
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def gaps() -> list[str]:
    """Return the public names without a docstring, and the arguments and results without a description."""
    missing = [kind.__name__ for kind in errors() if not _own_docstring(kind)]
    for module in (queuelet.client, blocking):
        for each in _flat(things(module)):
            where = f"{module.__name__}.{each.name}"
            missing += [where] * (not each.text)
            missing += [f"{where}({name})" for name in each.undocumented]
    return missing


def unused() -> set[str]:
    """Return the entries of `INSIDE` that do not exist."""
    return {name for name in INSIDE if not any(_has(module, name) for module in (queuelet.client, blocking))}


def things(module: ModuleType) -> list[Thing]:
    """Return the public names of a module."""
    return [_thing(module, name) for name in module.__all__]


def errors() -> list[type[queuelet.errors.QueueletError]]:
    """Return the kinds of error that calls raise, and their base class."""
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
        for found, signature, text in _described(parse(inspect.getsource(home)).body):
            if found == name:
                # A value without a docstring has that of its class.
                return Thing(name, signature, _prose(text or inspect.getdoc(type(value))))
    raise LookupError(f"{name} is not defined in a module of the library")


def _class(kind: type[Any]) -> Thing:
    name = kind.__name__
    bases = ", ".join(base.__name__ for base in kind.__bases__ if issubclass(base, Exception | Enum))
    thing = Thing(name, f"class {name}({bases})" if bases else f"class {name}", _prose(_own_docstring(kind)))
    node = parse(inspect.getsource(kind)).body[0]
    assert isinstance(node, ast.ClassDef)  # noqa: S101  # it is the source of a class
    for found, signature, text in _described(node.body):
        if _is_public(name, found) and not callable(getattr(kind, found, None)):
            thing.attributes.append(Thing(f"{name}.{found}", signature, _prose(text)))
    _add_constructor(thing, kind, _constructor(node))
    _add_methods(thing, kind)
    return thing


def _add_constructor(thing: Thing, kind: type[Any], body: list[ast.stmt]) -> None:
    name = thing.name
    if name not in MADE_FOR_YOU and inspect.isfunction(kind.__init__):
        doc = inspect.cleandoc(kind.__init__.__doc__ or "")
        parameters, undocumented = _parameters(name, kind.__init__, f"{_own_docstring(kind)}\n\n{doc}")
        if is_dataclass(kind):
            thing.signature = _signature(f"class {name}", kind.__init__, parameters)  # its fields have docstrings
        elif body:
            thing.signature, thing.undocumented = _signature(f"class {name}", kind.__init__, parameters), undocumented
            thing.text = f"{thing.text}\n\n{_prose(doc)}".strip()
    for found, signature, text in _described(body, "self."):
        if _is_public(name, found):
            thing.attributes.append(Thing(f"{name}.{found}", signature, _prose(text)))


def _add_methods(thing: Thing, kind: type[Any]) -> None:
    name = thing.name
    for found, value in (each for part in _parts(kind) for each in vars(part).items()):
        if isinstance(value, property) and _is_public(name, found):
            returns = inspect.signature(_getter(value)).return_annotation
            thing.attributes.append(Thing(f"{name}.{found}", f"{found}: {returns}", _prose(inspect.getdoc(value))))
        elif inspect.isfunction(value) and _is_public(name, found):
            thing.methods.append(_function(f"{name}.{found}", value, _words(value)))


def _parts(kind: type[Any]) -> list[type[Any]]:
    """Return a class, and the bases that have methods of it but no entry of their own."""
    return [
        each
        for each in kind.__mro__
        if each is kind or (each.__module__.startswith("queuelet.client.") and each.__name__ not in PUBLIC)
    ]


def _function(name: str, value: Callable[..., object], words: str) -> Thing:
    doc = inspect.getdoc(value) or ""
    parameters, undocumented = _parameters(name, value, doc)
    has_result = inspect.signature(value).return_annotation not in {"None", "Self", None}
    if has_result and not doc.startswith("Return ") and not re.search("^(Returns|Yields):$", doc, re.MULTILINE):
        undocumented.append("return")
    inner = inspect.unwrap(value)
    text = _prose(doc)
    if inner is not value:
        text = f"{_first(doc)} As `{inner.__module__.rpartition('.')[0]}.{name}`."
    return Thing(name, _signature(words, value, parameters), text, undocumented)


def _parameters(name: str, value: Callable[..., object], doc: str) -> tuple[list[inspect.Parameter], list[str]]:
    """Return the parameters of a function, and the names of those that its docstring does not describe."""
    parameters = list(inspect.signature(value).parameters.values())[1:]
    listed = {each.lstrip("*") for kind, body in _SECTION.findall(doc) if kind == "Args" for each in _items(body)}
    named = {each.name for each in parameters}
    if listed - named:
        raise ValueError(f"{name}: it has no arguments {sorted(listed - named)}")
    return parameters, sorted(named - listed)


def _described(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yield the names that statements assign to, their signatures, and the docstrings below them."""
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
            # In a constructor, the assigned value says nothing about the attribute.
            signature = name.removeprefix(prefix) if prefix and isinstance(statement, ast.Assign) else shown
            yield name.removeprefix(prefix), signature, inspect.cleandoc(str(text)) if text else None


def _own_docstring(kind: type[Any]) -> str:
    """Return the docstring of a class itself, and not of a base class."""
    return inspect.cleandoc(vars(kind).get("__doc__") or "")


def _constructor(node: ast.ClassDef) -> list[ast.stmt]:
    """Return the statements of `__init__`, if the class has one. Overloads are skipped."""
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
    assert value.fget is not None  # noqa: S101  # no property is write-only
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
    """Return a docstring as Markdown. Its sections become lists."""
    return _SECTION.sub(_list, text or "").strip()


def _list(section: re.Match[str]) -> str:
    kind, body = section.groups()
    if kind in {"Returns", "Yields"}:
        return f"{kind}: {' '.join(body.split())}\n"
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

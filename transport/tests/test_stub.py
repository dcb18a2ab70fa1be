"""The stub, which is the documentation, says what the module has."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import grpc_sansio as g

STUB = ast.parse((Path(__file__).parents[1] / "python/grpc_sansio/_core.pyi").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}


def test_every_constant_has_the_value_of_the_stub() -> None:
    constants = {
        node.target.id: node.value.value
        for node in STUB.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    assert len(constants) == 15
    assert {name: getattr(g, name) for name in constants} == constants


def test_the_module_exports_what_the_stub_has() -> None:
    assert set(CLASSES) <= set(g.__all__)
    assert {name for name in g.__all__ if inspect.isclass(getattr(g, name))} - {"Event", "Metadata"} == set(CLASSES)


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "ConnectionClosedError"])
def test_methods_and_their_parameters_are_those_of_the_stub(name: str) -> None:
    stubbed = {node.name: node for node in CLASSES[name].body if isinstance(node, ast.FunctionDef)}
    real = {member for member in vars(getattr(g, name)) if not member.startswith("_")}
    assert {member for member in stubbed if member != "__new__"} == real
    for member, node in stubbed.items():
        found = getattr(g, name) if member == "__new__" else getattr(getattr(g, name), member)
        if not callable(found):
            continue
        parameters = [parameter for parameter in inspect.signature(found).parameters if parameter != "self"]
        expected = [argument.arg for argument in (*node.args.args[1:], *node.args.kwonlyargs)]
        assert parameters == expected, member

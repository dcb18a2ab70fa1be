"""docs/operator.md lists exactly the fields, reasons, metrics and flags that exist."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import queuelet_operator
from queuelet.certificates import FileFigures
from queuelet.values import RemoveOutcome
from queuelet.web.credential_metrics import CredentialMetrics
from queuelet_operator import class_keeper
from queuelet_operator.__main__ import main
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan import conditions, deletion, events, resources, situation
from queuelet_operator.plan.model import Cause, Reason
from queuelet_operator.plan.resources import API_VERSION, FINALIZER, GROUP, DeletionPolicy
from queuelet_operator.plan.status import READY, RECONCILING, STALLED
from queuelet_operator.settings import Settings
from support.documents import ROOT
from tools.syntax import parse

DOCUMENT = "docs/operator.md"
(VERSION,) = yaml.safe_load((ROOT / "crds" / "queues.yaml").read_text())["spec"]["versions"]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]["properties"]


def table(heading: str) -> list[list[str]]:
    """Return the cells of each row of the first table below a heading, without its head."""
    section = (ROOT / DOCUMENT).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows[2:]]


def names(cell: str) -> list[str]:
    """Return the texts in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def first_names(heading: str) -> list[str]:
    """Return the texts in backticks in the first cell of each row."""
    return [name for row in table(heading) for name in names(row[0])]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and schema of each field that has no subfields."""
    for name, child in schema.get("properties", {}).items():
        yield from fields(child, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")
    elif "properties" not in schema:
        yield path, schema


def calls(module: ModuleType, function: str) -> Iterator[dict[str, ast.expr]]:
    """Yield the named arguments of each call of a function in a module."""
    assert module.__file__
    for node in ast.walk(parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            yield {str(keyword.arg): keyword.value for keyword in node.keywords}


@pytest.mark.parametrize("part", ["Spec", "Status"])
def test_it_lists_every_field(part: str) -> None:
    listed = first_names(part)
    assert sorted(listed) == sorted(path for path, _ in fields(SCHEMA[part.lower()]))


def test_it_has_the_default_of_every_field_of_the_spec() -> None:
    found = dict(fields(SCHEMA["spec"]))
    for row in table("Spec"):
        for name in names(row[0]):
            default = found[name].get("default")
            assert row[1] == ("none" if default is None else f"`{default}`"), name


def test_it_has_the_range_of_every_number_of_the_spec() -> None:
    described = {name: row[2] for row in table("Spec") for name in names(row[0])}
    for path, schema in fields(SCHEMA["spec"]):
        if "maximum" in schema and path != "drainSeconds":
            assert f"{schema['minimum']} to {schema['maximum']}" in described[path], path


def test_it_lists_every_annotation() -> None:
    ours = {value for value in vars(resources).values() if isinstance(value, str) and value.startswith(f"{GROUP}/")}
    assert set(first_names("Annotations")) == ours - {FINALIZER, API_VERSION}
    assert FINALIZER in (ROOT / DOCUMENT).read_text()


def test_it_lists_every_condition() -> None:
    assert first_names("Conditions") == [READY, RECONCILING, STALLED]


def test_it_lists_every_reason() -> None:
    assert first_names("Reasons") == list(Reason)


def test_it_has_the_condition_of_every_reason() -> None:
    """Of the reasons for which it is fixed in the code. For a refusal it depends on the server's response."""
    documented = {names(row[0])[0]: row[2] for row in table("Reasons")}
    assert documented.pop(Reason.REFUSED) == f"{STALLED} or {RECONCILING}"
    found: dict[str, set[str]] = {reason: set() for reason in documented}
    for module in (conditions, deletion, situation):
        for given in calls(module, "Verdict"):
            for reason in reasons_in(module, given["reason"]):
                found[reason] |= {type_ for type_ in (RECONCILING, STALLED) if type_.lower() in given}
    assert {reason: set(filter(None, text.split(" or "))) for reason, text in documented.items()} == found


def reasons_in(module: ModuleType, given: ast.expr) -> list[Reason]:
    """Return the reasons that an expression can have: the one that it names, or those of the function it calls."""
    if isinstance(given, ast.Call) and isinstance(given.func, ast.Name):
        tree = ast.parse(inspect.getsource(getattr(module, given.func.id)))
        return [
            reason for node in ast.walk(tree) if isinstance(node, ast.Attribute) for reason in reasons_in(module, node)
        ]
    if isinstance(given, ast.Attribute) and isinstance(given.value, ast.Name) and given.value.id == "Reason":
        return [Reason[given.attr]]
    return []


def test_it_lists_every_policy() -> None:
    assert first_names("Deletion") == [policy.value for policy in DeletionPolicy]


# Events

POSTING = (events, deletion, conditions, class_keeper)


def notices_in(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield the reason and the type of each Event that a module can post."""
    for given in calls(module, "Notice"):
        is_warning = "is_warning" in given and ast.literal_eval(given["is_warning"])
        yield reason_in(module, given["reason"]), "Warning" if is_warning else "Normal"


def reason_in(module: ModuleType, node: ast.expr) -> str:
    """Evaluate the expression of a reason: a text, a constant of the module, or the value of a `Reason`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return str(getattr(module, node.id))
    assert isinstance(node, ast.Attribute)
    assert isinstance(node.value, ast.Attribute)
    return Reason[node.value.attr].value


def test_it_lists_every_event_with_its_type() -> None:
    package = Path(queuelet_operator.__file__).parent
    posting = {path.stem for path in package.rglob("*.py") if "Notice(" in path.read_text()}
    assert posting == {module.__name__.rpartition(".")[2] for module in POSTING}, "these are checked"
    ours = {notice for module in POSTING for notice in notices_in(module)}
    assert {(names(row[0])[0], row[1]) for row in table("Events")} == ours


# Metrics


def test_it_lists_every_metric_with_its_labels() -> None:
    metrics = Metrics()
    ours = {}
    for each in vars(metrics).values():
        if isinstance(each, MetricWrapperBase):
            (family,) = each.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            ours[name] = list(each._labelnames)  # noqa: SLF001  # there is no public way to read them
    figures = FileFigures(file="tls.crt", role="certificate", is_stale=False, expires_at=0.0)
    metrics.watch_files(lambda: [figures])
    for family in CredentialMetrics(lambda: [figures], prefix="queuelet_operator").collect():
        ours[family.name] = list(family.samples[0].labels)
    assert len(ours) == len(list(metrics.registry.collect()))
    listed = {names(row[0])[0]: [label for label in row[1].split(", ") if label] for row in table("Metrics")}
    assert listed == ours


def test_it_names_causes_and_results_that_there_are() -> None:
    described = {names(row[0])[0]: names(row[2]) for row in table("Metrics")}
    repairs = [cause.value for cause in Cause if cause.is_repair]
    assert described["queuelet_operator_declarations_total"] == repairs
    assert described["queuelet_operator_removals_total"] == [outcome.value for outcome in RemoveOutcome]


# Flags


def flags() -> Iterator[click.Option]:
    """Yield every flag."""
    for each in main.params:
        assert isinstance(each, click.Option)
        yield each


def long_name(flag: click.Option) -> str:
    """Return the name with two dashes."""
    (name,) = (name for name in flag.opts if name.startswith("--"))
    return name


def test_it_lists_every_flag() -> None:
    assert first_names("Flags") == [long_name(flag) for flag in flags()]


def test_it_has_the_environment_variable_of_every_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is set and then resolved as click does it."""
    documented = {names(row[0])[0]: names(row[1])[0] for row in table("Flags")}
    context = click.Context(main, **main.context_settings)
    for flag in flags():
        monkeypatch.setenv(documented[long_name(flag)], "given")
        assert flag.resolve_envvar_value(context) == "given", flag.name


def test_it_has_the_default_of_every_flag() -> None:
    in_words = {"--address": "that of `--server`", "--namespace": "all", "--debug": "off", "--server-insecure": "off"}
    documented = {names(row[0])[0]: row[2] for row in table("Flags")}
    for flag in flags():
        value = getattr(Settings(), str(flag.name))
        default = "none" if value in {None, "", ()} else f"`{value}`".replace(".0`", "`")
        assert documented[long_name(flag)] == in_words.get(long_name(flag), default), flag.name

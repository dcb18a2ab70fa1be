"""The CRD agrees with the server's rules for the same fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from queuelet.bounds import UNBOUNDED, Bounds
from queuelet.definition import Counts, DeliverySettings, QueueDefinition, StoreKind
from queuelet.errors import InvalidArgument
from queuelet.ids import checked_name
from queuelet.server.requests import checked_delivery, limit_from_pb
from queuelet.tags import Tag, checked_tags
from queuelet.v1 import queue_pb2 as pb
from support.documents import ROOT

Schema = dict[str, Any]

DEFINITION: Schema = yaml.safe_load((ROOT / "crds" / "queues.yaml").read_text())
(VERSION,) = DEFINITION["spec"]["versions"]
OBJECT: Schema = VERSION["schema"]["openAPIV3Schema"]
SPEC: Schema = OBJECT["properties"]["spec"]["properties"]
STATUS: Schema = OBJECT["properties"]["status"]["properties"]
DELIVERY: Schema = SPEC["delivery"]["properties"]
TAG: Schema = SPEC["tags"]["items"]["properties"]

FIELDS = {
    "lease_seconds": "leaseSeconds",
    "max_deliveries": "maxDeliveries",
    "message_ttl_seconds": "messageTTLSeconds",
}
"""The names of the delivery settings on the server, and in a manifest."""


def schemas(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield a schema and all below it, each with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from schemas(child, f"{path}.{name}")
    if "items" in schema:
        yield from schemas(schema["items"], f"{path}[]")


ALL = dict(schemas(OBJECT, "queue"))
# Kubernetes describes the metadata and allows no other description.
del ALL["queue.metadata"]


def test_stores_are_those_of_the_server_and_of_the_wire() -> None:
    stores = [name.upper() for name in SPEC["store"]["enum"]]
    of_the_wire = {value.number: value.name for value in reversed(pb.Queue.Store.DESCRIPTOR.values) if value.number}
    assert stores == [kind.name for kind in StoreKind]
    assert dict(zip(map(int, StoreKind), stores, strict=True)) == of_the_wire
    assert STATUS["effective"]["properties"]["store"]["enum"] == SPEC["store"]["enum"]


def test_defaults_are_those_of_the_server() -> None:
    defaults = QueueDefinition()
    assert SPEC["store"]["default"].upper() == defaults.store.name
    assert SPEC["limit"]["default"] == defaults.limit == UNBOUNDED
    for name, field in FIELDS.items():
        assert DELIVERY[field].get("default") == getattr(DeliverySettings(), name)


def test_a_limit_is_taken_where_the_server_takes_it() -> None:
    assert SPEC["limit"]["minimum"] == UNBOUNDED
    assert [rule["rule"] for rule in SPEC["limit"]["x-kubernetes-validations"]] == ["self == -1 || self >= 1"]
    assert [limit_from_pb(limit) for limit in (-1, 1, 2**63 - 1)] == [-1, 1, 2**63 - 1]
    for limit in (-2, 0):
        with pytest.raises(InvalidArgument):
            limit_from_pb(limit)


def test_delivery_settings_are_all_there() -> None:
    assert list(FIELDS) == [field.name for field in fields(DeliverySettings)]
    assert list(FIELDS) == [field.name for field in pb.DeliverySettings.DESCRIPTOR.fields]
    assert list(DELIVERY) == list(STATUS["effective"]["properties"]["delivery"]["properties"]) == list(FIELDS.values())


@pytest.mark.parametrize(("name", "field"), FIELDS.items())
def test_a_delivery_setting_has_the_range_of_the_server(name: str, field: str) -> None:
    least, most = DELIVERY[field]["minimum"], DELIVERY[field]["maximum"]
    for value in (least, most):
        assert getattr(checked_delivery(pb.DeliverySettings(**{name: value})), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(InvalidArgument, match=f"delivery.{name}: "):
            checked_delivery(pb.DeliverySettings(**{name: value}))


def test_tags_have_the_bounds_of_the_server() -> None:
    bounds = Bounds()
    assert SPEC["tags"]["maxItems"] == bounds.tags
    assert (TAG["key"]["minLength"], TAG["key"]["maxLength"]) == (1, bounds.tag_key_bytes)
    assert TAG["value"]["maxLength"] == bounds.tag_value_bytes
    for part, most in (("key", bounds.tag_key_bytes), ("value", bounds.tag_value_bytes)):
        assert [rule["rule"] for rule in TAG[part]["x-kubernetes-validations"]] == [f"size(bytes(self)) <= {most}"]


@given(
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=300),
    value=st.text(st.characters(codec="utf-8"), max_size=300),
)
def test_a_tag_within_the_bounds_of_the_definition_is_taken_by_the_server(key: str, value: str) -> None:
    within = len(key.encode()) <= TAG["key"]["maxLength"] and len(value.encode()) <= TAG["value"]["maxLength"]
    if within:
        assert checked_tags([Tag(key, value)], Bounds()) == (Tag(key, value),)
    else:
        with pytest.raises(InvalidArgument):
            checked_tags([Tag(key, value)], Bounds())


_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""The pattern of a namespace, and of each part of an object's name."""


@given(
    namespace=st.from_regex(_LABEL, fullmatch=True),
    name=st.from_regex(rf"{_LABEL}(\.{_LABEL})*", fullmatch=True).filter(lambda text: len(text) <= 253),
)
def test_every_object_has_a_name_that_the_server_takes(namespace: str, name: str) -> None:
    assert checked_name(f"{namespace}.{name}", Bounds()) == f"{namespace}.{name}"


def test_the_longest_name_of_an_object_is_the_longest_of_a_queue() -> None:
    longest = f"{'n' * 63}.{'a' * 253}"
    assert len(longest) == STATUS["queueName"]["maxLength"] == Bounds().name_length
    assert checked_name(longest, Bounds()) == longest


def test_counts_are_those_of_the_server() -> None:
    counts = STATUS["messages"]["properties"]
    assert list(counts) == [*Counts._fields, "total"]
    assert list(Counts._fields) == [field.name for field in pb.MessageCounts.DESCRIPTOR.fields]


def test_effective_values_have_the_names_of_the_spec() -> None:
    effective = STATUS["effective"]["properties"]
    assert [name for name in effective if name not in SPEC] == ["tagCount", "tagsHash"]
    for name in effective.keys() & SPEC.keys():
        schema = effective[name]
        assert list(schema.get("properties", {})) == list(SPEC[name].get("properties", {}))
        assert schema["type"] == SPEC[name]["type"]


@pytest.mark.parametrize("path", ALL)
def test_each_field_is_described_in_sentences(path: str) -> None:
    description = ALL[path]["description"]
    assert description.endswith(".")
    assert description[0].isupper()
    assert "  " not in description


def test_each_rule_says_what_to_do() -> None:
    rules = [rule for schema in ALL.values() for rule in schema.get("x-kubernetes-validations", ())]
    assert len(rules) == 8
    for rule in rules:
        first_word = rule["message"].split()[0]
        assert first_word in {"key", "value"} | set(SPEC), "it names its field"
        assert any(word in rule["message"] for word in ("must be", "create another", "set deletionPolicy"))


def test_a_whole_number_has_its_width() -> None:
    assert [path for path, schema in ALL.items() if schema["type"] == "integer" and "format" not in schema] == []


def test_an_uninstall_leaves_it_and_argo_cd_does_not_prune_it() -> None:
    assert DEFINITION["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep",
        "argocd.argoproj.io/sync-options": "Prune=false",
    }

"""Which Queues an API server accepts and refuses, with which messages, and which defaults it sets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.queue_objects import Object, queue_object, tag
from tools.control_plane import Api, ApiError
from tools.control_plane.api import AS_TABLE, MERGE_PATCH

Kubectl = Callable[..., str]

NO_LIMIT = "limit must be 1 or more, or -1 for unlimited; with 0 the queue would always be full"
NO_CLASS = "queueClassName must be lower-case letters, digits, '-' and '.', and begin and end with a letter or digit"
LONG_KEY = "key must be at most 256 bytes of UTF-8, in which a non-ASCII letter takes 2 to 4; shorten it"
LONG_VALUE = "value must be at most 4096 bytes of UTF-8, in which a non-ASCII letter takes 2 to 4; shorten it"
MANY_BYTES = "tags must be at most 16384 bytes of UTF-8 in all, keys and values together; shorten them, or remove some"
DRAIN_ONLY = "drainSeconds needs deletionPolicy Drain; set deletionPolicy to Drain, or remove drainSeconds"
STORES = 'supported values: "Memory", "Disk", "Postgres"'
POLICIES = 'supported values: "Delete", "Retain", "Drain"'

REFUSED: dict[str, tuple[Object, str]] = {
    "a store there is not": ({"store": "Redis"}, STORES),
    "a store that is yet to come": ({"store": "JetStream"}, STORES),
    "a store in lower case": ({"store": "memory"}, STORES),
    "an empty store": ({"store": ""}, STORES),
    "a number for a store": ({"store": 1}, 'spec.store in body must be of type string: "integer"'),
    "limit 0": ({"limit": 0}, NO_LIMIT),
    "limit -2": ({"limit": -2}, NO_LIMIT),
    "a limit that is no integer": ({"limit": 1.5}, "spec.limit in body must be of type int"),
    "a limit in quotes": ({"limit": "10"}, "spec.limit in body must be of type int"),
    "a limit beyond 64 bits": ({"limit": 2**63}, "spec.limit in body must be of type int"),
    "an empty class": ({"queueClassName": ""}, "spec.queueClassName in body should be at least 1 chars long"),
    "a class with a capital": ({"queueClassName": "Fast"}, NO_CLASS),
    "a class that begins with a dash": ({"queueClassName": "-fast"}, NO_CLASS),
    "a class that ends with a dot": ({"queueClassName": "fast."}, NO_CLASS),
    "a class of two lines": ({"queueClassName": "fast\n"}, NO_CLASS),
    "a class of 254 letters": ({"queueClassName": "a" * 254}, "Too long"),
    "tags as a text": ({"tags": "team=checkout"}, 'spec.tags in body must be of type array: "string"'),
    "tags as a map": ({"tags": {"team": "checkout"}}, 'unknown field "spec.tags.team"'),
    "a tag without a key": ({"tags": [{"value": "checkout"}]}, "spec.tags[0].key: Required value"),
    "a tag without a value": ({"tags": [{"key": "team"}]}, "spec.tags[0].value: Required value"),
    "a tag with an empty key": ({"tags": [tag("")]}, "spec.tags[0].key in body should be at least 1 chars long"),
    "a tag with a number": ({"tags": [{"key": "team", "value": 5}]}, "value in body must be of type string"),
    "a tag with a third field": ({"tags": [{**tag("a"), "colour": "red"}]}, 'unknown field "spec.tags[0].colour"'),
    "the same tag twice": ({"tags": [tag("a", "b"), tag("a", "b")]}, "spec.tags[1]: Duplicate value"),
    "65 tags": ({"tags": [tag("a", str(i)) for i in range(65)]}, "spec.tags: Too many: 65"),
    "a key of 257 letters": ({"tags": [tag("a" * 257)]}, "spec.tags[0].key: Too long"),
    "a key of 258 bytes in 129 letters": ({"tags": [tag("ä" * 129)]}, LONG_KEY),
    "a value of 4,097 letters": (
        {"tags": [tag("a", "a" * 4097)]},
        "spec.tags[0].value: Too long",
    ),
    "a value of 4,098 bytes in 2,049 letters": ({"tags": [tag("a", "ä" * 2049)]}, LONG_VALUE),
    "64 tags of 16,385 bytes": (
        {"tags": [tag(f"{i:02}", "a" * (254 + (i == 63))) for i in range(64)]},
        MANY_BYTES,
    ),
    "5 tags of 16,390 bytes in half as many letters": (
        {"tags": [tag(str(i), "ä" * 1639) for i in range(5)]},
        MANY_BYTES,
    ),
    "a lease of 0 s": ({"delivery": {"leaseSeconds": 0}}, "should be greater than or equal to 1"),
    "a lease of more than 12 h": ({"delivery": {"leaseSeconds": 43201}}, "should be less than or equal to 43200"),
    "a lease with a unit": ({"delivery": {"leaseSeconds": "30s"}}, "leaseSeconds in body must be of type int"),
    "a lease of half a second": ({"delivery": {"leaseSeconds": 0.5}}, "leaseSeconds in body must be of type int"),
    "no delivery": ({"delivery": {"maxDeliveries": 0}}, "maxDeliveries in body should be greater than or equal to 1"),
    "1,001 deliveries": ({"delivery": {"maxDeliveries": 1001}}, "should be less than or equal to 1000"),
    "a TTL of 0 s": ({"delivery": {"messageTTLSeconds": 0}}, "messageTTLSeconds in body should be greater than"),
    "a TTL of more than 10 years": (
        {"delivery": {"messageTTLSeconds": 315_360_001}},
        "messageTTLSeconds in body should be less than or equal to 315360000",
    ),
    "an unknown delivery setting": ({"delivery": {"retries": 3}}, 'unknown field "spec.delivery.retries"'),
    "a policy there is not": ({"deletionPolicy": "Keep"}, POLICIES),
    "a policy in lower case": ({"deletionPolicy": "delete"}, POLICIES),
    "drainSeconds with no policy": ({"drainSeconds": 60}, DRAIN_ONLY),
    "drainSeconds with Delete": ({"deletionPolicy": "Delete", "drainSeconds": 60}, DRAIN_ONLY),
    "drainSeconds with Retain": ({"deletionPolicy": "Retain", "drainSeconds": 60}, DRAIN_ONLY),
    "0 drainSeconds": (
        {"deletionPolicy": "Drain", "drainSeconds": 0},
        "spec.drainSeconds in body should be greater than or equal to 1",
    ),
    "drainSeconds of more than 10 years": (
        {"deletionPolicy": "Drain", "drainSeconds": 315_360_001},
        "spec.drainSeconds in body should be less than or equal to 315360000",
    ),
    "a field there is not": ({"limits": 10}, 'unknown field "spec.limits"'),
}

REFUSED_OBJECTS: dict[str, tuple[Object, str]] = {
    "a spec that is a list": ({**queue_object(), "spec": []}, 'spec in body must be of type object: "array"'),
    "a name with a capital": (queue_object("Orders"), "a lowercase RFC 1123 subdomain must consist of"),
    "a name of 254 letters": (queue_object("a" * 254), "must be no more than 253"),
    "another field next to the spec": ({**queue_object(), "queue": {}}, 'unknown field "queue"'),
}

TAKEN: dict[str, Object] = {
    "an empty spec": {},
    "Memory": {"store": "Memory"},
    "Disk": {"store": "Disk"},
    "Postgres": {"store": "Postgres"},
    "no bound": {"limit": -1},
    "limit 1": {"limit": 1},
    "the largest limit": {"limit": 2**63 - 1},
    "a class": {"queueClassName": "fast-1.eu"},
    "a class of 253 letters": {"queueClassName": "a" * 253},
    "no tags": {"tags": []},
    "a key with two values": {"tags": [tag("zone", "a"), tag("zone", "b")]},
    "a value with two keys": {"tags": [tag("a", "x"), tag("b", "x")]},
    "a tag without text": {"tags": [tag("urgent", "")]},
    "64 tags of 16,384 bytes": {"tags": [tag(f"{i:02}", "a" * 254) for i in range(64)]},
    "4 tags of 16,384 bytes in fewer letters": {"tags": [tag(f"{i:02}", "ä" * 2047) for i in range(4)]},
    "a key of 256 bytes in 128 letters": {"tags": [tag("ä" * 128)]},
    "a value of 4,096 bytes in 1,024 letters": {"tags": [tag("a", "𝄞" * 1024)]},
    "the smallest delivery settings": {"delivery": {"leaseSeconds": 1, "maxDeliveries": 1, "messageTTLSeconds": 1}},
    "the largest delivery settings": {
        "delivery": {"leaseSeconds": 43_200, "maxDeliveries": 1_000, "messageTTLSeconds": 315_360_000}
    },
    "one delivery setting": {"delivery": {"messageTTLSeconds": 60}},
    "Retain": {"deletionPolicy": "Retain"},
    "Drain for ever": {"deletionPolicy": "Drain"},
    "Drain for a second": {"deletionPolicy": "Drain", "drainSeconds": 1},
    "Drain for ten years": {"deletionPolicy": "Drain", "drainSeconds": 315_360_000},
    "all fields": {
        "queueClassName": "default",
        "store": "Disk",
        "limit": 10_000,
        "tags": [tag("team", "checkout")],
        "delivery": {"leaseSeconds": 30, "maxDeliveries": 5, "messageTTLSeconds": 86_400},
        "deletionPolicy": "Drain",
        "drainSeconds": 3_600,
    },
}

DEFAULTS = {
    "queueClassName": "default",
    "store": "Memory",
    "limit": -1,
    "delivery": {"leaseSeconds": 30, "maxDeliveries": 5},
    "deletionPolicy": "Delete",
}


def refusal(api: Api, method: str, path: str, body: Object, headers: dict[str, str] | None = None) -> str:
    """Return the message with which a request is refused."""
    with pytest.raises(ApiError) as refused:
        api.request(method, path, body, headers=headers, query={"fieldValidation": "Strict"})
    assert refused.value.code in {400, 422}
    return refused.value.message


@pytest.mark.parametrize(("spec", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_spec_is_refused_with_a_sentence(api: Api, queues: str, spec: Object, sentence: str) -> None:
    assert sentence in refusal(api, "POST", queues, queue_object(**spec))


@pytest.mark.parametrize(("body", "sentence"), REFUSED_OBJECTS.values(), ids=REFUSED_OBJECTS)
def test_an_object_is_refused_with_a_sentence(api: Api, queues: str, body: Object, sentence: str) -> None:
    assert sentence in refusal(api, "POST", queues, body)


@pytest.mark.parametrize("spec", TAKEN.values(), ids=TAKEN)
def test_a_spec_is_taken_as_it_is(api: Api, queues: str, spec: Object) -> None:
    api.create(queues, queue_object(**spec), fieldValidation="Strict")
    kept = api.get(f"{queues}/orders")["spec"]
    assert kept == {**DEFAULTS, **spec, "delivery": {**DEFAULTS["delivery"], **spec.get("delivery", {})}}  # type: ignore[dict-item]  # that default is a dict


def test_what_is_left_out_or_null_takes_its_default(api: Api, queues: str) -> None:
    without_spec = queue_object()
    del without_spec["spec"]
    api.create(queues, without_spec)
    assert api.get(f"{queues}/orders")["spec"] == DEFAULTS
    api.create(queues, queue_object("nulls", store=None, limit=None, delivery=None))
    assert api.get(f"{queues}/nulls")["spec"] == DEFAULTS


def test_a_new_queue_reads_as_in_progress(api: Api, queues: str) -> None:
    api.create(queues, queue_object())
    assert api.get(f"{queues}/orders")["status"] == {"observedGeneration": -1}


# Changes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"store": "Memory"}, "store cannot change, because messages do not move between stores; create another Queue"),
        ({"store": None}, "store cannot change, because messages do not move between stores; create another Queue"),
        ({"queueClassName": "other"}, "queueClassName cannot change; create another Queue in the other class"),
        ({"queueClassName": None}, "queueClassName cannot change; create another Queue in the other class"),
        ({"limit": 0}, NO_LIMIT),
        ({"deletionPolicy": "Delete"}, DRAIN_ONLY),
    ],
    ids=["another store", "the default store", "another class", "the default class", "limit 0", "a policy alone"],
)
def test_a_change_is_refused_with_a_sentence(api: Api, queues: str, change: Object, sentence: str) -> None:
    spec: Object = {"store": "Disk", "queueClassName": "fast", "deletionPolicy": "Drain", "drainSeconds": 9}
    api.create(queues, queue_object(**spec))
    assert sentence in refusal(api, "PATCH", f"{queues}/orders", {"spec": change}, headers=MERGE_PATCH)
    assert api.get(f"{queues}/orders")["metadata"]["generation"] == 1


def test_a_queue_without_its_spec_can_not_replace_one_on_disk(api: Api, queues: str) -> None:
    body = api.create(queues, queue_object(store="Disk"))
    del body["spec"]
    assert "store cannot change" in refusal(api, "PUT", f"{queues}/orders", body)


def test_all_else_can_change(api: Api, queues: str) -> None:
    api.create(queues, queue_object(store="Disk"))
    change: Object = {
        "limit": 5,
        "tags": [tag("a", "b")],
        "delivery": {"leaseSeconds": 60, "messageTTLSeconds": 5},
        "deletionPolicy": "Drain",
        "drainSeconds": 5,
    }
    changed = api.merge(f"{queues}/orders", {"spec": change})
    assert changed["metadata"]["generation"] == 2
    expected_delivery = {"leaseSeconds": 60, "maxDeliveries": 5, "messageTTLSeconds": 5}
    assert changed["spec"] == {**DEFAULTS, "store": "Disk", **change, "delivery": expected_delivery}


def test_tags_of_two_managers_merge_and_each_takes_back_only_its_own(api: Api, queues: str) -> None:
    path = f"{queues}/orders"
    api.apply(path, queue_object(limit=5, tags=[tag("team", "checkout"), tag("zone", "a")]), "flux")
    api.apply(path, queue_object(tags=[tag("cost", "42"), tag("zone", "b")]), "finance")
    assert pairs(api.get(path)) == {("team", "checkout"), ("zone", "a"), ("cost", "42"), ("zone", "b")}

    api.apply(path, queue_object(limit=5, tags=[tag("team", "checkout")]), "flux")
    assert pairs(api.get(path)) == {("team", "checkout"), ("cost", "42"), ("zone", "b")}

    with pytest.raises(ApiError, match=r'conflict with "flux": \.spec\.limit') as refused:
        api.apply(path, queue_object(limit=7), "finance")
    assert refused.value.reason == "Conflict"


def pairs(queue: Object) -> set[tuple[str, str]]:
    """Return a Queue's tags."""
    return {(each["key"], each["value"]) for each in queue["spec"]["tags"]}


# Status

CONDITION = {
    "type": "Ready",
    "status": "True",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-11-23T06:00:00Z",
    "reason": "AsDeclared",
    "message": "The queue is as declared.",
}
STATUS: Object = {
    "observedGeneration": 1,
    "conditions": [CONDITION],
    "queueID": "6f9c0000-1111-4222-8333-444455556666",
    "queueName": "shop.orders",
    "address": "queuelet.queuelet.svc:10002",
    "effective": {
        "store": "Disk",
        "limit": 10_000,
        "tagCount": 1,
        "tagsHash": "0123456789abcdef",
        "delivery": {"leaseSeconds": 30, "maxDeliveries": 5, "messageTTLSeconds": 60},
    },
    "durability": "Disk",
    "messages": {"ready": 3, "delayed": 0, "leased": 0, "dead": 1, "total": 4},
    "epoch": "9d410000-1111-4222-8333-444455556666",
    "adoptedAt": "2026-11-23T06:00:00Z",
    "lastHandledReconcileAt": "2026-11-23T06:00:00Z",
}


def test_status_is_kept_whole_and_changes_nothing_else(api: Api, queues: str) -> None:
    api.create(queues, {**queue_object(limit=5), "status": {"queueName": "not mine to say"}})
    written = api.merge(f"{queues}/orders/status", {"status": STATUS, "spec": {"limit": 6}}, fieldValidation="Strict")
    assert (written["status"], written["spec"]["limit"], written["metadata"]["generation"]) == (STATUS, 5, 1)


def test_a_change_of_the_spec_leaves_the_status(api: Api, queues: str) -> None:
    api.create(queues, queue_object())
    api.merge(f"{queues}/orders/status", {"status": STATUS})
    changed = api.merge(f"{queues}/orders", {"spec": {"limit": 6}, "status": {"epoch": "another"}})
    assert (changed["status"], changed["metadata"]["generation"]) == (STATUS, 2)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ({"conditions": [{**CONDITION, "status": "yes"}]}, 'supported values: "True", "False", "Unknown"'),
        ({"conditions": [{**CONDITION, "reason": ""}]}, "reason in body should be at least 1 chars long"),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, "conditions[0].message: Required value"),
        ({"conditions": [CONDITION, CONDITION]}, "conditions[1]: Duplicate value"),
        ({"messages": {"ready": -1}}, "ready in body should be greater than or equal to 0"),
        ({"effective": {"store": "Redis"}}, STORES),
        ({"durability": "Much"}, 'supported values: "Memory", "Disk", "Replicated"'),
        ({"lastHandledReconcileAt": "a" * 257}, "Too long"),
        ({"adoptedAt": "yesterday"}, "must be of type date-time"),
        ({"phase": "Ready"}, 'unknown field "status.phase"'),
    ],
    ids=["status", "reason", "half", "twice", "count", "store", "durability", "long", "time", "unknown"],
)
def test_a_status_that_makes_no_sense_is_refused(api: Api, queues: str, status: Object, sentence: str) -> None:
    api.create(queues, queue_object())
    assert sentence in refusal(api, "PATCH", f"{queues}/orders/status", {"status": status}, headers=MERGE_PATCH)


# Output of kubectl


def test_columns_show_the_state_at_a_glance(api: Api, queues: str) -> None:
    api.create(queues, queue_object(store="Disk", limit=10_000))
    api.merge(f"{queues}/orders/status", {"status": STATUS})
    table = api.request("GET", queues, headers=AS_TABLE)
    columns = {column["name"]: (column["priority"], column["type"]) for column in table["columnDefinitions"]}
    shown = dict(zip(columns, table["rows"][0]["cells"], strict=True))
    assert columns == {
        "Name": (0, "string"),
        "Ready": (0, "string"),
        "Store": (0, "string"),
        "Limit": (0, "integer"),
        "Messages": (0, "integer"),
        "Dead": (0, "integer"),
        "Age": (0, "date"),
        "Durability": (1, "string"),
        "Queue": (1, "string"),
        "Address": (1, "string"),
        "Reason": (1, "string"),
        "Message": (1, "string"),
    }
    assert shown | {"Age": ""} == {
        "Name": "orders",
        "Ready": "True",
        "Store": "Disk",
        "Limit": 10_000,
        "Messages": 4,
        "Dead": 1,
        "Age": "",
        "Durability": "Disk",
        "Queue": "shop.orders",
        "Address": "queuelet.queuelet.svc:10002",
        "Reason": "AsDeclared",
        "Message": "The queue is as declared.",
    }
    assert all(column["description"].endswith(".") for column in table["columnDefinitions"][1:])


def test_kubectl_knows_it_by_name_short_name_and_category(api: Api, queues: str, kubectl: Kubectl) -> None:
    api.create(queues, queue_object(limit=5))
    for name in ("queues", "queue", "qlet", "queuelet", "queues.queuelet.dev"):
        lines = kubectl("get", name).splitlines()
        assert lines[0].split() == ["NAME", "READY", "STORE", "LIMIT", "MESSAGES", "DEAD", "AGE"]
        assert lines[1].split()[:3] == ["orders", "Memory", "5"]


def test_kubectl_waits_for_ready(api: Api, queues: str, kubectl: Kubectl) -> None:
    api.create(queues, queue_object())
    api.merge(f"{queues}/orders/status", {"status": STATUS})
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "queue/orders", "--timeout=10s")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("queue", ["Queue is a message queue on a running queue server.", "spec", "status"]),
        ("queue.spec", ["The wanted state of the queue.", "deletionPolicy", "enum: Delete, Retain, Drain"]),
        ("queue.spec.store", ["ENUM: Memory Disk Postgres", "Where the messages are stored.", "It cannot change."]),
        ("queue.spec.tags", ["Key and value pairs", "key", "value", "-required-"]),
        ("queue.spec.delivery.leaseSeconds", ["FIELD: leaseSeconds <integer>", "1 to 43200 seconds (12 hours)."]),
        ("queue.status.durability", ["ENUM: Memory Disk Replicated", "the loss of that machine too"]),
        ("queue.status.messages", ["ready", "delayed", "leased", "dead", "total"]),
    ],
)
def test_kubectl_explains_it(kubectl: Kubectl, field: str, words: list[str]) -> None:
    explanation = " ".join(kubectl("explain", field).split())
    assert [word for word in words if word not in explanation] == []

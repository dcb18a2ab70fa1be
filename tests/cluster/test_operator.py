"""The normal behaviour of the operator, as users see it: one operator and one server, with a real API server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from queuelet.tags import Tag
from queuelet.v1 import queue_pb2 as pb
from queuelet_operator.packed_tags import PackedTags
from support.kube_queues import KubeQueues, condition, is_ready
from support.operator_process import OperatorProcess
from support.pages import samples
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import Api, ApiError, ControlPlane, binaries

Kubectl = Callable[..., str]

pytestmark = pytest.mark.usefixtures("operator")


def test_an_applied_queue_is_there_in_the_server(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(
        limit=10,
        tags=[{"key": "team", "value": "checkout"}, {"key": "team", "value": "billing"}],
        delivery={"leaseSeconds": 60, "maxDeliveries": 3, "messageTTLSeconds": 3600},
    )
    seen = kube.wait_ready()
    queue = rpc.get_queue(kube.server_name("orders"))
    assert (queue.limit, queue.store) == (10, pb.Queue.MEMORY)
    assert {(tag.key, tag.value) for tag in queue.meta.tags} == {("team", "checkout"), ("team", "billing")}
    assert (queue.delivery.lease_seconds, queue.delivery.max_deliveries) == (60, 3)
    assert queue.delivery.message_ttl_seconds == 3600
    assert queue.owner.name == f"queuelet/{kube.namespace}/orders"
    assert queue.owner.uid == queue.meta.id == seen["metadata"]["uid"]


def test_the_status_shows_what_the_server_reports(kube: KubeQueues, server: ServerProcess, rpc: Rpc) -> None:
    kube.create(limit=10, tags=[{"key": "team", "value": "checkout"}])
    status = kube.wait_ready()["status"]
    queue = rpc.get_queue(kube.server_name("orders"))
    assert status == {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Ready",
                "message": "the queue exists as declared",
                "observedGeneration": 1,
                "lastTransitionTime": status["conditions"][0]["lastTransitionTime"],
            }
        ],
        "queueID": queue.meta.id,
        "queueName": f"{kube.namespace}.orders",
        "address": server.address,
        "effective": {
            "store": "Memory",
            "limit": 10,
            "tagCount": 1,
            "tagsHash": PackedTags([Tag("team", "checkout")]).hash,
            "delivery": {"leaseSeconds": 30, "maxDeliveries": 5},
        },
        "durability": "Memory",
        "messages": {"ready": 0, "delayed": 0, "leased": 0, "dead": 0, "total": 0},
        "epoch": queue.epoch,
    }


def test_kubectl_waits_for_it_and_shows_it_at_a_glance(kube: KubeQueues, kubectl: Kubectl) -> None:
    kube.create(limit=7)
    kubectl("wait", "--for=condition=Ready", "queue/orders", "--timeout=30s")
    columns = kubectl("get", "qlet", "orders", "-o", "wide", "--no-headers").split()
    assert columns[:5] == ["orders", "True", "Memory", "7", "0"]
    assert columns[7:9] == ["Memory", f"{kube.namespace}.orders"]
    assert columns[10] == "Ready"


def test_kubectl_apply_changes_it(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(limit=10, tags=[{"key": "a", "value": "1"}])
    kube.wait_ready()
    kept = rpc.add(kube.server_name("orders"), b"kept")
    kube.change(limit=20, tags=[{"key": "b", "value": "2"}], delivery={"leaseSeconds": 45})
    status = kube.wait_ready()["status"]
    assert status["effective"]["limit"] == 20
    queue = rpc.get_queue(kube.server_name("orders"))
    assert (queue.limit, queue.delivery.lease_seconds) == (20, 45)
    assert [(tag.key, tag.value) for tag in queue.meta.tags] == [("b", "2")]
    assert rpc.pop(kube.server_name("orders")).meta.id == kept.meta.id, "a change leaves the messages alone"


def test_another_store_is_refused_by_the_api_server(kube: KubeQueues) -> None:
    kube.create()
    with pytest.raises(ApiError, match="store cannot change"):
        kube.change(store="Disk")
    kube.wait_ready()


def test_disk_is_stalled_where_the_server_runs_without_it(kube: KubeQueues) -> None:
    kube.create(store="Disk")
    seen = kube.wait_reason("StoreUnavailable")
    stalled = condition(seen, "Stalled")
    assert stalled
    assert stalled["status"] == "True"
    assert "has no store Disk" in stalled["message"]
    assert condition(seen, "Reconciling") is None
    kube.delete()
    kube.wait_gone()


# Deletion


def test_delete_drops_the_queue_and_counts_what_is_lost(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create()
    kube.wait_ready()
    rpc.add_batch(kube.server_name("orders"), [b""] * 3)
    kube.delete()
    kube.wait_gone()
    with pytest.raises(Refused, match="no queue"):
        rpc.get_queue(kube.server_name("orders"))
    assert "with 3 messages: 3 ready" in kube.wait_event("MessagesDropped")["message"]


def test_retain_leaves_the_queue_with_its_messages(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(deletionPolicy="Retain")
    kube.wait_ready()
    rpc.add(kube.server_name("orders"), b"kept")
    kube.delete()
    assert not kube.is_there(), "there is no finalizer to wait for"
    assert rpc.get_queue(kube.server_name("orders")).messages.ready == 1


def test_retained_and_applied_again_it_takes_its_queue_over(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(deletionPolicy="Retain")
    first = kube.wait_ready()
    rpc.add(kube.server_name("orders"), b"kept")
    kube.delete()
    kube.create(limit=5)
    again = kube.wait_ready()
    queue = rpc.get_queue(kube.server_name("orders"))
    assert queue.messages.ready == 1
    assert queue.meta.id == first["metadata"]["uid"] == again["status"]["queueID"], "it keeps its id"
    assert queue.owner.uid == again["metadata"]["uid"] != first["metadata"]["uid"]
    assert "taken over with its messages" in kube.wait_event("QueueTakenOver")["message"]


def test_a_queue_restored_from_a_backup_with_another_uid_takes_its_queue_over(kube: KubeQueues, rpc: Rpc) -> None:
    """After a restore of a cluster from its manifests, the server still has its queues, and every object a new uid."""
    kube.create()
    kube.wait_ready()
    rpc.add(kube.server_name("orders"), b"kept")
    saved = kube.get()
    # The object disappears without a trace, because its finalizer is removed by force.
    kube.annotate(paused="true")
    kube.change(deletionPolicy="Retain")
    kube.api.merge(f"{kube.path}/orders", {"metadata": {"finalizers": []}})
    kube.delete()
    kube.wait_gone()
    body = {**saved, "metadata": {"name": "orders", "finalizers": saved["metadata"]["finalizers"]}}
    kube.api.create(kube.path, body)
    restored = kube.wait_ready()
    queue = rpc.get_queue(kube.server_name("orders"))
    assert queue.messages.ready == 1
    assert queue.owner.uid == restored["metadata"]["uid"] != saved["metadata"]["uid"]
    kube.wait_event("QueueTakenOver")


def test_drain_refuses_new_messages_and_waits_until_the_queue_is_empty(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(deletionPolicy="Drain")
    kube.wait_ready()
    name = kube.server_name("orders")
    rpc.add_batch(name, [b"1", b"2"])
    kube.delete()
    seen = kube.wait_reason("WaitingForDrain")
    assert seen["status"]["messages"]["total"] == 2
    with pytest.raises(Refused, match="draining"):
        rpc.add(name, b"3")
    assert [rpc.pop(name).payload for _ in range(2)] == [b"1", b"2"]
    kube.wait_gone()
    with pytest.raises(Refused, match="no queue"):
        rpc.get_queue(name)


def test_a_drain_ends_at_its_deadline_and_counts_what_is_lost(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(deletionPolicy="Drain", drainSeconds=2)
    kube.wait_ready()
    rpc.add(kube.server_name("orders"), b"")
    kube.delete()
    assert (
        "removed once it is empty, or at 20"
        in kube.wait_reason("WaitingForDrain")["status"]["conditions"][0]["message"]
    )
    kube.wait_gone()
    assert "with 1 message: " in kube.wait_event("MessagesDropped")["message"]


def test_a_queue_that_is_retained_in_the_midst_of_a_drain_is_open_again(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(deletionPolicy="Drain")
    kube.wait_ready()
    name = kube.server_name("orders")
    rpc.add(name, b"1")
    kube.delete()
    kube.wait_reason("WaitingForDrain")
    kube.change(deletionPolicy="Retain")
    kube.wait_gone()
    rpc.add(name, b"2")
    assert [rpc.pop(name).payload for _ in range(2)] == [b"1", b"2"]


def test_an_empty_queue_is_drained_at_once(kube: KubeQueues) -> None:
    kube.create(deletionPolicy="Drain")
    kube.wait_ready()
    kube.delete()
    kube.wait_gone()


def test_a_policy_can_change_to_retain_and_back(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create()
    assert kube.wait_ready()["metadata"]["finalizers"]
    kube.change(deletionPolicy="Retain")
    kube.wait("orders", lambda each: is_ready(each) and "finalizers" not in each["metadata"], "without a finalizer")
    kube.change(deletionPolicy="Delete")
    kube.wait("orders", lambda each: is_ready(each) and "finalizers" in each["metadata"], "with a finalizer")
    kube.delete()
    kube.wait_gone()
    with pytest.raises(Refused, match="no queue"):
        rpc.get_queue(kube.server_name("orders"))


def test_a_queue_left_behind_is_an_orphan_until_it_is_removed_by_hand(
    kube: KubeQueues, operator: OperatorProcess, server: ServerProcess, control_plane: ControlPlane
) -> None:
    kube.create("left", deletionPolicy="Retain")
    kube.create("kept")
    kube.wait_all_ready(2)
    kube.delete("left")
    eventually(lambda: orphans_counted(operator) > 0, "the operator counts it")
    environment = {**control_plane.environment, "KUBECTL": str(binaries.get("kubectl"))}
    assert orphans_listed(server, environment, kube) == [kube.server_name("left")]
    assert orphans_listed(server, environment, kube, "--instance", "queuelet") == [kube.server_name("left")]
    assert orphans_listed(server, environment, kube, "--instance", "another") == []


def orphans_counted(operator: OperatorProcess) -> float:
    """Return the operator's metric of orphans."""
    return samples(f"{operator.metrics_url}/metrics", "queuelet_operator_orphans")[""]


def orphans_listed(server: ServerProcess, environment: dict[str, str], kube: KubeQueues, *flags: str) -> list[str]:
    """Return the names of the orphans of a namespace, as `queuelet list --orphans` prints them."""
    done = subprocess.run(
        [sys.executable, "-m", "queuelet", "--server", server.address, "list", "--orphans", "--output", "json", *flags],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = [queue["name"] for queue in json.loads(done.stdout).get("queues", [])]
    return [name for name in names if name.startswith(f"{kube.namespace}.")]


def test_orphans_cannot_be_listed_without_kubectl(server: ServerProcess) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "queuelet", "--server", server.address, "list", "--orphans"],
        env=os.environ | {"KUBECTL": "/nowhere/kubectl"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "set KUBECTL to its path" in done.stderr


# Drift


def test_a_queue_edited_by_hand_is_repaired_within_a_second(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(tags=[{"key": "a", "value": "1"}])
    before = kube.wait_ready()
    name = kube.server_name("orders")
    tag = pb.Tag(key="by", value="hand")
    rpc.call("AddQueueTag", pb.AddQueueTagRequest(queue_id=name, tag=tag), pb.AddQueueTagResponse)
    eventually(lambda: len(rpc.get_queue(name).meta.tags) == 1, "the tag is gone", timeout=1.0)
    kube.wait_event("DriftRepaired")
    assert kube.get() == before, "the status was true before and after"


def test_a_queue_deleted_by_hand_is_created_again_within_a_second(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(limit=3)
    before = kube.wait_ready()
    name = kube.server_name("orders")

    def is_back() -> bool:
        try:
            return rpc.get_queue(name).limit == 3
        except Refused:
            return False

    rpc.delete_queue(name)
    eventually(is_back, "the queue is back", timeout=1.0)
    assert rpc.get_queue(name).meta.id == before["metadata"]["uid"]
    assert kube.wait_event("QueueRestored")["type"] == "Warning"
    assert is_ready(kube.get())


# Ownership


def test_a_queue_of_another_owner_is_left_alone(kube: KubeQueues, rpc: Rpc) -> None:
    theirs = rpc.new_queue(kube.server_name("orders"), limit=99)
    kube.create(limit=1)
    seen = kube.wait_reason("NotOwner")
    stalled = condition(seen, "Stalled")
    assert stalled
    assert "created by hand" in stalled["message"]
    assert 'queuelet.dev/adopt: "true"' in stalled["message"]
    assert "queueID" not in seen["status"]
    kube.delete()
    kube.wait_gone()
    assert rpc.get_queue(theirs.meta.id).limit == 99
    assert not kube.events(), "it was never the object's"


def test_adoption_takes_the_queue_over_with_its_messages(kube: KubeQueues, rpc: Rpc) -> None:
    theirs = rpc.new_queue(kube.server_name("orders"), limit=99)
    rpc.add(theirs.meta.id, b"kept")
    kube.create(limit=50)
    kube.wait_reason("NotOwner")
    kube.annotate(adopt="true")
    status = kube.wait_ready()["status"]
    assert status["queueID"] == theirs.meta.id, "it keeps its id"
    assert status["adoptedAt"]
    assert status["conditions"] == [condition({"status": status})], "it is not stalled any more"
    queue = rpc.get_queue(theirs.meta.id)
    assert (queue.limit, queue.messages.ready) == (50, 1)
    assert queue.owner.name == f"queuelet/{kube.namespace}/orders"
    assert "which had no owner" in kube.wait_event("QueueAdopted")["message"]


def test_adoption_happens_once(kube: KubeQueues, rpc: Rpc) -> None:
    name = kube.server_name("orders")
    rpc.new_queue(name)
    kube.create(annotations={"queuelet.dev/adopt": "true"})
    kube.wait_ready()
    taken_by_another(rpc, name)
    seen = kube.wait_reason("NotOwner")
    assert "another/shop/orders" in seen["status"]["conditions"][0]["message"]
    assert rpc.get_queue(name).owner.name == "another/shop/orders"


def test_a_queue_that_was_made_for_the_object_is_adopted_back_once(kube: KubeQueues, rpc: Rpc) -> None:
    """The queue's ID is the object's uid before and after the adoption, so the ID does not show it."""
    name = kube.server_name("orders")
    kube.create(annotations={"queuelet.dev/adopt": "true"})
    assert "adoptedAt" not in kube.wait_ready()["status"]
    taken_by_another(rpc, name)
    kube.wait("orders", lambda each: "adoptedAt" in each["status"], "adopted")
    assert rpc.get_queue(name).owner.name == f"queuelet/{kube.namespace}/orders"
    taken_by_another(rpc, name)
    seen = kube.wait_reason("NotOwner")
    assert "adopted it once (status.adoptedAt) and cannot do so again" in seen["status"]["conditions"][0]["message"]
    assert rpc.get_queue(name).owner.name == "another/shop/orders"


def taken_by_another(rpc: Rpc, name: str) -> None:
    """Let another owner adopt a queue."""
    declaration = pb.QueueDeclaration(
        name=name, store=pb.Queue.MEMORY, limit=-1, owner=pb.Owner(name="another/shop/orders", uid="1"), adopt=True
    )
    result = rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declaration]), pb.DeclareQueuesResponse)
    assert result.results[0].outcome == pb.DeclareResult.OUTCOME_UPDATED


# Annotations


def test_a_paused_queue_is_left_as_it_is_and_can_be_deleted(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(limit=1)
    kube.wait_ready()
    kube.annotate(paused="true")
    paused = kube.wait("orders", lambda each: each["status"]["conditions"][0]["reason"] == "Paused", "paused")
    assert paused["status"]["conditions"][0]["status"] == "True", "the queue works on"
    kube.change(limit=2)
    name = kube.server_name("orders")
    tag = pb.Tag(key="by", value="hand")
    rpc.call("AddQueueTag", pb.AddQueueTagRequest(queue_id=name, tag=tag), pb.AddQueueTagResponse)
    assert kube.get()["status"]["observedGeneration"] == 1, "the change waits"
    assert (rpc.get_queue(name).limit, len(rpc.get_queue(name).meta.tags)) == (1, 1)
    kube.annotate(paused=None)
    kube.wait_ready()
    assert (rpc.get_queue(name).limit, len(rpc.get_queue(name).meta.tags)) == (2, 0)
    kube.annotate(paused="true")
    kube.delete()
    kube.wait_gone()
    with pytest.raises(Refused, match="no queue"):
        rpc.get_queue(name)


def test_reconcile_now_is_handled_and_the_status_shows_it(kube: KubeQueues) -> None:
    kube.create()
    kube.wait_ready()
    for asked in ("2026-11-23T07:00:00Z", "again"):
        kube.annotate(reconcile_requested_at=asked)
        kube.wait("orders", lambda each, asked=asked: each["status"].get("lastHandledReconcileAt") == asked, "handled")  # type: ignore[misc]


def test_reconcile_now_is_handled_if_nothing_can_be_declared(kube: KubeQueues, rpc: Rpc) -> None:
    rpc.new_queue(kube.server_name("orders"))
    kube.create()
    kube.wait_reason("NotOwner")
    kube.create("stopped", annotations={"queuelet.dev/paused": "true"})
    for name in ("orders", "stopped"):
        kube.annotate(name, reconcile_requested_at="now")
        kube.wait(name, lambda each: each["status"].get("lastHandledReconcileAt") == "now", "handled")


# Counts


def test_counts_are_written_when_they_matter(kube: KubeQueues, rpc: Rpc) -> None:
    kube.create(limit=100)
    kube.wait_ready()
    name = kube.server_name("orders")
    rpc.add_batch(name, [b""] * 20)
    kube.wait("orders", lambda each: each["status"]["messages"]["total"] == 20, "counted")
    rpc.add_batch(name, [b""] * 5)
    rpc.add_batch(name, [b""] * 25)
    kube.wait("orders", lambda each: each["status"]["messages"]["total"] == 50, "counted")


# Other things


def test_no_annotation_of_a_framework_is_left_in_an_object(kube: KubeQueues) -> None:
    kube.create()
    seen = kube.wait_ready()
    assert "annotations" not in seen["metadata"]
    assert seen["metadata"]["finalizers"] == ["queuelet.dev/finalizer"]


def test_a_namespace_with_queues_can_be_deleted(api: Api, kube: KubeQueues, rpc: Rpc) -> None:
    for number in range(100):
        kube.create(f"orders-{number}")
    kube.wait_all_ready(100)
    api.delete(f"/api/v1/namespaces/{kube.namespace}")

    def is_gone() -> bool:
        try:
            api.get(f"/api/v1/namespaces/{kube.namespace}")
        except ApiError as error:
            return error.code == 404
        return False

    eventually(is_gone, "the namespace is gone", timeout=50.0)
    listed = rpc.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse).queues
    assert not [queue for queue in listed if queue.name.startswith(f"{kube.namespace}.")]


def test_events_of_one_namespace_leave_those_of_another_alone(
    operator: OperatorProcess, kube: KubeQueues, rpc: Rpc, api: Api
) -> None:
    names = [f"orders-{number}" for number in range(40)]
    for name in names:
        kube.create(name)
    kube.wait_all_ready(len(names))
    url, dropped = f"{operator.metrics_url}/metrics", "queuelet_operator_events_dropped_total"
    before = samples(url, dropped).get('reason="namespace_limit"', 0)
    for name in names:
        rpc.delete_queue(kube.server_name(name))
    left_out = 'reason="namespace_limit"'
    eventually(lambda: samples(url, dropped).get(left_out, 0) > before, "some were left out")
    other = KubeQueues(api, f"{kube.namespace}-other")
    api.create("/api/v1/namespaces", {"metadata": {"name": other.namespace}})
    other.create()
    other.wait_ready()
    rpc.delete_queue(other.server_name("orders"))
    other.wait_event("QueueRestored")
    listed = api.get(f"/api/v1/namespaces/{kube.namespace}/events")["items"]
    assert 25 <= len(listed) < len(names)
    other.delete()
    other.wait_gone()
    api.delete(f"/api/v1/namespaces/{other.namespace}")


def test_a_namespace_that_is_made_again_owns_no_queue_of_the_earlier_one(kube: KubeQueues, rpc: Rpc, api: Api) -> None:
    kube.create(deletionPolicy="Retain")
    kube.wait_ready()
    rpc.add(kube.server_name("orders"), b"a secret of the earlier tenant")
    before = rpc.get_queue(kube.server_name("orders")).owner
    namespace = f"/api/v1/namespaces/{kube.namespace}"
    assert before.namespace_uid == api.get(namespace)["metadata"]["uid"]
    kube.delete()
    kube.wait_gone()
    api.delete(namespace)
    eventually(lambda: not api.is_there(namespace), "the namespace is gone", 60.0)
    api.create("/api/v1/namespaces", {"metadata": {"name": kube.namespace}})

    kube.create()
    seen = kube.wait_reason("NotOwner")
    ready = condition(seen)
    assert ready
    assert f"an earlier namespace with this name, whose uid was {before.namespace_uid}" in ready["message"]
    assert 'set the annotation queuelet.dev/adopt: "true"' in ready["message"]
    assert "queueID" not in seen["status"]
    assert rpc.get_queue(kube.server_name("orders")).owner == before
    kube.delete()
    kube.wait_gone()
    assert rpc.get_queue(kube.server_name("orders")).messages.ready == 1, "it was not the object's to drop"

    kube.create(annotations={"queuelet.dev/adopt": "true"})
    kube.wait_ready()
    assert rpc.get_queue(kube.server_name("orders")).messages.ready == 1
    kube.wait_event("QueueAdopted")


def test_a_queue_of_an_earlier_version_gets_its_namespace_noted_without_a_word(kube: KubeQueues, rpc: Rpc) -> None:
    seen = kube.create(annotations={"queuelet.dev/paused": "true"})
    kube.wait("orders", lambda each: "Paused" in str(condition(each)), "paused")
    uid, name = seen["metadata"]["uid"], kube.server_name("orders")
    owner = pb.Owner(name=f"queuelet/{kube.namespace}/orders", uid=uid)
    declaration = pb.QueueDeclaration(name=name, id=uid, store=pb.Queue.MEMORY, limit=-1, owner=owner)
    rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declaration]), pb.DeclareQueuesResponse)
    kube.annotate(paused=None)
    kube.wait_ready()
    eventually(lambda: bool(rpc.get_queue(name).owner.namespace_uid), "it is noted")
    assert not kube.events()

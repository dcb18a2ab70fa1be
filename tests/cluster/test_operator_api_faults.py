"""While the API server or the network to it fails, users of the operator notice nothing except delays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.faulty_api import EVERY, NO_RESPONSE, FaultyApi
from support.kube_class import QueuesOfAClass
from support.kube_queues import History, condition, is_ready
from support.operator_process import OperatorProcess
from support.pages import samples
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane

LEASES = "/leases/"
LIST = "/queues$"
STATUS = "/status$"
FINALIZERS = "/queues/[^/]+$"

PATIENT = ("--lease-duration", "60", "--lease-renew-deadline", "50", "--counts-every", "0.2")
"""Flags for operators that must not lose their Lease while the API server is unreachable."""


@pytest.fixture
def kube(api: Api, namespace: str) -> QueuesOfAClass:
    """The Queues of a new namespace, for the operator of this test only."""
    return QueuesOfAClass(api, namespace)


@pytest.fixture
def behind(faulty: FaultyApi, kube: QueuesOfAClass, server: ServerProcess) -> Iterator[OperatorProcess]:
    """An operator behind the proxy, which must survive the faults of the test."""
    with kube.operator(server, faulty.environment, *PATIENT) as process:
        faulty.wait_for_watches()
        yield process
        faulty.heal()
        ends_well(process)


def ends_well(process: OperatorProcess) -> None:
    """Stop an operator, and check that it logged no unexpected error."""
    assert process.is_running, process.output()
    assert process.stop() == 0, process.output()
    # Libraries log tracebacks of errors that the operator expects.
    unexpected = [line for line in process.log() if "exception" in line and "logger" not in line]
    assert not unexpected, process.output()


def is_there(rpc: Rpc, name: str) -> bool:
    """Return whether the server has a queue."""
    try:
        rpc.get_queue(name)
    except Refused:
        return False
    return True


def versions(history: History, name: str) -> list[str]:
    """Return the versions of a Queue in the events of the watch, with repetitions."""
    return [each["metadata"]["resourceVersion"] for each in history.states.get(name, [])]


# The watch


def make_a_change_of_each_kind(kube: QueuesOfAClass) -> None:
    """Create one Queue, change one and delete one, of those that `have_three` created."""
    kube.create("created", limit=1)
    kube.change("changed", limit=2)
    kube.delete("deleted")


def have_three(kube: QueuesOfAClass) -> None:
    """Create three Queues: one to change, one to delete, and one that stays."""
    for name in ("changed", "deleted", "still"):
        kube.create(name, limit=1)
    kube.wait_all_ready(3)


def expect_each_change(kube: QueuesOfAClass, rpc: Rpc) -> None:
    """Wait until the server's queues match the changes."""
    kube.wait_ready("created")
    changed = kube.wait_ready("changed")
    assert changed["status"]["effective"]["limit"] == 2
    kube.wait_gone("deleted")
    assert rpc.get_queue(kube.server_name("created")).limit == 1
    assert rpc.get_queue(kube.server_name("changed")).limit == 2
    assert not is_there(rpc, kube.server_name("deleted"))


def test_a_watch_that_is_cut_misses_nothing(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    have_three(kube)
    faulty.refuse("watch", LIST, NO_RESPONSE, times=EVERY)
    faulty.cut_watches()
    make_a_change_of_each_kind(kube)
    faulty.wait_for("watch", LIST, NO_RESPONSE)
    faulty.heal()
    expect_each_change(kube, rpc)
    assert not faulty.requests("patch", "queues/still", 200)[2:], "nothing was to be done for it"


def test_a_watch_that_is_cut_while_much_is_created_misses_nothing(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass
) -> None:
    for number in range(40):
        kube.create(f"orders-{number}")
        if number % 10 == 5:
            faulty.cut_watches()
    kube.wait_all_ready(40)


def test_after_410_on_the_watch_it_lists_again_and_writes_nothing_twice(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    have_three(kube)
    lists = len(faulty.requests("get", LIST))
    # As long as the next list is held back, the changes happen between two watches.
    faulty.refuse("get", LIST, 503, times=EVERY)
    faulty.end_watches()
    make_a_change_of_each_kind(kube)
    faulty.wait_for("get", LIST, 503)
    writes = len(faulty.requests("patch"))
    faulty.heal()
    expect_each_change(kube, rpc)
    faulty.wait_for_watches()
    assert len(faulty.wait_for("get", LIST, 200, count=lists + 1)) == lists + 1
    assert not faulty.requests("patch", "queues/still")[2:], "nothing was to be done for it"
    assert len(faulty.wait_for("patch", count=writes + 4)) == writes + 4, "created twice, changed once, deleted once"


def test_after_410_in_the_place_of_a_watch_it_lists_again(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    have_three(kube)
    faulty.refuse("watch", LIST, 410)
    faulty.cut_watches()
    faulty.wait_for("watch", LIST, 410)
    make_a_change_of_each_kind(kube)
    expect_each_change(kube, rpc)


def test_after_410_in_the_place_of_a_list_it_lists_again(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    """The API server responds so if a list in pages took too long."""
    have_three(kube)
    faulty.refuse("get", LIST, 410)
    faulty.end_watches()
    faulty.wait_for("get", LIST, 410)
    make_a_change_of_each_kind(kube)
    expect_each_change(kube, rpc)


def test_another_error_on_the_watch_does_not_end_the_operator(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    """The API server responds so during a change of etcd's leader."""
    have_three(kube)
    faulty.end_watches(500, "etcdserver: no leader")
    make_a_change_of_each_kind(kube)
    expect_each_change(kube, rpc)


@pytest.mark.parametrize("verb", ["watch", "get"])
def test_a_token_that_is_refused_once_is_used_again(
    verb: str, faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    """The API server responds so while it starts, and while tokens are rotated."""
    have_three(kube)
    faulty.refuse(verb, LIST, 401)
    faulty.end_watches()
    faulty.wait_for(verb, LIST, 401)
    make_a_change_of_each_kind(kube)
    expect_each_change(kube, rpc)


def test_a_watch_that_stutters_is_no_trouble(faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass) -> None:
    faulty.hold_watches()
    kube.create(limit=1)
    kube.change(limit=2)
    kube.create("gone")
    kube.delete("gone")
    faulty.heal()
    assert kube.wait_ready()["status"]["effective"]["limit"] == 2
    assert not kube.is_there("gone")


@pytest.mark.skipif(os.environ.get("QUEUELET_SOAK") != "1", reason="it takes more than a minute: QUEUELET_SOAK=1")
def test_a_watch_that_fell_silent_is_begun_again(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass
) -> None:
    faulty.hold_watches()
    kube.create()
    faulty.wait_for("watch", LIST, 200, count=2, timeout=120.0)
    assert not is_ready(kube.get())
    faulty.heal()
    kube.wait_ready()


# The API server


@pytest.fixture(scope="module")
def own_plane(built: None) -> Iterator[ControlPlane]:
    """A control plane whose API server tests may kill."""
    with ControlPlane(controllers=("serviceaccount-controller",)) as started:
        for manifest in sorted((Path(__file__).parents[2] / "crds").glob("*.yaml")):
            started.api.define(manifest)
        yield started


def test_an_api_server_that_is_killed_and_comes_back_is_waited_for(
    own_plane: ControlPlane, server: ServerProcess, rpc: Rpc
) -> None:
    own_plane.api.create("/api/v1/namespaces", {"metadata": {"name": "restarted"}})
    kube = QueuesOfAClass(own_plane.api, "restarted")
    with kube.operator(server, own_plane.environment, *PATIENT) as process:
        have_three(kube)
        own_plane.api_server.kill()
        name = kube.server_name("still")
        tag = pb.Tag(key="by", value="hand")
        rpc.call("AddQueueTag", pb.AddQueueTagRequest(queue_id=name, tag=tag), pb.AddQueueTagResponse)
        eventually(lambda: not rpc.get_queue(name).meta.tags, "the tag is gone: the queues are kept meanwhile")
        own_plane.start_api_server()
        kube.api.close()
        make_a_change_of_each_kind(kube)
        expect_each_change(kube, rpc)
        ends_well(process)


@pytest.mark.parametrize("code", [500, 503, NO_RESPONSE])
def test_it_starts_and_works_though_each_kind_of_request_fails_once(
    code: int, faulty: FaultyApi, kube: QueuesOfAClass, server: ServerProcess, rpc: Rpc
) -> None:
    kinds = [
        ("get", "/apis/queuelet.dev/v1alpha1$"),
        ("get", LEASES),
        ("post", "/leases$"),
        ("get", LIST),
        ("watch", LIST),
        ("patch", FINALIZERS),
        ("patch", STATUS),
        ("put", LEASES),
    ]
    for verb, path in kinds:
        faulty.refuse(verb, path, code)
    kube.create(limit=3)
    with kube.operator(server, faulty.environment, *PATIENT) as process:
        kube.wait_ready()
        for verb, path in kinds:
            assert faulty.wait_for(verb, path, code)[0].is_faulty
        # Once more, for the deletion.
        faulty.refuse("patch", FINALIZERS, code)
        kube.delete()
        kube.wait_gone()
        assert not is_there(rpc, kube.server_name("orders"))
        ends_well(process)


def test_what_it_asks_for_a_deletion_may_fail_too(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    kube.create(deletionPolicy="Drain")
    kube.wait_ready()
    name = kube.server_name("orders")
    rpc.add(name, b"")
    for code in (500, 503, NO_RESPONSE):
        faulty.refuse("get", "/api/v1/namespaces/[^/]+$", code)
    kube.delete()
    kube.wait_reason("WaitingForDrain")
    rpc.pop(name)
    kube.wait_gone()
    assert not is_there(rpc, name)


def test_an_event_that_cannot_be_posted_holds_nothing_up(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    faulty.refuse("post", "/events$", 500, times=EVERY)
    kube.create()
    kube.wait_ready()
    rpc.delete_queue(kube.server_name("orders"))
    faulty.wait_for("post", "/events$", 500)
    eventually(lambda: is_there(rpc, kube.server_name("orders")), "the queue is back")
    kube.create("another")
    kube.wait_ready("another")
    assert behind.wait_for_log(
        f"queue {kube.server_name('orders')} was deleted on the server by another client, "
        "and was recreated without its messages"
    )


def test_responses_that_take_long_are_waited_for(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass
) -> None:
    faulty.delay("patch", "/queues/", 1.0, times=EVERY)
    kube.create()
    kube.wait_ready()
    faulty.wait_for("patch", "/queues/", count=2)
    kube.create("another")
    kube.wait_ready("another")
    assert len(faulty.wait_for("patch", "/queues/orders", count=2)) == 2, "nothing was sent twice"


# Refusals


@pytest.mark.parametrize("path", [FINALIZERS, STATUS], ids=["finalizer", "status"])
def test_a_conflict_is_tried_again_with_the_object_as_it_is_now(
    path: str, faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass
) -> None:
    faulty.refuse("patch", path, 409)
    kube.create()
    seen = kube.wait_ready()
    assert seen["metadata"]["finalizers"] == ["queuelet.dev/finalizer"]
    assert faulty.requests("patch", path, 409)


def test_the_finalizer_of_another_is_kept_where_both_write_at_once(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, api: Api
) -> None:
    faulty.delay("patch", FINALIZERS, 2.0)
    kube.create()
    faulty.wait_for_delayed("patch", FINALIZERS)
    api.merge(f"{kube.path}/orders", {"metadata": {"finalizers": ["example.com/theirs"]}})
    seen = kube.wait_ready()
    assert seen["metadata"]["finalizers"] == ["example.com/theirs", "queuelet.dev/finalizer"]
    assert faulty.requests("patch", FINALIZERS, 409), "they did write at once"
    kube.delete()
    kube.wait("orders", lambda each: each["metadata"]["finalizers"] == ["example.com/theirs"], "let go by us")
    api.merge(f"{kube.path}/orders", {"metadata": {"finalizers": []}})
    kube.wait_gone()


@pytest.mark.parametrize("path", [FINALIZERS, STATUS], ids=["finalizer", "status"])
def test_retry_after_is_waited_for(path: str, faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass) -> None:
    faulty.refuse("patch", path, 429, headers={"Retry-After": "3"})
    kube.create()
    kube.create("another")
    kube.wait_all_ready(2)
    refused = faulty.requests("patch", path, 429)[0]
    again = next(each for each in faulty.wait_for("patch", path, 200, count=2) if each.path == refused.path)
    assert again.at - refused.at >= 3.0


def test_retry_after_is_waited_for_though_the_object_changes_meanwhile(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass
) -> None:
    faulty.refuse("patch", STATUS, 429, headers={"Retry-After": "3"})
    kube.create(limit=1)
    refused = faulty.wait_for("patch", STATUS, 429)[0]
    kube.change(limit=2)
    kube.wait_ready()
    again = faulty.wait_for("patch", STATUS, 200)[0]
    assert again.at - refused.at >= 3.0


def test_a_retry_after_that_is_a_date_is_no_trouble(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass
) -> None:
    """API servers send seconds, but a proxy before them may send a date (RFC 9110)."""
    faulty.refuse("patch", STATUS, 503, headers={"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"})
    kube.create()
    kube.wait_ready()


def test_retry_after_is_waited_for_by_the_watch(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass
) -> None:
    faulty.refuse("watch", LIST, 429, headers={"Retry-After": "3"})
    faulty.cut_watches()
    kube.create()
    kube.wait_ready()
    refused = faulty.requests("watch", LIST, 429)[0]
    again = next(each for each in faulty.requests("watch", LIST, 200) if each.at > refused.at)
    assert again.at - refused.at >= 3.0


@pytest.mark.parametrize("code", [422, 500])
def test_a_status_that_is_refused_for_ever_keeps_no_other_queue_waiting(
    code: int, faulty: FaultyApi, kube: QueuesOfAClass, server: ServerProcess, rpc: Rpc
) -> None:
    faulty.refuse("patch", "/queues/bad/status$", code, times=EVERY)
    with kube.operator(server, faulty.environment, *PATIENT, "--workers", "1") as process:
        kube.create("bad")
        faulty.wait_for("patch", "/queues/bad/status$", code)
        for number in range(20):
            kube.create(f"good-{number}")
        for number in range(20):
            kube.wait_ready(f"good-{number}")
        assert is_there(rpc, kube.server_name("bad")), "it has its queue"
        faulty.wait_for("patch", "/queues/bad/status$", code, count=3)
        tries = [each.at for each in faulty.requests("patch", "/queues/bad/status$")]
        assert tries[2] - tries[1] >= 0.25, "it is tried less and less often"
        faulty.heal()
        kube.wait_ready("bad")
        ends_well(process)


# Lost responses


@pytest.mark.parametrize("path", [FINALIZERS, STATUS], ids=["finalizer", "status"])
def test_a_write_whose_response_is_lost_is_done_once(
    path: str, faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, control_plane: ControlPlane
) -> None:
    faulty.lose_responses("patch", path)
    with History(control_plane, kube) as history:
        kube.create()
        seen = kube.wait_ready()
        assert seen["metadata"]["finalizers"] == ["queuelet.dev/finalizer"]
        assert faulty.wait_for("patch", path, NO_RESPONSE)
        kube.create("last")
        kube.wait_ready("last")
        eventually(lambda: is_ready((history.states.get("last") or [{}])[-1]), "the history is complete")
    assert len(versions(history, "orders")) == 3, "created, with a finalizer, with a status"
    assert history.reasons("orders") == ["Ready"]


def test_a_finalizer_is_gone_even_if_the_response_to_its_removal_was_lost(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    kube.create()
    kube.wait_ready()
    faulty.lose_responses("patch", FINALIZERS)
    kube.delete()
    kube.wait_gone()
    assert not is_there(rpc, kube.server_name("orders"))
    # A new Queue with the same name is served at once, and is not confused with the deleted one.
    kube.create(limit=7)
    assert kube.wait_ready()["status"]["effective"]["limit"] == 7
    assert len(faulty.requests("patch", FINALIZERS)) <= 4


def test_messages_that_were_dropped_are_reported_though_a_response_was_lost(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    kube.create()
    kube.wait_ready()
    rpc.add(kube.server_name("orders"), b"")
    faulty.lose_responses("patch", FINALIZERS)
    kube.delete()
    kube.wait_gone()
    assert "with 1 message:" in kube.wait_event("MessagesDropped", timeout=5.0)["message"]


# Changes without an event of the watch


def lose_sight_of_its_end(faulty: FaultyApi, kube: QueuesOfAClass) -> None:
    """Delete the Queue orders, which has no finalizer, while there is no watch, and make the operator list again."""
    faulty.refuse("get", LIST, 503, times=EVERY)
    faulty.end_watches()
    faulty.wait_for("get", LIST, 503)
    kube.delete()
    kube.wait_gone()
    lists = len(faulty.requests("get", LIST, 200))
    faulty.heal()
    faulty.wait_for("get", LIST, 200, count=lists + 1)
    faulty.wait_for_watches()


def test_a_retained_queue_that_went_unseen_is_forgotten_at_the_first_write(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    kube.create(deletionPolicy="Retain")
    kube.wait_ready()
    lose_sight_of_its_end(faulty, kube)
    before = len(faulty.requests("patch"))
    rpc.add(kube.server_name("orders"), b"")
    faulty.wait_for("patch", STATUS, 404)
    rpc.add_batch(kube.server_name("orders"), [b""] * 10)
    kube.create("another")
    kube.wait_ready("another")
    assert len(faulty.requests("patch", "/queues/orders")) == before + 1, "one try was enough"


def test_a_retained_queue_that_went_unseen_and_came_again_is_served(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    kube.create(deletionPolicy="Retain", limit=1)
    first = kube.wait_ready()
    rpc.add(kube.server_name("orders"), b"")
    lose_sight_of_its_end(faulty, kube)
    kube.create(limit=2)
    again = kube.wait_ready()
    queue = rpc.get_queue(kube.server_name("orders"))
    assert (queue.limit, queue.messages.ready) == (2, 1)
    assert queue.owner.uid == again["metadata"]["uid"] != first["metadata"]["uid"]


def test_a_queue_replaced_by_another_of_its_name_between_two_watches_is_served(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    kube.create(deletionPolicy="Retain", limit=1)
    kube.wait_ready()
    faulty.refuse("get", LIST, 503, times=EVERY)
    faulty.end_watches()
    faulty.wait_for("get", LIST, 503)
    kube.delete()
    kube.wait_gone()
    kube.create(limit=2)
    # The operator also finds out by a write, because this one is for an object that no longer exists.
    rpc.add(kube.server_name("orders"), b"")
    faulty.heal()
    assert kube.wait_ready()["status"]["effective"]["limit"] == 2
    assert rpc.get_queue(kube.server_name("orders")).limit == 2


def test_a_queue_deleted_by_force_between_two_watches_is_not_served_for_ever(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, api: Api, rpc: Rpc
) -> None:
    kube.create()
    kube.wait_ready()
    faulty.refuse("get", LIST, 503, times=EVERY)
    faulty.end_watches()
    faulty.wait_for("get", LIST, 503)
    api.merge(f"{kube.path}/orders", {"metadata": {"finalizers": []}})
    kube.delete()
    kube.wait_gone()
    faulty.heal()
    rpc.add(kube.server_name("orders"), b"")
    faulty.wait_for("patch", "/queues/orders", 404)
    rpc.delete_queue(kube.server_name("orders"))
    kube.create("another")
    kube.wait_ready("another")
    assert not is_there(rpc, kube.server_name("orders")), "no object asks for it any more"


def test_a_queue_does_not_come_back_by_what_a_late_watch_reports_after_its_end(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    kube.create(limit=100)
    kube.wait_ready()
    faulty.hold_watches()
    kube.change(limit=101)
    kube.create("last")
    kube.delete()
    # The operator finds out by the response to a write instead of by the watch.
    rpc.add(kube.server_name("orders"), b"")
    kube.wait_gone()
    faulty.pass_events_until('"name":"last"')
    kube.wait_ready("last")
    faulty.heal()
    kube.create("end")
    kube.wait_ready("end")
    made = samples(f"{behind.metrics_url}/metrics", "queuelet_operator_declarations_total")
    assert made == {'cause="created"': 3}, "each was made once"
    assert not is_there(rpc, kube.server_name("orders"))


# Objects of an odd shape


def by_hand(kube: QueuesOfAClass, status: dict[str, Any], name: str = "orders") -> None:
    """Write a status that no operator would write."""
    kube.api.merge(f"{kube.path}/{name}/status", {"status": status})


def test_conditions_of_others_are_kept(faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass) -> None:
    kube.create(limit=1)
    conditions = kube.wait_ready()["status"]["conditions"]
    theirs = {
        "type": "Audited",
        "status": "Unknown",
        "reason": "Later",
        "message": "",
        "lastTransitionTime": "2026-11-23T07:00:00Z",
        "observedGeneration": 0,
    }
    by_hand(kube, {"conditions": [theirs, *conditions]})
    kube.change(limit=2)
    seen = kube.wait_ready()
    assert condition(seen, "Audited") == theirs
    assert condition(seen, "Ready")


def test_a_status_written_by_hand_is_put_right(
    faulty: FaultyApi, behind: OperatorProcess, kube: QueuesOfAClass
) -> None:
    kube.create(limit=1)
    right = kube.wait_ready()["status"]

    def is_right(body: dict[str, Any]) -> bool:
        found = {**body["status"], "conditions": [_without_time(each) for each in body["status"].get("conditions", [])]}
        return found == {**right, "conditions": [_without_time(each) for each in right["conditions"]]}

    statuses: list[dict[str, Any]] = [
        {"conditions": None, "effective": None, "messages": None, "queueID": None},
        {"effective": {"delivery": {"leaseSeconds": 1}}, "messages": {"dead": 3}, "conditions": []},
        {"effective": {"store": "Disk", "tagsHash": None}, "messages": {"ready": 7}},
        {"effective": {"limit": 3}, "observedGeneration": 99, "epoch": ""},
        {"queueName": "somewhere.else", "address": "elsewhere:1", "queueID": "1"},
    ]
    for status in statuses:
        by_hand(kube, status)
        kube.wait("orders", is_right, f"right again after {status}")


def _without_time(each: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in each.items() if name != "lastTransitionTime"}

"""The operator reports that it needs a restart if its work makes no progress, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import aiohttp
import pytest

from queuelet_operator import health as module
from queuelet_operator.controller import Controller
from queuelet_operator.event_recorder import EventRecorder
from queuelet_operator.health import (
    COUNTS_MAY_DIFFER,
    STUCK_AFTER,
    WATCH_IS_OLD_AFTER,
    Health,
    OperatorHttpPort,
)
from queuelet_operator.kubernetes_api import ApiError, KubernetesApi
from queuelet_operator.metrics import Metrics
from queuelet_operator.plan.resources import Body, Key
from queuelet_operator.settings import Settings
from queuelet_operator.watch import RESTART_EVERY
from queuelet_operator.workqueue import Priority, WorkQueue


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the health checks use."""
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of this test only."""
    return Metrics()


@pytest.fixture
def controller(clock: Clock, metrics: Metrics) -> Controller:
    """A controller that is not running."""
    api = KubernetesApi(cast("aiohttp.ClientSession", None), "http://127.0.0.1:1")
    made = Controller(Settings(), api, EventRecorder(api, metrics), metrics)
    made.queue = WorkQueue(clock)
    return made


@pytest.fixture
def health(controller: Controller) -> Health:
    """The health of a leader."""
    return Health(controller=controller)


def a_body(name: str = "orders", *, uid: str = "1", version: int = 1, queue_class: str = "default") -> Body:
    """Return a Queue as the watch reports it."""
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": str(version), "generation": 1},
        "spec": {"queueClassName": queue_class},
    }


ORDERS = Key("shop", "orders")


# The work


def test_a_standby_is_well_whatever_the_time(clock: Clock) -> None:
    health = Health()
    health.watch_began("/queues")
    for _ in range(COUNTS_MAY_DIFFER):
        health.count_compared(differs=True)
    clock.now += 1_000_000
    assert health.failure() == ""


def test_where_nothing_waits_all_is_well(health: Health, clock: Clock) -> None:
    for _ in range(10):
        assert health.failure() == ""
        health.watch_began("/queues")
        clock.now += RESTART_EVERY


def test_work_that_waits_and_is_not_begun_is_trouble(health: Health, controller: Controller, clock: Clock) -> None:
    controller.queue.add(ORDERS, Priority.CHANGE)
    clock.now += STUCK_AFTER
    assert health.failure() == ""
    clock.now += 1
    assert "1 Queues are waiting and none was processed for" in health.failure()


async def test_work_that_waits_while_other_work_is_done_is_no_trouble(
    health: Health, controller: Controller, clock: Clock
) -> None:
    controller.queue.add(Key("shop", "other"), Priority.DELETION)
    controller.queue.add(ORDERS, Priority.RESYNC)
    clock.now += STUCK_AFTER + 1
    controller.queue.done(await controller.queue.get())
    assert health.failure() == "", "there is much to do"
    clock.now += STUCK_AFTER + 1
    assert health.failure()
    controller.queue.done(await controller.queue.get())
    assert health.failure() == ""


def test_work_for_a_later_time_is_no_trouble(health: Health, controller: Controller, clock: Clock) -> None:
    controller.queue.add_at(ORDERS, clock.now + 10_000, Priority.RESYNC)
    clock.now += 9_000
    assert health.failure() == ""


async def test_work_in_hand_for_a_while_is_no_trouble(health: Health, controller: Controller, clock: Clock) -> None:
    controller.queue.add(ORDERS, Priority.CHANGE)
    await controller.queue.get()
    clock.now += STUCK_AFTER
    assert health.failure() == ""


async def test_work_in_hand_for_an_hour_is_trouble(health: Health, controller: Controller, clock: Clock) -> None:
    """No other worker may process the Queue, and a step takes 30 seconds at most."""
    controller.queue.add(ORDERS, Priority.CHANGE)
    await controller.queue.get()
    clock.now += 3600
    assert health.failure()


# The watch


def test_a_watch_that_did_not_begin_again_is_a_problem(health: Health, clock: Clock) -> None:
    health.watch_began("/queues")
    clock.now += WATCH_IS_OLD_AFTER
    assert health.failure() == ""
    clock.now += 1
    assert "the watch of /queues has not restarted for 431 s" in health.failure()
    health.watch_began("/queues")
    assert health.failure() == ""


def test_each_of_several_watches_counts(health: Health, clock: Clock) -> None:
    health.watch_began("/a")
    health.watch_began("/b")
    clock.now += WATCH_IS_OLD_AFTER + 1
    health.watch_began("/a")
    assert "/b" in health.failure()


def test_a_watch_has_time_to_begin_again_by_itself() -> None:
    assert WATCH_IS_OLD_AFTER > RESTART_EVERY + 60


def test_a_watch_that_never_began_is_trouble(health: Health, clock: Clock) -> None:
    assert health.failure() == ""
    clock.now += 2 * WATCH_IS_OLD_AFTER
    assert health.failure()


# Counts


def test_counts_may_differ_now_and_then(health: Health) -> None:
    for _ in range(5):
        for _ in range(COUNTS_MAY_DIFFER - 1):
            health.count_compared(differs=True)
        assert health.failure() == ""
        health.count_compared(differs=False)
    assert health.failure() == ""


def test_counts_that_differ_again_and_again_are_trouble(health: Health) -> None:
    for _ in range(COUNTS_MAY_DIFFER):
        health.count_compared(differs=True)
    assert "the watch missed Queues" in health.failure()
    health.count_compared(differs=False)
    assert health.failure() == "", "it has found them"


class Lists:
    """An API server with this many Queues in each namespace."""

    def __init__(self, counts: dict[str | None, int]) -> None:
        self.counts = counts
        self.fails = False
        self.asked: list[str | None] = []

    async def first_queue(self, namespace: str | None) -> Body:
        """Return a list of at most one Queue."""
        await asyncio.sleep(0)
        self.asked.append(namespace)
        if self.fails:
            raise ApiError(500, "not now")
        count = self.counts[namespace]
        rest = {"remainingItemCount": count - 1} if count > 1 else {}
        return {"items": [{}] * min(count, 1), "metadata": rest}


Compare = Callable[..., Awaitable[None]]


@pytest.fixture
def comparing(health: Health, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Runs the comparison of counts as often as a test asks for."""
    monkeypatch.setattr(module, "COUNT_EVERY", 0)

    async def compare(lists: Lists, namespaces: tuple[str, ...] = (), times: int = COUNTS_MAY_DIFFER) -> None:
        task = asyncio.ensure_future(health.compare_counts(cast("KubernetesApi", lists), namespaces))
        lists.asked.clear()
        while len(lists.asked) <= times * max(len(namespaces), 1):  # noqa: ASYNC110  # it counts turns of the loop
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return compare


@pytest.mark.parametrize("count", [0, 1, 2, 1_000])
async def test_it_compares_all_objects_with_all_that_it_was_notified_of(
    count: int, comparing: Compare, health: Health, controller: Controller
) -> None:
    for number in range(count):
        queue_class = "default" if number % 2 else "another"
        controller.object_seen(a_body(f"orders-{number}", uid=str(number), queue_class=queue_class))
    await comparing(Lists({None: count}))
    assert health.failure() == ""
    await comparing(Lists({None: count + 1}))
    assert health.failure()


async def test_it_adds_up_its_namespaces(comparing: Compare, health: Health, controller: Controller) -> None:
    for number in range(5):
        controller.object_seen(a_body(f"orders-{number}", uid=str(number)))
    await comparing(Lists({"a": 3, "b": 2}), ("a", "b"))
    assert health.failure() == ""
    await comparing(Lists({"a": 3, "b": 0}), ("a", "b"))
    assert health.failure()


async def test_an_api_server_that_does_not_count_is_no_trouble(comparing: Compare, health: Health) -> None:
    lists = Lists({None: 7})
    lists.fails = True
    await comparing(lists, times=20)
    assert health.failure() == ""


async def test_a_standby_compares_nothing(comparing: Compare, health: Health, controller: Controller) -> None:
    health.controller = None
    await comparing(Lists({None: 7}), times=20)
    health.controller = controller
    assert health.failure() == ""


# Events of the watch


def test_a_queue_that_went_is_not_counted(controller: Controller) -> None:
    for queue_class in ("default", "another"):
        controller.object_seen(a_body(queue_class=queue_class))
        assert controller.seen == 1
        controller.object_gone(a_body(queue_class=queue_class))
        assert controller.seen == 0


def test_the_end_of_an_earlier_queue_of_a_name_is_not_that_of_the_present_one(controller: Controller) -> None:
    for queue_class in ("default", "another"):
        name = f"orders-{queue_class}"
        controller.object_seen(a_body(name, uid="1", version=1, queue_class=queue_class))
        controller.object_seen(a_body(name, uid="2", version=3, queue_class=queue_class))
        controller.object_gone(a_body(name, uid="1", version=2, queue_class=queue_class))
    assert controller.seen == 2
    assert [each.uid for each in controller.objects()] == ["2"]


@pytest.mark.parametrize(("before", "after"), [("another", "default"), ("default", "another")])
def test_a_queue_that_came_again_in_another_class_is_counted_once(
    before: str, after: str, controller: Controller
) -> None:
    """It was deleted between two watches."""
    controller.object_seen(a_body(uid="1", version=1, queue_class=before))
    controller.object_seen(a_body(uid="2", version=3, queue_class=after))
    assert controller.seen == 1
    assert len(controller.objects()) == (after == "default")


def test_what_comes_late_of_an_earlier_queue_of_a_name_changes_nothing(controller: Controller) -> None:
    """The two have different uids, so kopf delivers their events in two tasks."""
    controller.object_seen(a_body(uid="2", version=9))
    controller.object_seen(a_body(uid="1", version=5))
    controller.object_gone(a_body(uid="1", version=8))
    assert [each.uid for each in controller.objects()] == ["2"]


# By HTTP


async def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Return the status code and the text of a response."""
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.text()


async def test_healthz_reports_trouble(health: Health, controller: Controller, clock: Clock, metrics: Metrics) -> None:
    http = OperatorHttpPort(health, metrics)
    port = await http.listen("127.0.0.1", 0)
    try:
        assert await get(port, "/healthz") == (200, "ok\n")
        controller.queue.add(ORDERS, Priority.CHANGE)
        clock.now += STUCK_AFTER + 1
        code, text = await get(port, "/healthz")
        assert (code, "1 Queues are waiting" in text) == (503, True)
    finally:
        await http.stop()


async def test_readyz_is_for_a_standby_too(clock: Clock, metrics: Metrics) -> None:
    health = Health()
    http = OperatorHttpPort(health, metrics)
    port = await http.listen("127.0.0.1", 0)
    try:
        assert (await get(port, "/readyz"))[0] == 503
        health.is_ready = True
        assert await get(port, "/readyz") == (200, "ok\n")
        health.problems = lambda: ["tls.crt: the certificate expires soon"]
        assert await get(port, "/readyz") == (200, "ok\ntls.crt: the certificate expires soon\n")
        assert await get(port, "/healthz") == (200, "ok\n")
        assert "queuelet_operator_work_queue_oldest_seconds 0.0" in (await get(port, "/metrics"))[1]
    finally:
        await http.stop()


async def test_metrics_show_what_waits_and_the_state_of_queues(
    health: Health, controller: Controller, clock: Clock, metrics: Metrics
) -> None:
    http = OperatorHttpPort(health, metrics)
    port = await http.listen("127.0.0.1", 0)
    try:
        controller.object_seen(a_body())
        clock.now += 7
        text = (await get(port, "/metrics"))[1]
        assert 'queuelet_operator_work_queue_length{priority="change"} 1.0' in text
        assert "queuelet_operator_work_queue_oldest_seconds 7.0" in text
        assert 'queuelet_operator_queues{ready="false",reason=""} 1.0' in text
        assert "_created" not in text, "creation times would double the series"
        controller.object_gone(a_body())
        text = (await get(port, "/metrics"))[1]
        assert 'queuelet_operator_work_queue_length{priority="change"} 0.0' in text
        assert "queuelet_operator_queues{" not in text
    finally:
        await http.stop()


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_web_pages_are_refused_as_by_the_server(path: str, metrics: Metrics) -> None:
    http = OperatorHttpPort(Health(is_ready=True), metrics, ["operator.example.com"])
    port = await http.listen("127.0.0.1", 0)
    try:
        assert (await get(port, path, Origin="https://evil.example"))[0] == 403
        assert (await get(port, path, Host="evil.example"))[0] == 403
        assert (await get(port, path, Host="operator.example.com"))[0] == 200
    finally:
        await http.stop()

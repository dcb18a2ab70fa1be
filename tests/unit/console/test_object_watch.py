"""Queue objects are listed once and watched, the watch resumes where it ended, and what is kept of them is limited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from structlog.testing import capture_logs

from queuelet.console import kubernetes, object_watch
from queuelet.console.kubernetes import Account
from queuelet.console.object_watch import ObjectWatch
from queuelet.console.queue_objects import MAX_TEXT, ObjectTable, QueueObject, queue_object_of
from support.fake_queue_api import FakeApi, body
from support.patience import patient


@dataclass
class Seen:
    """What a watch has reported."""

    watch: ObjectWatch
    objects: dict[str, QueueObject] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self, name: str, each: QueueObject | None) -> None:
        if each:
            self.objects[name] = each
        else:
            del self.objects[name]
        self.news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(patient(10)):
            while not holds():
                self.news.clear()
                await self.news.wait()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_watch, "RETRY_AFTER", 0.001)
    monkeypatch.setattr(object_watch, "MAX_RETRY", 0.001)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a ServiceAccount."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("first\n")
    return tmp_path


@asynccontextmanager
async def watching(api: FakeApi, folder: Path, **settings: Any) -> AsyncIterator[Seen]:  # noqa: ANN401  # ObjectWatch's
    """Follow the objects of an API server."""
    application = web.Application()
    application.router.add_get("/{path:.*}", api.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    seen = Seen(ObjectWatch(Account(folder, url), **settings))
    task = asyncio.create_task(seen.watch.run(seen.changed, seen.news.set))
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await runner.cleanup()


async def test_objects_are_listed_in_pages_and_then_watched(folder: Path) -> None:
    api = FakeApi([body(f"q{i}") for i in range(250)], version=7)
    async with watching(api, folder) as seen:
        await seen.until(lambda: len(seen.objects) == 250 and bool(api.watches))
        assert [each.get("continue") for each in api.lists] == [None, "100", "200"]
        api.send("ADDED", body("new", version=8))
        api.send("MODIFIED", body("q0", version=9, ready="False", reason="NotOwner"))
        api.send("DELETED", body("q1", version=10))
        await seen.until(lambda: "shop.q1" not in seen.objects)
        assert seen.objects["shop.new"].conditions[0].reason == "Ready"
        assert seen.objects["shop.q0"].conditions[0].reason == "NotOwner"
        assert seen.watch.facts == {"problem": "", "cut": False, "listed": True}
    assert len(seen.watch.objects) == 0


async def test_a_watch_that_ends_resumes_from_the_last_version_that_it_saw(folder: Path) -> None:
    api = FakeApi([body("orders")], version=7)
    async with watching(api, folder) as seen:
        api.send("MODIFIED", body("orders", version=8, ready="False"))
        api.send("BOOKMARK", {"metadata": {"resourceVersion": "12"}})
        api.cut()
        await seen.until(lambda: bool(seen.objects) and seen.objects["shop.orders"].conditions[0].status == "False")
        api.send("DELETED", body("orders", version=13))
        await seen.until(lambda: not seen.objects)
    assert (api.watches[:2], len(api.lists)) == (["7", "12"], 1)


async def test_a_version_that_is_too_old_leads_to_a_new_list_which_removes_what_is_gone(folder: Path) -> None:
    api = FakeApi([body("orders"), body("gone")], version=7)
    async with watching(api, folder) as seen:
        await seen.until(lambda: len(seen.objects) == 2)
        api.items, api.version, api.oldest = [body("orders", ready="False")], 20, 20
        api.cut()
        await seen.until(lambda: "shop.gone" not in seen.objects)
        assert seen.objects["shop.orders"].conditions[0].status == "False"
    assert len(api.lists) == 2


async def test_a_refusal_is_logged_once_and_ends_once_the_right_is_there(folder: Path) -> None:
    api = FakeApi([body("orders")], refusal=403)
    with capture_logs() as logs:
        async with watching(api, folder) as seen:
            await seen.until(lambda: len(api.tokens) > 3)
            assert seen.watch.facts["problem"].startswith("refused with 403; let the server's ServiceAccount get, list")
            api.refusal = 0
            await seen.until(lambda: bool(seen.objects) and not seen.watch.facts["problem"])
    assert [each["event"] for each in logs] == ["queue objects are not shown", "queue objects are shown"]


async def test_the_token_is_read_for_each_request(folder: Path) -> None:
    api = FakeApi([body("orders")])
    async with watching(api, folder) as seen:
        await seen.until(lambda: bool(api.watches))
        (folder / "token").write_text("second\n")
        api.cut()
        await seen.until(lambda: len(api.watches) == 2)
    assert (api.tokens[0], api.tokens[-1]) == ("Bearer first", "Bearer second")


async def test_a_missing_token_is_a_problem_with_a_name(folder: Path) -> None:
    (folder / "token").unlink()
    async with watching(FakeApi(), folder) as seen:
        await seen.until(lambda: bool(seen.watch.facts["problem"]))
        assert "token" in seen.watch.facts["problem"]


async def test_objects_of_other_classes_are_not_kept(folder: Path) -> None:
    api = FakeApi([body("orders"), body("other", queue_class="fast")])
    async with watching(api, folder) as seen:
        await seen.until(lambda: bool(seen.objects))
        assert list(seen.objects) == ["shop.orders"]


async def test_namespaces_are_watched_one_by_one(folder: Path) -> None:
    api = FakeApi([body("orders")])
    async with watching(api, folder, namespaces=("shop", "mail")) as seen:
        await seen.until(lambda: seen.watch.facts["listed"])
        assert len(api.lists) == 2


async def test_a_page_that_is_too_large_is_read_with_fewer_objects(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "MAX_PAGE_BYTES", 1_000)
    api = FakeApi([body(f"q{i}") for i in range(9)])
    async with watching(api, folder) as seen:
        await seen.until(lambda: len(seen.objects) == 9)
        assert min(int(each["limit"]) for each in api.lists) < kubernetes.PAGE


async def test_a_response_that_is_not_of_an_api_server_is_a_problem(folder: Path) -> None:
    api = FakeApi([{"metadata": {}}])
    async with watching(api, folder) as seen:
        await seen.until(lambda: "not that of an API server" in seen.watch.facts["problem"])


def test_only_so_many_objects_are_kept() -> None:
    table = ObjectTable(2)
    assert all(table.put(queue_object_of(body(name))) for name in ("a", "b"))
    assert not table.put(queue_object_of(body("c")))
    assert (len(table), table.is_cut) == (2, True)
    assert table.put(queue_object_of(body("a", ready="False")))


def test_long_texts_are_cut() -> None:
    large = body("orders")
    large["status"]["conditions"][0]["message"] = "x" * 32_768
    assert len(queue_object_of(large).conditions[0].message) == MAX_TEXT


def test_an_object_without_a_status_has_no_conditions() -> None:
    bare = body("orders")
    del bare["status"]
    found = queue_object_of(bare)
    assert (found.conditions, found.observed, found.since, found.queue_name) == ((), -1, 0, "shop.orders")


def test_an_object_that_no_operator_has_seen_is_not_ready_since_it_was_created() -> None:
    unseen = body("orders", ready="Unknown", observed=-1)
    unseen["status"]["conditions"][0]["lastTransitionTime"] = "1970-01-01T00:00:00Z"
    unseen["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    assert queue_object_of(unseen).since == 1_767_323_045_000
    assert queue_object_of(body("orders")).since == 0


def test_the_flag_is_refused_outside_of_a_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ValueError, match="--queue-objects: KUBERNETES_SERVICE_HOST is not set"):
        Account.of_pod(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert Account.of_pod(tmp_path).url == "https://[fd00::1]:6443"

"""The rounds of contenders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import race
from bench.contender import RunningServer
from bench.errors import Failed, NotHere
from bench.race import Race
from bench.report import OURS

stopped: list[str] = []


class FakeContender(SimpleNamespace):
    """A contender whose server is nothing, or is not here."""

    name: str

    @contextmanager
    def started(self, folder: Path) -> Iterator[RunningServer]:
        assert folder.is_dir()
        if self.name == "missing":
            raise NotHere("missing is missing")
        try:
            yield RunningServer("", 0)
        finally:
            stopped.append(self.name)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Race[str]]:
    """Return three running contenders, each with its name as its clients."""
    stopped.clear()
    monkeypatch.setattr(race, "contender", lambda name, _: FakeContender(name=name))

    @contextmanager
    def clients(target: FakeContender, _: RunningServer) -> Iterator[str]:
        yield target.name

    with closing(Race[str]("memory", clients)) as found:  # type: ignore[arg-type]  # a fake contender
        found.start([OURS, "missing", "redis", "nats"])
        yield found


def test_every_other_round_goes_in_the_opposite_order(running: Race[str]) -> None:
    order: list[str] = []
    running.rounds("go", 2, lambda name, _: order.append(name))
    assert order == [OURS, "redis", "nats", "nats", "redis", OURS]


def test_a_contender_that_is_not_here_is_skipped(running: Race[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert list(running.entrants) == [OURS, "redis", "nats"]
    running.start(["missing"])
    assert "skipped missing: missing is missing" in capsys.readouterr().err


def test_a_contender_that_fails_is_stopped_and_the_others_go_on(
    running: Race[str], capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def go(name: str, _: str) -> None:
        order.append(name)
        if name == "redis":
            raise Failed("it lost a message")

    running.rounds("go", 2, go)
    assert order == [OURS, "redis", "nats", "nats", OURS]
    assert stopped == ["redis"]
    assert "dropped redis, because it failed (go, round 1 of 2): it lost a message" in capsys.readouterr().err


def test_all_that_run_are_stopped_at_the_end(running: Race[str]) -> None:
    running.close()
    assert sorted(stopped) == sorted([OURS, "redis", "nats"])

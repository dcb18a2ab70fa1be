"""One server survives all attacks, one after the other, again and again."""

from __future__ import annotations

from contextlib import closing
from time import monotonic
from typing import NamedTuple

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.attacked import Attacked, attacked
from support.attacks import ATTACKS
from support.counts import soaked
from support.pages import fetch
from support.rpc import eventually

pytestmark = pytest.mark.xdist_group("attacks")

SECONDS = soaked(0, 600)
"""The duration in seconds; at least one round runs."""

SERVED = soaked(20, 500)
"""Calls of the well-behaved client that must be served during each attack."""

FILES = 2_000


class Attack(NamedTuple):
    """An attack and its parameters."""

    name: str
    options: dict[str, int]
    is_http: bool = False


ROTATION = (
    Attack("rapid_reset", {"streams": soaked(2_000, 100_000)}),
    Attack("open_streams", {"streams": soaked(200, 1_000), "connections": soaked(1, 4)}),
    Attack("unfinished", {"streams": soaked(40, 400)}),
    Attack("unfinished_consume", {"streams": soaked(40, 400)}),
    Attack("unfinished", {"streams": 10, "connections": soaked(4, 60), "size": 2 << 20}),
    Attack("wait_for_messages", {"streams": soaked(300, 900), "connections": 2}),
    Attack("scan", {"streams": 64}),
    Attack("watch_health", {"streams": soaked(300, 1_000), "connections": soaked(2, 20)}),
    Attack("open_reflection", {"streams": soaked(300, 1_000), "connections": soaked(2, 20)}),
    Attack("refused_batches", {"streams": soaked(16, 64)}),
    Attack("connect_only", {"connections": soaked(100, 2_000)}),
    Attack("half_http", {"connections": soaked(100, 2_000)}, is_http=True),
    Attack("unread_http", {"connections": soaked(4, 200)}, is_http=True),
)


def prepare(subject: Attacked) -> None:
    """Create the queues that attacks use."""
    with closing(subject.client()) as rpc:
        rpc.new_queue("empty")
        rpc.new_queue("full", limit=1)
        rpc.add("full")
        rpc.new_queue("tagged")
        tags = [pb.Tag(key=f"k{number}", value="v") for number in range(64)]
        for _ in range(soaked(2, 100)):
            request = pb.AddBatchRequest(queue_id="tagged", messages=[pb.NewMessage(tags=tags)] * 1_000)
            rpc.call("AddBatch", request, pb.AddBatchResponse)


def check_served(subject: Attacked, attack: Attack) -> None:
    """Check that others are served on both ports."""
    enough = subject.acknowledged + SERVED
    eventually(lambda: subject.acknowledged >= enough, f"a client is served during {attack.name}")
    assert fetch(f"{subject.server.metrics_url}/healthz").status == 200
    assert not subject.failures, attack


def test_every_attack_is_in_the_rotation() -> None:
    assert {attack.name for attack in ROTATION} == set(ATTACKS)


@pytest.mark.timeout(SECONDS + 900)
def test_a_server_lives_through_all_attacks_in_rotation() -> None:
    # Calls beyond the 5,000 that may be pending are refused, also those of others: the soak opens more at once.
    with attacked("--request-timeout", "5", files=FILES, may_retry=SECONDS > 0) as subject:
        prepare(subject)
        end = monotonic() + SECONDS
        while True:
            for attack in ROTATION:
                target = subject.server.metrics_url.removeprefix("http://") if attack.is_http else ""
                with subject.attack(attack.name, target, **attack.options):
                    check_served(subject, attack)
            if monotonic() >= end:
                break
        figures = subject.figures()
        print(figures)  # noqa: T201  # the figures of a soak
        assert figures["peak MiB"] < 700

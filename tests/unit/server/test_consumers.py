"""ListConsumers with more consumers than one response has."""

from __future__ import annotations

from typing import cast

from queuelet.core.consumers import Claim
from queuelet.core.waiting import Consumer
from queuelet.definition import QueueDefinition
from queuelet.server.endpoint import Call
from queuelet.server.handlers.consumers import MAX_LISTED, ConsumersRpcs
from queuelet.v1 import queue_pb2 as pb
from support.drafts import draft
from support.queues import make_manager


class Here:
    """A call from this machine."""

    peer_host = "127.0.0.1"


async def test_the_oldest_consumers_are_listed_and_all_leases_are_counted() -> None:
    manager = make_manager()
    queue = manager.new(QueueDefinition(name="orders"), now=1)
    count = MAX_LISTED + 5
    queue.add_batch([draft(b"x")] * (count + 1), now=1)
    for number in range(count):
        tokens: list[int] = []

        def describe(since: int = count - number, tokens: list[int] = tokens) -> Consumer:
            return Consumer(since=since, peer="ipv6:%5B::1%5D:8", name=str(since), tokens=tokens)

        claim = Claim(lambda: None, describe=describe)
        queue.claims.add(claim)
        tokens.append(queue.receive(1, 1_000, now=1, claim=claim).first_token)
    queue.receive(1, 1_000, now=1)
    request = pb.ListConsumersRequest(queue_id="orders").SerializeToString()
    data = await ConsumersRpcs(manager).list_consumers(request, cast("Call", Here()))
    response = pb.ListConsumersResponse.FromString(data)
    assert [each.name for each in response.consumers] == [str(since) for since in range(1, MAX_LISTED + 1)]
    assert {(each.peer, each.leases) for each in response.consumers} == {("[::1]:8", 1)}
    assert response.other_leases == 1

"""An operator that is killed again and again while Queues come, change and go."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack, suppress

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.apart import Apart
from support.counts import soaked
from support.kube_queues import FINALIZER, KubeQueues, is_ready
from support.operator_process import OperatorProcess
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import ControlPlane

KILLS = soaked(10, 200)
CHANGES = soaked(100, 2_000)


@pytest.mark.timeout(soaked(300, 3_600))
def test_nothing_is_lost_and_nothing_is_done_twice(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    changes = KubeQueues(control_plane.api_of_admin(), kube.namespace)
    people = threading.Thread(target=change_at_random, args=(changes,))
    people.start()
    filled: set[str] = set()
    producer = threading.Thread(target=fill_each, args=(own_server.address, filled, people))
    producer.start()
    killed = 0
    with ExitStack() as all_of_them:

        def launch() -> OperatorProcess:
            return all_of_them.enter_context(apart.operator(own_server, quick_lease=True).launch())

        # The next one is started while this one works, since most of its start is spent on imports.
        running = [launch(), launch()]
        while killed < KILLS or people.is_alive():
            leader = whoever_leads(running)
            # At any moment of its work, the first of which is what the one before had left.
            threading.Event().wait(random.expovariate(2.0))
            leader.kill()
            killed += 1
            running.remove(leader)
            running.append(launch())
    people.join()
    producer.join()
    changes.api.close()
    with apart.operator(own_server, quick_lease=True):
        eventually(lambda: all(is_ready(each) or going(each) for each in kube.all()), "all are Ready", timeout=60.0)
        eventually(lambda: not any(going(each) for each in kube.all()), "none is going any more", timeout=60.0)
    wanted = {kube.server_name(each["metadata"]["name"]): each for each in kube.all()}
    client = Rpc(own_server.address)
    listed = client.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse).queues
    client.close()
    assert filled & {queue.meta.id for queue in listed}, "some were there for long enough"
    assert {queue.name for queue in listed} == wanted.keys(), "no queue too many, none too few"
    for queue in listed:
        body = wanted[queue.name]
        assert queue.limit == body["spec"]["limit"]
        assert queue.owner.uid == queue.meta.id == body["metadata"]["uid"], "it was made for this object"
        assert queue.messages.ready == (queue.meta.id in filled), "it was made once: what is made anew is empty"
        assert body["metadata"]["finalizers"] == [FINALIZER]
        assert "annotations" not in body["metadata"]


def whoever_leads(running: list[OperatorProcess]) -> OperatorProcess:
    """Return the operator that leads, once one does."""
    eventually(lambda: any(each.log("leading") for each in running), "one of them leads")
    return next(each for each in running if each.log("leading"))


def fill_each(address: str, filled: set[str], people: threading.Thread) -> None:
    """Put a message into each queue once; note the ids of those that have one, for as long as people change them."""
    client = Rpc(address)
    while people.is_alive():
        for queue in client.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse).queues:
            if queue.meta.id in filled:
                continue
            with suppress(Refused):  # it is gone by now
                client.add(queue.meta.id)
                filled.add(queue.meta.id)
        threading.Event().wait(0.05)
    client.close()


def going(body: dict[str, dict[str, object]]) -> bool:
    """Tell whether a Queue was asked to go."""
    return "deletionTimestamp" in body["metadata"]


def change_at_random(kube: KubeQueues) -> None:
    """Create, change and delete Queues, as people do."""
    there: list[str] = []
    for number in range(CHANGES):
        chance = random.random()
        if not there or chance < 0.5:
            name = f"orders-{number}"
            kube.create(name, limit=1)
            there.append(name)
        elif chance < 0.8:
            kube.change(random.choice(there), limit=random.randint(1, 1_000))
        else:
            kube.delete(there.pop(random.randrange(len(there))))
        threading.Event().wait(random.uniform(0, 0.15))

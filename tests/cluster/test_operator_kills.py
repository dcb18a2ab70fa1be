"""An operator that is killed repeatedly while Queues are created, changed and deleted."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack, suppress

import pytest

from queuelet.v1 import queue_pb2 as pb
from support.apart import Apart
from support.counts import soaked
from support.kill_workers import UNKNOWN
from support.kube_queues import FINALIZER, KubeQueues, is_ready
from support.operator_process import OperatorProcess, lease_flags
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import ControlPlane

KILLS = soaked(10, 200)
CHANGES_PER_KILL = 10


@pytest.mark.timeout(soaked(300, 3_600))
def test_nothing_is_lost_and_nothing_is_done_twice(
    control_plane: ControlPlane, apart: Apart, kube: KubeQueues, own_server: ServerProcess
) -> None:
    changes = KubeQueues(control_plane.api_of_admin(), kube.namespace)
    turns, over = threading.Semaphore(0), threading.Event()
    people = threading.Thread(target=change_at_random, args=(changes, turns), daemon=True)
    people.start()
    filled: set[str] = set()
    producer = threading.Thread(target=fill_each, args=(own_server.address, filled, over), daemon=True)
    producer.start()
    with ExitStack() as all_of_them:

        def launch() -> OperatorProcess:
            return all_of_them.enter_context(apart.operator(own_server, quick_lease=True).launch())

        # The next operator starts while this one works, because most of its start is spent on imports.
        running = [launch(), launch()]
        for _ in range(KILLS):
            leader = current_leader(running)
            # Each operator leads while Queues change, independent of the time of its start.
            turns.release(CHANGES_PER_KILL)
            # At a random time of its work, which begins with the work that the previous operator left.
            threading.Event().wait(random.expovariate(2.0))
            leader.kill()
            running.remove(leader)
            running.append(launch())
        people.join()
        # The last operator to stop releases the Lease.
        leader = current_leader(running)
        for each in sorted(running, key=lambda each: each is leader):
            if each.is_running:
                each.stop()
    changes.api.close()
    # On a busy machine it could lose a short Lease and stop, and no Pod restarts it in these tests.
    with apart.operator(own_server, *lease_flags(30, 25, 0.3)).launch() as operator:
        operator.wait_until_leading(timeout=60.0)
        eventually(lambda: all(is_ready(each) or going(each) for each in kube.all()), "all are Ready", timeout=60.0)
        eventually(lambda: not any(going(each) for each in kube.all()), "none is going any more", timeout=60.0)
        uids = {each["metadata"]["uid"] for each in kube.all()}
        eventually(lambda: uids <= filled, "each queue that is left has a message")
    over.set()
    producer.join()
    wanted = {kube.server_name(each["metadata"]["name"]): each for each in kube.all()}
    client = Rpc(own_server.address)
    listed = client.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse).queues
    client.close()
    assert {queue.name for queue in listed} == wanted.keys(), "no queue too many, none too few"
    for queue in listed:
        body = wanted[queue.name]
        assert queue.limit == body["spec"]["limit"]
        assert queue.owner.uid == queue.meta.id == body["metadata"]["uid"], "it was made for this object"
        assert queue.messages.ready == 1, "it was made once: one that is made again is empty"
        assert body["metadata"]["finalizers"] == [FINALIZER]
        assert "annotations" not in body["metadata"]


def current_leader(running: list[OperatorProcess]) -> OperatorProcess:
    """Return the operator that leads, once one does."""
    eventually(lambda: any(each.log("leading") for each in running), "one of them leads")
    return next(each for each in running if each.log("leading"))


def fill_each(address: str, filled: set[str], over: threading.Event) -> None:
    """Put one message into each queue until `over` is set; store the IDs of the filled queues in `filled`.

    Each message has the ID of its queue, so that Add is idempotent even if responses are lost.
    """
    client = Rpc(address)
    while not over.wait(0.05):
        with suppress(Refused):  # the server is busy, and the call is retried
            for queue in client.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse).queues:
                if queue.meta.id not in filled and fill(client, queue.meta.id):
                    filled.add(queue.meta.id)
    client.close()


def fill(client: Rpc, queue_id: str) -> bool:
    """Put a message into a queue; return False if the queue no longer exists."""
    request = pb.AddRequest(queue_id=queue_id, message=pb.NewMessage(id=queue_id))
    while True:
        try:
            client.call("Add", request, pb.AddResponse)
        except Refused as refused:
            if refused.code not in UNKNOWN:
                return False
        else:
            return True


def going(body: dict[str, dict[str, object]]) -> bool:
    """Return whether the deletion of a Queue was requested."""
    return "deletionTimestamp" in body["metadata"]


def change_at_random(kube: KubeQueues, turns: threading.Semaphore) -> None:
    """Create, change and delete Queues as users do, one per round."""
    there: list[str] = []
    for number in range(KILLS * CHANGES_PER_KILL):
        turns.acquire()
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

"""Steps of the wall clock, for example by NTP, do not change the durations that the operator measures."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from support.apart import Apart, server_in_place_of
from support.faulty_api import FaultyApi
from support.kube_class import QueuesOfAClass
from support.kube_queues import KubeQueues, condition
from support.operator_process import lease_flags
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess
from support.wall_clock import WallClock
from tools.control_plane import Api, ControlPlane

HALF_AN_HOUR = 1_800.0
"""With a longer step back, the certificate of the API server would not be valid yet."""

SOON = ("--outage-after", "1.5", "--counts-every", "0.5")


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    """A fake wall clock for operators that are started with its environment."""
    return WallClock(tmp_path)


def test_a_step_ahead_does_not_end_the_wait_of_a_deletion_for_the_server(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess, wall_clock: WallClock
) -> None:
    """A deletion waits for ten minutes before it leaves the queue on the server."""
    with apart.operator(own_server, *SOON, env=wall_clock.environment) as operator:
        kube.create()
        kube.wait_ready()
        own_server.kill()
        operator.wait_for_log("server unreachable")
        wall_clock.step(HALF_AN_HOUR)
        kube.delete()
        kube.wait_reason("ServerUnavailable")
        with server_in_place_of(own_server):
            kube.wait_gone()
        assert not [line for line in operator.log() if line.get("reason") == "QueueLeft"]


def test_a_step_ahead_does_not_end_a_drain(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess, wall_clock: WallClock
) -> None:
    rpc = Rpc(own_server.address)
    with apart.operator(own_server, *SOON, env=wall_clock.environment) as operator:
        kube.create(deletionPolicy="Drain", drainSeconds=600)
        kube.wait_ready()
        rpc.add(kube.server_name("orders"), b"one")
        rpc.add(kube.server_name("orders"), b"two")
        kube.delete()
        kube.wait_reason("WaitingForDrain")
        wall_clock.step(HALF_AN_HOUR)
        rpc.pop(kube.server_name("orders"))
        kube.wait("orders", lambda body: body["status"]["messages"]["total"] == 1, "one is counted")
        assert rpc.pop(kube.server_name("orders")).payload == b"two"
        kube.wait_gone()
        assert not [line for line in operator.log() if line.get("reason") == "MessagesDropped"]
    rpc.close()


def test_a_step_back_does_not_keep_an_outage_from_being_reported_and_its_time_is_that_of_the_wall(
    apart: Apart, kube: KubeQueues, own_server: ServerProcess, wall_clock: WallClock
) -> None:
    with apart.operator(own_server, *SOON, env=wall_clock.environment) as operator:
        kube.create()
        kube.wait_ready()
        own_server.kill()
        operator.wait_for_log("server unreachable")
        wall_clock.step(-HALF_AN_HOUR)
        ready = condition(kube.wait_reason("ServerUnavailable"))
        assert ready
        shown = datetime.fromisoformat(ready["lastTransitionTime"]).timestamp()
        assert abs(shown - wall_clock.now()) < HALF_AN_HOUR / 2


# The Lease


@pytest.fixture
def of_a_class(api: Api, namespace: str) -> QueuesOfAClass:
    """The Queues of a class that several operators serve in turns."""
    return QueuesOfAClass(api, namespace)


def wait_until_it_has_looked(faulty: FaultyApi) -> None:
    """Wait until the operator behind a proxy has read the current Lease."""
    faulty.wait_for("get", "/leases/", 200, count=len(faulty.requests("get", "/leases/")) + 2)


def test_a_standby_whose_clock_steps_ahead_does_not_take_the_lease_of_one_that_lives(
    control_plane: ControlPlane,
    of_a_class: QueuesOfAClass,
    own_server: ServerProcess,
    wall_clock: WallClock,
    faulty: FaultyApi,
) -> None:
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{of_a_class.namespace}/leases/queuelet-operator"

    def renewed_at() -> str:
        return str(control_plane.api.get(lease)["spec"]["renewTime"])

    # The leader renews so rarely that the standby reads the Lease several times in between.
    seldom, often = lease_flags(60, 50, 4), lease_flags(60, 50, 0.2)
    env = faulty.environment | wall_clock.environment
    with (
        of_a_class.operator(own_server, control_plane.environment, *seldom) as leader,
        of_a_class.operator(own_server, env, *often).launch() as standby,
    ):
        standby.wait_for_log("waiting for the Lease")
        before = renewed_at()
        eventually(lambda: renewed_at() != before, "the leader renews the Lease")
        wait_until_it_has_looked(faulty)
        wall_clock.step(HALF_AN_HOUR)
        wait_until_it_has_looked(faulty)
        assert not standby.log("leading")
        assert not leader.log("the Lease was lost")


def test_a_standby_whose_clock_steps_back_takes_the_lease_of_one_that_is_dead(
    control_plane: ControlPlane,
    of_a_class: QueuesOfAClass,
    own_server: ServerProcess,
    wall_clock: WallClock,
    faulty: FaultyApi,
) -> None:
    flags = lease_flags(4, 2, 0.2)
    env = faulty.environment | wall_clock.environment
    with (
        of_a_class.operator(own_server, control_plane.environment, *flags) as leader,
        of_a_class.operator(own_server, env, *flags).launch() as standby,
    ):
        standby.wait_for_log("waiting for the Lease")
        leader.kill()
        wait_until_it_has_looked(faulty)
        wall_clock.step(-HALF_AN_HOUR)
        standby.wait_until_leading()

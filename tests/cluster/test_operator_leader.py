"""Of several operators one is the leader and the others are standbys, one of which takes over if the leader fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from time import monotonic, sleep
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from support.faulty_api import EVERY, NO_RESPONSE, FaultyApi
from support.kube_class import QueuesOfAClass
from support.operator_process import OperatorProcess, lease_flags
from support.rpc import Rpc, eventually
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane

TIGHT = lease_flags(1, 0.8, 0.2)
"""Flags for the fastest leader election that is possible."""

WIDE = lease_flags(4, 2, 0.2)
"""Flags that leave time between the end of a leader and the start of the next, so that their order is certain."""


@pytest.fixture
def kube(api: Api, namespace: str) -> QueuesOfAClass:
    """The Queues of a new namespace, for the operators of this test only."""
    return QueuesOfAClass(api, namespace)


class Operators:
    """Operators for the same Queues."""

    def __init__(self, kube: QueuesOfAClass, server: ServerProcess, control_plane: ControlPlane) -> None:
        """Store the control plane and the server for them."""
        self._kube = kube
        self._server = server
        self._control_plane = control_plane
        self.started: list[OperatorProcess] = []

    def launch(
        self, *flags: str, quick_lease: bool = True, behind: FaultyApi | None = None, leads: bool = True
    ) -> OperatorProcess:
        """Start an operator, and wait until it is the leader or a standby."""
        env = (behind or self._control_plane).environment
        process = self._kube.operator(self._server, env, *flags, quick_lease=quick_lease)
        self.started.append(process)
        process.launch()
        process.wait_until_started()
        if leads:
            process.wait_until_leading()
        else:
            process.wait_for_log("waiting for the Lease")
        return process


@pytest.fixture
def operators(kube: QueuesOfAClass, server: ServerProcess, control_plane: ControlPlane) -> Iterator[Operators]:
    """Starts operators for this test, and stops them."""
    made = Operators(kube, server, control_plane)
    yield made
    for process in made.started:
        process.kill()


def lease_of(api: Api, namespace: str, name: str = "queuelet-operator") -> dict[str, object]:
    """Return the spec of a Lease."""
    spec: dict[str, object] = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")["spec"]
    return spec


def holder(process: OperatorProcess) -> str:
    """Return the identity of an operator in the Lease."""
    return str(process.wait_for_log("started")["holder"])


def fetch(process: OperatorProcess, path: str) -> tuple[int, str]:
    """Return the status code and the text of an HTTP response."""
    try:
        with urlopen(f"{process.metrics_url}{path}") as response:  # noqa: S310  # a URL of our own
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def leads(process: OperatorProcess) -> bool:
    """Return whether an operator's metrics say that it is the leader."""
    return "queuelet_operator_leader 1.0" in fetch(process, "/metrics")[1]


def at(process: OperatorProcess, msg: str, timeout: float = 30.0) -> float:
    """Return when an operator logged something, in seconds since 1970."""
    return float(process.wait_for_log(msg, timeout=timeout)["ts"])


def serves(kube: QueuesOfAClass, name: str) -> None:
    """Check that a new Queue is served."""
    kube.create(name)
    kube.wait_ready(name)


# Takeover


def test_one_acts_and_the_other_waits(operators: Operators, kube: QueuesOfAClass, api: Api) -> None:
    leader = operators.launch()
    standby = operators.launch(leads=False)
    serves(kube, "orders")
    eventually(lambda: fetch(standby, "/readyz")[0] == 200, "a standby is ready: a rollout goes on")
    assert fetch(standby, "/healthz") == (200, "ok\n")
    assert fetch(leader, "/readyz")[0] == fetch(leader, "/healthz")[0] == 200
    assert (leads(leader), leads(standby)) == (True, False)
    assert lease_of(api, kube.namespace)["holderIdentity"] == holder(leader)
    assert not standby.log("connected to the server"), "it does not even look"


def test_of_two_that_start_at_the_same_time_one_acts(operators: Operators, kube: QueuesOfAClass, api: Api) -> None:
    pair = [operators.launch(leads=False), operators.launch(leads=False)]
    eventually(lambda: any(each.log("leading") for each in pair), "one leads")
    serves(kube, "orders")
    assert [leads(each) for each in pair].count(True) == 1


def test_where_the_leader_is_killed_the_other_acts_once_its_lease_ran_out(
    operators: Operators, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    leader = operators.launch(*TIGHT)
    serves(kube, "orders")
    standby = operators.launch(*TIGHT, leads=False)
    rpc.add(kube.server_name("orders"), b"kept")
    leader.kill()
    kube.create("new", limit=1)
    standby.wait_until_leading()
    assert kube.wait_ready("new")["status"]["effective"]["limit"] == 1
    kube.change("orders", limit=5)
    kube.wait_ready("orders")
    assert rpc.get_queue(kube.server_name("orders")).messages.ready == 1, "it took over what was there"


def test_where_the_leader_is_killed_the_other_acts_by_the_default_lease_too(
    operators: Operators, kube: QueuesOfAClass
) -> None:
    leader = operators.launch(quick_lease=False)
    standby = operators.launch(quick_lease=False, leads=False)
    serves(kube, "orders")
    leader.kill()
    standby.wait_until_leading(timeout=20)
    serves(kube, "new")


def test_on_sigterm_the_next_one_acts_without_waiting_for_the_lease_to_run_out(
    operators: Operators, kube: QueuesOfAClass, api: Api
) -> None:
    """With default settings the Lease would expire after 15 seconds."""
    leader = operators.launch(quick_lease=False)
    standby = operators.launch(quick_lease=False, leads=False)
    serves(kube, "orders")
    assert leader.stop() == 0
    ended = monotonic()
    assert lease_of(api, kube.namespace).get("holderIdentity") in {"", holder(standby)}
    standby.wait_until_leading(timeout=10.0)
    assert monotonic() - ended <= 10.0
    serves(kube, "new")


def test_a_standby_stops_on_sigterm_and_leaves_the_lease_alone(
    operators: Operators, kube: QueuesOfAClass, api: Api
) -> None:
    leader = operators.launch()
    standby = operators.launch(leads=False)
    assert standby.stop() == 0
    assert lease_of(api, kube.namespace)["holderIdentity"] == holder(leader)
    serves(kube, "orders")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_lease_is_given_back_however_soon_it_has_to_stop(
    number: signal.Signals, operators: Operators, kube: QueuesOfAClass, api: Api
) -> None:
    leader = operators.launch()
    leader.signal(number)
    assert leader.wait() == 0
    assert not lease_of(api, kube.namespace).get("holderIdentity")


def test_ctrl_c_ends_it_as_sigterm_does(operators: Operators, kube: QueuesOfAClass, api: Api) -> None:
    leader = operators.launch()
    serves(kube, "orders")
    leader.signal(signal.SIGINT)
    assert leader.wait() == 0
    assert not lease_of(api, kube.namespace).get("holderIdentity")


def test_work_that_one_left_half_done_is_done_by_the_next(
    operators: Operators, faulty: FaultyApi, kube: QueuesOfAClass
) -> None:
    leader = operators.launch(behind=faulty)
    standby = operators.launch(leads=False)
    # By then it has created the queues, but could not write their statuses.
    faulty.refuse("patch", "/status$", 500, times=EVERY)
    for number in range(10):
        kube.create(f"orders-{number}")
    faulty.wait_for("patch", "/status$", 500)
    leader.kill()
    standby.wait_until_leading()
    kube.wait_all_ready(10)


# A leader that lost the Lease


@pytest.mark.parametrize("code", [409, 500, NO_RESPONSE])
def test_a_leader_that_cannot_renew_ends_before_the_next_one_acts(
    code: int, operators: Operators, faulty: FaultyApi, kube: QueuesOfAClass
) -> None:
    leader = operators.launch(*WIDE, behind=faulty)
    standby = operators.launch(*WIDE, leads=False)
    serves(kube, "orders")
    faulty.refuse("put", "/leases/", code, times=EVERY)
    assert leader.wait() == 1, "so that it is restarted"
    assert at(leader, "the Lease was lost") <= at(standby, "leading")
    serves(kube, "new")


def test_a_leader_whose_renewals_hang_ends_before_the_next_one_acts(
    operators: Operators, faulty: FaultyApi, kube: QueuesOfAClass
) -> None:
    """An attempt that began before the deadline must not continue long after it."""
    flags = lease_flags(4, 3, 0.2)
    leader = operators.launch(*flags, behind=faulty)
    standby = operators.launch(*flags, leads=False)
    serves(kube, "orders")
    faulty.delay("get", "/leases/", 1.0, times=EVERY)
    faulty.delay("put", "/leases/", 60.0, times=EVERY)
    assert leader.wait() == 1
    assert at(leader, "the Lease was lost") <= at(standby, "leading")


def test_by_the_quick_settings_too_a_leader_ends_before_the_next_one_acts(
    operators: Operators, faulty: FaultyApi, kube: QueuesOfAClass
) -> None:
    """Their renewal deadline is below the duration, which is all that the operator requires."""
    leader = operators.launch(behind=faulty)
    standby = operators.launch(leads=False)
    faulty.refuse("put", "/leases/", 500, times=EVERY)
    assert leader.wait() == 1
    assert at(leader, "the Lease was lost") <= at(standby, "leading")


def test_a_leader_cut_off_from_the_api_server_ends_and_touches_no_queue_after_that(
    operators: Operators, faulty: FaultyApi, kube: QueuesOfAClass, rpc: Rpc
) -> None:
    """It could still reach the queue server, which another operator manages by then."""
    leader = operators.launch(*WIDE, behind=faulty)
    standby = operators.launch(*WIDE, leads=False)
    kube.create(limit=1)
    kube.wait_ready()
    faulty.refuse(".*", "", NO_RESPONSE, times=EVERY)
    faulty.cut_watches()
    kube.change(limit=2)
    assert leader.wait() == 1
    standby.wait_until_leading()
    kube.wait_ready()
    assert rpc.get_queue(kube.server_name("orders")).limit == 2


def test_an_outage_shorter_than_the_deadline_costs_no_lease(
    operators: Operators, faulty: FaultyApi, kube: QueuesOfAClass
) -> None:
    leader = operators.launch(*lease_flags(20, 15, 0.3), behind=faulty)
    faulty.refuse("(get|put)", "/leases/", 500, times=4)
    faulty.wait_for("get", "/leases/", 500, count=4)
    faulty.wait_for("put", "/leases/", 200, count=2)
    serves(kube, "orders")
    assert not leader.log("the Lease was lost")
    assert leader.stop() == 0


def test_a_leader_that_was_frozen_notices_that_another_acts_and_writes_nothing(
    operators: Operators, faulty: FaultyApi, kube: QueuesOfAClass
) -> None:
    leader = operators.launch(*WIDE, behind=faulty)
    serves(kube, "orders")
    standby = operators.launch(*WIDE, leads=False)
    writes = len(faulty.requests("(patch|post|put)"))
    leader.signal(signal.SIGSTOP)
    try:
        standby.wait_until_leading()
        # When the frozen one wakes, it finds changes that the other has served, and one that nothing has served yet.
        for number in range(5):
            serves(kube, f"new-{number}")
        kube.create("last")
    finally:
        leader.signal(signal.SIGCONT)
    for number in range(20):
        kube.create(f"after-{number}")
    assert leader.wait() == 1
    written = [each for each in faulty.requests("(patch|post|put)")[writes:] if "/leases" not in each.path]
    assert not written, "another acts by then"
    assert standby.is_running
    kube.wait_all_ready(27)


def test_a_frozen_leader_that_wakes_in_time_goes_on(
    operators: Operators, faulty: FaultyApi, kube: QueuesOfAClass
) -> None:
    leader = operators.launch(*lease_flags(20, 15, 0.3), behind=faulty)
    operators.launch(*lease_flags(20, 15, 0.3), leads=False)
    leader.signal(signal.SIGSTOP)
    sleep(2.0)
    leader.signal(signal.SIGCONT)
    serves(kube, "orders")
    assert not leader.log("the Lease was lost")


def test_a_lease_taken_by_hand_is_given_up(operators: Operators, kube: QueuesOfAClass, api: Api) -> None:
    leader = operators.launch(*WIDE)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{kube.namespace}/leases/queuelet-operator"
    api.merge(path, {"spec": {"holderIdentity": "somebody-else", "leaseDurationSeconds": 3600}})
    assert leader.wait() == 1
    assert lease_of(api, kube.namespace)["holderIdentity"] == "somebody-else"


def test_a_lease_that_is_deleted_is_created_again(operators: Operators, kube: QueuesOfAClass, api: Api) -> None:
    leader = operators.launch(*WIDE)
    api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{kube.namespace}/leases/queuelet-operator")

    def is_held() -> bool:
        return any(
            each["spec"]["holderIdentity"] == holder(leader)
            for each in api.get(f"/apis/coordination.k8s.io/v1/namespaces/{kube.namespace}/leases")["items"]
        )

    eventually(is_held, "the Lease is there again")
    serves(kube, "orders")
    assert leader.stop() == 0


# Flags


def test_the_lease_is_where_the_flags_say(operators: Operators, kube: QueuesOfAClass, api: Api) -> None:
    elsewhere = f"{kube.namespace}-leases"
    api.create("/api/v1/namespaces", {"metadata": {"name": elsewhere}})
    flags = ("--lease-namespace", elsewhere, "--lease-name", "ours")
    leader = operators.launch(*flags)
    standby = operators.launch(*flags, leads=False)
    assert lease_of(api, elsewhere, "ours")["holderIdentity"] == holder(leader)
    assert not api.get(f"/apis/coordination.k8s.io/v1/namespaces/{kube.namespace}/leases")["items"]
    serves(kube, "orders")
    leader.kill()
    standby.wait_until_leading()
    api.delete(f"/api/v1/namespaces/{elsewhere}")


def test_operators_with_leases_of_different_names_do_not_wait_for_each_other(
    operators: Operators, kube: QueuesOfAClass
) -> None:
    operators.launch("--lease-name", "one")
    operators.launch("--lease-name", "two", "--queue-class", "another", "--instance", "another")
    serves(kube, "orders")


def test_a_lease_namespace_that_is_not_there_is_waited_for(
    operators: Operators, kube: QueuesOfAClass, api: Api
) -> None:
    elsewhere = f"{kube.namespace}-later"
    process = operators.launch("--lease-namespace", elsewhere, leads=False)
    process.wait_for_log("the Lease was not created")
    api.create("/api/v1/namespaces", {"metadata": {"name": elsewhere}})
    process.wait_until_leading()
    serves(kube, "orders")
    api.delete(f"/api/v1/namespaces/{elsewhere}")

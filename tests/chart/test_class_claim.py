"""Two releases with the same queue class: the second is refused, or does not act and says why."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from support.helm import HelmError, install, operator_environment, uninstall
from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.pages import fetch
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane

NewNamespace = Callable[..., str]

CLAIMS = "/apis/rbac.authorization.k8s.io/v1/clusterroles/queuelet.dev:class:"


def test_the_second_release_of_a_class_is_refused_or_does_not_act(
    chart_control_plane: ControlPlane, api: Api, new_namespace: NewNamespace
) -> None:
    queue_class = f"class-{secrets.token_hex(3)}"
    values = {"crds": {"enabled": False}, "operator": {"queueClassName": queue_class}}
    first, second = new_namespace(), new_namespace()
    install(chart_control_plane, first, "shop", values)
    with pytest.raises(HelmError, match=f"is claimed by release {first}/shop; give this release another class"):
        install(chart_control_plane, second, "shop", values)

    # As one that was installed without a look at the cluster, such as by `helm template`.
    kube = KubeQueues(api, new_namespace())
    with ServerProcess() as server, ServerProcess() as empty_server:
        ours = operator_environment(chart_control_plane, first, "shop", server=server.address)
        ours["QUEUELET_OPERATOR_ADDRESS"] = server.address
        theirs = {
            **ours,
            "QUEUELET_OPERATOR_SERVER": empty_server.address,
            "QUEUELET_OPERATOR_ADDRESS": empty_server.address,
            "QUEUELET_OPERATOR_INSTANCE": f"{second}/shop",
        }
        with OperatorProcess(env=ours) as acting, OperatorProcess(env=theirs).launch() as waiting:
            kube.create(queueClassName=queue_class)
            kube.wait_ready()
            waiting.wait_until_started()
            line = waiting.wait_for_log("not acting: another installation claims the queue class")
            assert line["other"] == f"{first}/shop"
            ready = fetch(f"{waiting.metrics_url}/readyz")
            assert (ready.status, f"claimed by {first}/shop" in ready.text) == (503, True)
            kube.delete()
            kube.wait_gone()
            assert acting.stop() == 0
            assert not waiting.log("waiting for the Lease"), "not even a free Lease makes it act"
            api.delete(f"{CLAIMS}{queue_class}")
            waiting.wait_until_leading()
    uninstall(chart_control_plane, first, "shop")
    install(chart_control_plane, second, "shop", values)
    assert api.get(f"{CLAIMS}{queue_class}")["metadata"]["annotations"]["queuelet.dev/claimed-by"] == f"{second}/shop"
    uninstall(chart_control_plane, second, "shop")

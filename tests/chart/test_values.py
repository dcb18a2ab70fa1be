"""What the chart renders from values, as the API server accepts it, and which values it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import click
import pytest
import trustme
import yaml

from queuelet.bounds import Bounds
from queuelet.cli.server import server
from queuelet.server.memory import available_bytes
from queuelet_operator.__main__ import main as operator
from queuelet_operator.metrics import Metrics
from support.helm import CHART, HelmError, Object, helm, template
from support.kube_queues import KubeQueues
from support.pages import fetch, samples
from support.postgres_server import own_schema
from support.rpc import Rpc
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane, binaries
from tools.control_plane.api import APPLY_PATCH

NewNamespace = Callable[..., str]

CRDS = CHART.parents[1] / "crds"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}

CERT_MANAGER: Object = {"enabled": True, "issuerRef": {"name": "company", "kind": "ClusterIssuer"}}
MONITORING: Object = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
}
FURNITURE: Object = {
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "queues", "effect": "NoSchedule"}],
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "noisy"}}}
            ]
        }
    },
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"example.com/team": "checkout"},
    "podLabels": {"team": "checkout", "app.kubernetes.io/component": "not to be changed"},
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraArgs": ["--debug"],
    "resources": {"limits": {"memory": "2Gi"}},
    "serviceAccount": {"name": "queues", "annotations": {"example.com/role": "none"}},
    "image": {"repository": "registry.example.com:5000/queuelet", "tag": "1.2.3", "pullPolicy": "Always"},
    "debug": True,
    "httpHosts": ["metrics.example.com", "queues.example.com"],
}

BOUNDS: Object = {
    "connections": 100_000,
    "streams": 2_000_000,
    "incomingBytes": "64Mi",
    "requestTimeoutSeconds": 7,
    "waiting": 2_000,
    "waitingPerPeer": 300,
    "httpConnections": 50,
    "httpTimeoutSeconds": 5,
    "longWorkShare": "50%",
    "historyBytes": "16Mi",
}

WITH_TOKEN: Object = {
    "http": {"enabled": True},
    "tls": {"enabled": True, "secretName": "cert"},
    "auth": {"tokenSecretName": "token"},
}

VALUES: dict[str, Object] = {
    "nothing": {},
    "some namespaces": {"operator": {"namespaces": ["default", "kube-public"]}},
    "TLS and a token from Secrets": {
        "tls": {"enabled": True, "secretName": "cert"},
        "auth": {"tokenSecretName": "token"},
    },
    "mutual TLS from Secrets": {
        "tls": {
            "enabled": True,
            "secretName": "cert",
            "mutual": {"enabled": True, "caSecretName": "clients", "operatorSecretName": "operator-cert"},
        }
    },
    "TLS by cert-manager": {"tls": {"enabled": True, "certManager": {**CERT_MANAGER, "dnsNames": ["q.example.com"]}}},
    "mutual TLS by cert-manager": {
        "tls": {"enabled": True, "mutual": {"enabled": True}, "certManager": CERT_MANAGER},
    },
    "monitoring": {"monitoring": MONITORING},
    "a dashboard": {
        "monitoring": {"grafanaDashboard": {"enabled": True, "annotations": {"grafana_folder": "Queues"}}},
    },
    "network policies": {"networkPolicy": {"enabled": True}},
    "narrow network policies": {
        "networkPolicy": {
            "enabled": True,
            "clients": [
                {"namespaceSelector": {"matchLabels": {"team": "checkout"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8"}},
            ],
            "monitoring": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
            "apiServer": {"ports": [6443], "cidrs": ["10.1.2.3/32", "10.1.2.4/32"]},
            "dns": {"ports": [1053]},
        }
    },
    "open network policies": {"networkPolicy": {"enabled": True, "clients": [{"namespaceSelector": {}}]}},
    "the REST API": {"http": {"enabled": True}, "server": {"address": "q.example.com:10002"}},
    "the REST API with TLS, a token and network policies": {
        **WITH_TOKEN,
        "networkPolicy": {"enabled": True, "clients": [{"namespaceSelector": {"matchLabels": {"team": "checkout"}}}]},
    },
    "the REST API without the console": {"http": {"enabled": True}, "console": {"enabled": False}},
    "a console without payloads": {"http": {"enabled": True}, "console": {"hidePayloads": True}},
    "a console without Queue objects": {"http": {"enabled": True}, "console": {"queueObjects": False}},
    "a console of some namespaces": {
        "http": {"enabled": True},
        "operator": {"namespaces": ["default", "kube-public"], "queueClassName": "fast"},
        "networkPolicy": {"enabled": True, "apiServer": {"ports": [6443], "cidrs": ["10.1.2.3/32"]}},
    },
    "a console of a server without an account": {
        "http": {"enabled": True},
        "server": {"serviceAccount": {"create": False}},
    },
    "a console with roles of your own": {"http": {"enabled": True}, "rbac": {"create": False}},
    "an Ingress": {
        **WITH_TOKEN,
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"},
            "hosts": ["queues.example.com", "q.example.com"],
            "tlsSecretName": "console-cert",
        },
    },
    "an Ingress of the default class": {**WITH_TOKEN, "ingress": {"enabled": True, "hosts": ["queues.example.com"]}},
    "an HTTPRoute": {
        **WITH_TOKEN,
        "httpRoute": {
            "enabled": True,
            "annotations": {"example.com/team": "checkout"},
            "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
            "hostnames": ["queues.example.com"],
            "timeouts": {"request": "0s"},
        },
    },
    "a volume": {
        "server": {
            "persistence": {
                "enabled": True,
                "size": "1.5Ti",
                "storageClassName": "fast",
                "accessMode": "ReadWriteOncePod",
            }
        }
    },
    "a database": {"server": {"postgres": {"secretName": "db-app"}}},
    "a database with everything": {
        "server": {
            "postgres": {
                "secretName": "db-app",
                "secretKey": "pooler.uri",
                "caSecretName": "db-ca",
                "schema": "shop_queues",
            },
            "persistence": {"enabled": True},
        },
        "networkPolicy": {
            "enabled": True,
            "postgres": {"ports": [5433], "to": [{"podSelector": {"matchLabels": {"cnpg.io/cluster": "db"}}}]},
        },
    },
    "a database and network policies": {
        "server": {"postgres": {"secretName": "db-app"}},
        "http": {"enabled": True},
        "networkPolicy": {"enabled": True},
    },
    "several servers": {"server": {"replicas": 2, "shards": 8, "postgres": {"secretName": "db-app"}}},
    "several servers with everything": {
        **WITH_TOKEN,
        "server": {
            "replicas": 3,
            "shards": 16,
            "graceSeconds": 50,
            "postgres": {"secretName": "db-app", "caSecretName": "db-ca"},
            "podDisruptionBudget": {"enabled": False},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
            ],
        },
        "networkPolicy": {"enabled": True},
    },
    "several servers with certificates": {
        "server": {"replicas": 2, "postgres": {"secretName": "db-app"}},
        "tls": {"enabled": True, "certManager": CERT_MANAGER},
    },
    "one of several servers": {"server": {"shards": 4, "postgres": {"secretName": "db-app"}}},
    "a database of its own": {
        "server": {"replicas": 2, "shards": 8, "postgres": {"cluster": {"create": True}}},
        "networkPolicy": {"enabled": True},
    },
    "a large database of its own": {
        "server": {
            "postgres": {
                "cluster": {
                    "create": True,
                    "instances": 5,
                    "storage": {"size": "1Ti", "storageClassName": "fast"},
                    "resources": {"requests": {"memory": "4Gi"}},
                    "spec": {
                        "postgresql": {"synchronous": {"number": 2}, "parameters": {"max_connections": "300"}},
                        "backup": {"volumeSnapshot": {"className": "snapshots"}},
                    },
                }
            }
        }
    },
    "a load balancer": {
        "server": {
            "address": "q.example.com:443",
            "service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}},
        }
    },
    "all that Pods can have": {
        "commonLabels": {"cost-center": "42"},
        "imagePullSecrets": [{"name": "registry"}],
        "server": {
            **FURNITURE,
            "graceSeconds": 0,
            "memoryWatermark": "512Mi",
            "metricsTags": ["team", "tier"],
            "bounds": BOUNDS,
        },
        "operator": {
            **FURNITURE,
            "queueClassName": "fast.eu-1",
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
            ],
        },
    },
    "long names and digests": {
        "nameOverride": "q" * 63,
        "fullnameOverride": "a-very-long-name-" * 4,
        "server": {"image": {"digest": f"sha256:{'0' * 64}"}},
        "operator": {"image": {"digest": f"sha256:{'f' * 64}"}},
    },
    "as little as can be": {
        "crds": {"enabled": False},
        "rbac": {"create": False, "aggregatedRoles": False},
        "server": {"serviceAccount": {"create": False}},
        "operator": {
            "replicas": 1,
            "serviceAccount": {"create": False, "name": "default"},
            "podDisruptionBudget": {"enabled": False},
        },
    },
    "OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
}


def test_the_chart_has_nothing_to_complain_of() -> None:
    said = helm("lint", "--strict", str(CHART))
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


def test_its_definitions_are_those_of_the_repository() -> None:
    assert sorted(each.name for each in CRDS.glob("*.yaml")) == sorted(
        each.name for each in (CHART / "files/crds").iterdir()
    )
    for each in CRDS.glob("*.yaml"):
        copy = CHART / "files/crds" / each.name
        assert not copy.is_symlink()
        assert copy.read_text() == each.read_text(), "make generate copies it"


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_api_server_takes_what_the_chart_makes(api: Api, namespace: str, values: Object) -> None:
    paths = Paths(api)
    for each in template(namespace, "shop", values):
        query = {"fieldManager": "helm", "dryRun": "All", "fieldValidation": "Strict", "force": "true"}
        api.request("PATCH", paths.of(each), each, headers=APPLY_PATCH, query=query)


@pytest.mark.parametrize(
    "values",
    [
        VALUES["nothing"],
        VALUES["mutual TLS from Secrets"],
        VALUES["a volume"],
        VALUES["a database"],
        VALUES["several servers"],
        VALUES["OpenShift"],
    ],
)
def test_pods_meet_the_restricted_standard(api: Api, new_namespace: NewNamespace, values: Object) -> None:
    namespace = new_namespace(**RESTRICTED)
    for each in template(namespace, "shop", values):
        if each["kind"] == "ServiceAccount":
            api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", each)
    pods = [pod for _, pod in pod_templates(template(namespace, "shop", values))]
    assert len(pods) == 2
    for pod in pods:
        body = {**pod, "metadata": {**pod["metadata"], "generateName": "shop-"}}
        api.create(f"/api/v1/namespaces/{namespace}/pods", body, dryRun="All")


@pytest.mark.parametrize("name", VALUES)
def test_no_pod_gets_service_variables_or_writes_to_its_image(name: str) -> None:
    for _, pod in pod_templates(rendered(name)):
        assert pod["spec"]["enableServiceLinks"] is False
        assert pod["spec"]["automountServiceAccountToken"] is (component_of(pod) == "operator")
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]


def test_there_is_one_server_and_it_has_time_to_drain() -> None:
    stateful_set = only("StatefulSet", template("prod", "shop", {"server": {"graceSeconds": 50}}))
    assert stateful_set["spec"]["replicas"] == 1
    pod = stateful_set["spec"]["template"]["spec"]
    assert environment_of(pod)["QUEUELET_SERVER_GRACE"] == "50"
    assert pod["terminationGracePeriodSeconds"] == 60


def test_keys_of_tags_with_series_are_a_flag_of_the_server() -> None:
    found = [environment_of(pod["spec"]) for _, pod in pod_templates(rendered("all that Pods can have"))]
    (value,) = [env["QUEUELET_SERVER_METRICS_TAG"] for env in found if "QUEUELET_SERVER_METRICS_TAG" in env]
    assert value == "team tier"


def bounds_of(name: str) -> Bounds:
    """Return the bounds that the server reads from the environment of its Pod."""
    (pod,) = [pod["spec"] for kind, pod in pod_templates(rendered(name)) if kind == "StatefulSet"]
    environment = environment_of(pod)
    context = click.Context(server, info_name="server")
    given: dict[str, object] = {}
    for option in server.params:
        for variable in option.envvar or ():
            if variable in environment and option.name in Bounds.__slots__:
                given[option.name] = option.type.convert(environment[variable], option, context)
    assert len(given) == len(BOUNDS)
    return Bounds(**given)  # type: ignore[arg-type]  # the flags' own types convert texts


def test_bounds_are_flags_of_the_server() -> None:
    assert bounds_of("all that Pods can have") == Bounds(
        connections=100_000,
        streams=2_000_000,
        incoming_bytes=64 << 20,
        request_seconds=7,
        waiting=2_000,
        waiting_per_peer=300,
        http_connections=50,
        http_seconds=5,
        long_work_share=0.5,
        history_bytes=16 << 20,
    )


def test_without_values_the_bounds_are_those_of_the_server() -> None:
    bounds = bounds_of("nothing")
    assert bounds.incoming_bytes == available_bytes() // 8
    assert replace(bounds, incoming_bytes=0) == Bounds()


def test_a_token_without_tls_needs_a_word() -> None:
    with pytest.raises(
        HelmError, match=r"auth\.tokenSecretName: the token would be sent in plain text; set tls\.enabled"
    ):
        template("prod", "shop", {"auth": {"tokenSecretName": "token"}})
    objects = template("prod", "shop", {"auth": {"tokenSecretName": "token", "insecure": True}})
    (operator_pod,) = [pod["spec"] for kind, pod in pod_templates(objects) if kind == "Deployment"]
    assert environment_of(operator_pod)["QUEUELET_OPERATOR_SERVER_INSECURE"] == "true"


def test_http_hosts_are_flags_of_both_programs() -> None:
    found = [environment_of(pod["spec"]) for _, pod in pod_templates(rendered("all that Pods can have"))]
    assert len(found) == 2
    for environment in found:
        (value,) = [value for key, value in environment.items() if key.endswith("_HTTP_HOSTS")]
        assert value == "metrics.example.com queues.example.com"


def test_messages_are_kept_on_the_volume_there_is() -> None:
    with_volume = only("StatefulSet", rendered("a volume"))["spec"]
    pod = with_volume["template"]["spec"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    (volume,) = pod["volumes"]
    claim = only("PersistentVolumeClaim", rendered("a volume"))
    assert environment_of(pod)["QUEUELET_SERVER_DATA_DIR"] == mount["mountPath"]
    assert mount["name"] == volume["name"]
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOncePod"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "1.5Ti"}},
    }
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"], "it may write there"
    without = only("StatefulSet", rendered("nothing"))["spec"]
    assert "QUEUELET_SERVER_DATA_DIR" not in environment_of(without["template"]["spec"])
    assert "volumes" not in without["template"]["spec"]
    assert not [each for each in rendered("nothing") if each["kind"] == "PersistentVolumeClaim"]


def test_the_connection_string_is_a_file_that_follows_its_secret() -> None:
    stateful_set = only("StatefulSet", rendered("a database with everything"))
    pod = stateful_set["spec"]["template"]["spec"]
    environment, container = environment_of(pod), pod["containers"][0]
    volumes = {each["name"]: each.get("secret") for each in pod["volumes"]}
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert volumes["postgres"] == {
        "secretName": "db-app",
        "defaultMode": 0o440,
        "items": [{"key": "pooler.uri", "path": "uri"}],
    }
    assert volumes["postgres-ca"] == {
        "secretName": "db-ca",
        "defaultMode": 0o440,
        "items": [{"key": "ca.crt", "path": "ca.crt"}],
    }
    assert environment["QUEUELET_SERVER_POSTGRES_FILE"] == f"{mounts['postgres']['mountPath']}/uri"
    assert environment["QUEUELET_SERVER_POSTGRES_SCHEMA"] == "shop_queues"
    assert environment["PGSSLROOTCERT"] == f"{mounts['postgres-ca']['mountPath']}/ca.crt"
    assert environment["PGSSLMODE"] == "verify-full"
    assert not [each for each in mounts.values() if "subPath" in each], "a file mounted by subPath does not change"
    assert not [each for each in container["env"] if "valueFrom" in each], "a variable does not change"
    assert "db-app" not in str(container["args"])


def test_a_server_with_a_database_alone_has_no_volume_for_data() -> None:
    objects = rendered("a database")
    pod = only("StatefulSet", objects)["spec"]["template"]["spec"]
    assert [each["name"] for each in pod["volumes"]] == ["postgres"]
    assert not [each for each in objects if each["kind"] == "PersistentVolumeClaim"]
    environment = environment_of(pod)
    assert environment["QUEUELET_SERVER_POSTGRES_SCHEMA"] == "queuelet"
    assert not {"QUEUELET_SERVER_DATA_DIR", "PGSSLMODE", "PGSSLROOTCERT"} & environment.keys()
    without = environment_of(only("StatefulSet", rendered("nothing"))["spec"]["template"]["spec"])
    assert not [name for name in without if "POSTGRES" in name]


def test_no_tool_deletes_the_claim_because_a_manifest_has_it_no_more() -> None:
    annotations = only("PersistentVolumeClaim", rendered("a volume"))["metadata"]["annotations"]
    assert annotations == {
        "helm.sh/resource-policy": "keep",
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    }


def test_the_operator_never_gets_the_key_of_the_server() -> None:
    for _, pod in pod_templates(rendered("mutual TLS from Secrets")):
        items = {
            (volume["secret"]["secretName"], item["key"])
            for volume in pod["spec"]["volumes"]
            for item in volume["secret"]["items"]
        }
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator":
            assert items == {("cert", "ca.crt"), ("operator-cert", "tls.crt"), ("operator-cert", "tls.key")}
        else:
            assert items == {("cert", "tls.crt"), ("cert", "tls.key"), ("clients", "ca.crt")}


def test_no_label_takes_the_place_of_those_that_pods_are_found_by() -> None:
    for each in rendered("all that Pods can have"):
        if each["kind"] in {"Deployment", "StatefulSet"}:
            assert (
                each["spec"]["selector"]["matchLabels"].items()
                <= each["spec"]["template"]["metadata"]["labels"].items()
            )
            assert each["spec"]["template"]["metadata"]["labels"]["team"] == "checkout"


def test_a_new_release_of_the_chart_alone_restarts_no_pod() -> None:
    for _, pod in pod_templates(rendered("nothing")):
        assert "helm.sh/chart" not in pod["metadata"]["labels"]


def test_an_image_is_that_of_the_release_unless_values_say_otherwise() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert images("nothing") == {
        f"queuelet-server:{version}",
        f"queuelet-operator:{version}",
    }
    assert images("all that Pods can have") == {"registry.example.com:5000/queuelet:1.2.3"}
    assert f"queuelet-server@sha256:{'0' * 64}" in images("long names and digests")


def test_every_setting_of_the_pods_is_one_that_the_programs_have() -> None:
    """A typo in the name of an environment variable would have no effect, because programs ignore unknown ones."""
    known = {
        "server": {name for option in server.params for name in option.envvar or ()},
        "operator": {f"QUEUELET_OPERATOR_{option.name}".upper() for option in operator.params},
    }
    for name in VALUES:
        for _, pod in pod_templates(rendered(name)):
            ours = {name for name in environment_of(pod["spec"]) if name.startswith("QUEUELET_")}
            assert ours <= known[component_of(pod)]


# Several servers


def servers_of(name: str) -> Object:
    """Return the Deployment of the servers."""
    (found,) = [
        each
        for each in rendered(name)
        if each["kind"] == "Deployment" and component_of(each["spec"]["template"]) == "server"
    ]
    return found


@pytest.mark.parametrize("name", ["several servers", "several servers with everything", "one of several servers"])
def test_servers_that_share_queues_have_no_volume_and_can_run_anywhere(name: str) -> None:
    assert not [each for each in rendered(name) if each["kind"] in {"StatefulSet", "PersistentVolumeClaim"}]
    spec = servers_of(name)["spec"]
    assert spec["replicas"] == VALUES[name]["server"].get("replicas", 1)
    assert not [each for each in spec["template"]["spec"]["volumes"] if "persistentVolumeClaim" in each]
    environment = environment_of(spec["template"]["spec"])
    assert environment["QUEUELET_SERVER_SHARDS"] == str(VALUES[name]["server"]["shards"])
    assert "QUEUELET_SERVER_DATA_DIR" not in environment


def test_each_server_says_at_which_address_the_others_reach_it() -> None:
    """Kubernetes replaces the name of a variable that comes before."""
    env = servers_of("several servers")["spec"]["template"]["spec"]["containers"][0]["env"]
    names = [each["name"] for each in env]
    assert names.index("POD_IP") < names.index("QUEUELET_SERVER_ADVERTISE")
    assert {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} in env
    assert {"name": "QUEUELET_SERVER_ADVERTISE", "value": "$(POD_IP):10002"} in env


def test_servers_recognize_each_other_by_the_certificate_of_their_service() -> None:
    pod = servers_of("several servers with everything")["spec"]["template"]["spec"]
    environment = environment_of(pod)
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    (tls,) = [each["secret"] for each in pod["volumes"] if each["name"] == "tls"]
    assert [item["key"] for item in tls["items"]] == ["tls.crt", "tls.key", "ca.crt"]
    assert environment["QUEUELET_SERVER_PEER_TLS_CA"] == f"{mounts['tls']}/ca.crt"
    assert environment["QUEUELET_SERVER_PEER_TLS_NAME"] == "shop-queuelet-server.prod.svc"
    issued = only("Certificate", rendered("several servers with certificates"))["spec"]
    assert environment["QUEUELET_SERVER_PEER_TLS_NAME"] in issued["dnsNames"]
    assert {"server auth", "client auth"} <= set(issued["usages"])
    assert not [
        name for name in environment_of(servers_of("several servers")["spec"]["template"]["spec"]) if "TLS" in name
    ]


def test_an_upgrade_starts_a_new_server_before_an_old_one_hands_its_queues_over() -> None:
    spec = servers_of("several servers with everything")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    pod = spec["template"]["spec"]
    seconds = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert environment_of(pod)["QUEUELET_SERVER_GRACE"] == "50"
    assert pod["terminationGracePeriodSeconds"] == 50 + 10 + seconds


def test_the_drain_of_a_node_stops_one_server_at_a_time() -> None:
    budgets = {each["metadata"]["name"]: each for each in rendered("several servers") if "Budget" in each["kind"]}
    budget = budgets["shop-queuelet-server"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == servers_of("several servers")["spec"]["selector"]
    for name in ("several servers with everything", "nothing"):
        assert [each["metadata"]["name"] for each in rendered(name) if "Budget" in each["kind"]] == [
            "shop-queuelet-operator"
        ]


def test_servers_are_spread_over_nodes_unless_values_say_otherwise() -> None:
    (usual,) = servers_of("several servers")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert usual["topologyKey"] == "kubernetes.io/hostname"
    assert usual["labelSelector"] == servers_of("several servers")["spec"]["selector"]
    (own,) = servers_of("several servers with everything")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert own["topologyKey"] == "topology.kubernetes.io/zone"


def test_a_network_policy_lets_servers_reach_each_other_and_the_database_that_the_chart_creates() -> None:
    (policy,) = [
        each["spec"]
        for each in rendered("a database of its own")
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"].endswith("-server")
    ]
    selector = policy["podSelector"]
    assert {"podSelector": selector} in policy["ingress"][0]["from"]
    assert {"ports": [{"port": "grpc"}], "to": [{"podSelector": selector}]} in policy["egress"]
    database = only("Cluster", rendered("a database of its own"))["metadata"]["name"]
    pods = {"podSelector": {"matchLabels": {"cnpg.io/cluster": database}}}
    assert {"ports": [{"port": 5432}], "to": [pods]} in policy["egress"]


def test_the_database_of_the_chart_loses_no_commit_with_one_of_its_three_servers() -> None:
    objects = rendered("a database of its own")
    cluster = only("Cluster", objects)
    assert cluster["spec"]["instances"] == 3
    assert cluster["spec"]["postgresql"]["synchronous"] == {
        "method": "any",
        "number": 1,
        "dataDurability": "required",
        "failoverQuorum": True,
    }
    assert cluster["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    pod = servers_of("a database of its own")["spec"]["template"]["spec"]
    name = cluster["metadata"]["name"]
    assert {each["secret"]["secretName"] for each in pod["volumes"]} == {f"{name}-app", f"{name}-ca"}
    assert environment_of(pod)["PGSSLMODE"] == "verify-full"


def test_values_change_fields_of_the_database_and_leave_the_others() -> None:
    spec = only("Cluster", rendered("a large database of its own"))["spec"]
    assert spec["instances"] == 5
    assert spec["storage"] == {"size": "1Ti", "storageClass": "fast"}
    assert spec["postgresql"]["synchronous"] == {
        "method": "any",
        "number": 2,
        "dataDurability": "required",
        "failoverQuorum": True,
    }
    assert spec["backup"] == {"volumeSnapshot": {"className": "snapshots"}}


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({"replicas": 2}, r"server\.replicas: several servers share queues only in a database; set server\.postgres"),
        ({"shards": 2}, r"server\.shards: several servers share queues only in a database; set server\.postgres"),
        (
            {"replicas": 2, "postgres": {"secretName": "db-app"}, "persistence": {"enabled": True}},
            r"server\.replicas: several servers have no Disk queues; move their messages with `queuelet move`",
        ),
        ({"replicas": 0, "postgres": {"secretName": "db-app"}}, r"replicas.*minimum: got 0, want 1"),
        (
            {"postgres": {"secretName": "db-app", "cluster": {"create": True}}},
            r"server\.postgres\.cluster\.create: the new database has Secrets of its own",
        ),
    ],
)
def test_servers_that_cannot_share_queues_are_refused(server: Object, says: str) -> None:
    with pytest.raises(HelmError, match=says):
        template("prod", "shop", {"server": server})


def test_helm_says_which_queues_several_servers_have() -> None:
    said = notes(VALUES["several servers"])
    assert "rollout status deployment/shop-queuelet-server" in said
    assert "store: Postgres" in said
    assert "Queues with another spec.store get the reason StoreUnavailable." in " ".join(said.split())


# The REST API and the console


def container_of(name: str) -> Object:
    """Return the container of the server."""
    container: Object = only("StatefulSet", rendered(name))["spec"]["template"]["spec"]["containers"][0]
    return container


def test_the_rest_api_is_off_unless_a_value_turns_it_on() -> None:
    assert container_of("nothing")["args"] == ["--http="]
    assert [each["name"] for each in container_of("nothing")["ports"]] == ["grpc", "metrics"]
    assert [port["name"] for port in service_of("nothing")["ports"]] == ["grpc"]
    with ServerProcess(*container_of("nothing")["args"]) as process:
        assert process.http_port == 0


def test_a_service_has_the_rest_api_once_a_value_turns_it_on() -> None:
    assert container_of("the REST API")["args"] == ["--http=:8080"]
    assert {"name": "http", "containerPort": 8080} in container_of("the REST API")["ports"]
    on_service = {"name": "http", "port": 8080, "targetPort": "http"}
    assert {**on_service, "appProtocol": "http"} in service_of("the REST API")["ports"]
    with_tls = "the REST API with TLS, a token and network policies"
    assert {**on_service, "appProtocol": "https"} in service_of(with_tls)["ports"]
    assert server.make_context("server", list(container_of("the REST API")["args"])).params["http"] == ":8080"


def test_extra_flags_take_precedence_over_those_of_the_chart() -> None:
    (_, *extra) = container_of("all that Pods can have")["args"]
    assert extra == FURNITURE["extraArgs"]


def test_the_rest_api_responds_to_the_names_of_its_service() -> None:
    names = ["q.example.com", "shop-queuelet-server", "shop-queuelet-server.prod.svc"]
    names += ["shop-queuelet-server.prod.svc.cluster.local", "10.1.2.3", "localhost"]
    with server_of("the REST API") as process:
        assert {name: status_for(process, name) for name in names} == dict.fromkeys(names, 200)
        # Anyone can register a name such as shop-queuelet-server.dev, so a page could have it by DNS rebinding.
        assert status_for(process, "shop-queuelet-server.dev") == 403
        assert status_for(process, "example.com") == 403


def test_an_ingress_and_a_route_lead_to_the_service_which_knows_their_names() -> None:
    ingress = only("Ingress", rendered("an Ingress"))["spec"]
    assert ingress["ingressClassName"] == "nginx"
    hosts = ["queues.example.com", "q.example.com"]
    assert ingress["tls"] == [{"secretName": "console-cert", "hosts": hosts}]
    assert [rule["host"] for rule in ingress["rules"]] == hosts
    for rule in ingress["rules"]:
        (path,) = rule["http"]["paths"]
        assert path["path"] == "/"
        assert path["backend"] == {"service": {"name": "shop-queuelet-server", "port": {"name": "http"}}}
    assert not {"tls", "ingressClassName"} & only("Ingress", rendered("an Ingress of the default class"))["spec"].keys()
    (rule,) = only("HTTPRoute", rendered("an HTTPRoute"))["spec"]["rules"]
    assert rule == {"backendRefs": [{"name": "shop-queuelet-server", "port": 8080}], "timeouts": {"request": "0s"}}
    for name, host in (("an Ingress", "q.example.com"), ("an HTTPRoute", "queues.example.com")):
        with server_of(name) as process:
            assert status_for(process, host) == 200


@pytest.mark.parametrize("values", ["nothing", "the REST API"])
def test_nothing_leads_to_the_rest_api_from_outside_by_default(values: str) -> None:
    assert not {"Ingress", "HTTPRoute"} & {each["kind"] for each in rendered(values)}


def server_of(name: str) -> ServerProcess:
    """Return a server that knows the hosts that a release's server knows."""
    hosts = environment_of({"containers": [container_of(name)]})["QUEUELET_SERVER_HTTP_HOSTS"]
    return ServerProcess("--http", "127.0.0.1:0", env={"QUEUELET_SERVER_HTTP_HOSTS": hosts})


def status_for(process: ServerProcess, host: str) -> int:
    """Return the status of a response of the REST API to a request with this `Host`."""
    request = Request(f"{process.rest_url}/v1/queues", headers={"Host": f"{host}:8080"})  # noqa: S310  # our own URL
    try:
        with urlopen(request) as response:  # noqa: S310  # a URL of our own
            return int(response.status)
    except HTTPError as refused:
        refused.close()
        return refused.code


def service_of(name: str) -> Object:
    """Return the Service for clients."""
    (spec,) = (
        each["spec"]
        for each in rendered(name)
        if each["kind"] == "Service" and each["metadata"]["name"].endswith("-server")
    )
    found: Object = spec
    return found


def test_the_rest_api_admits_the_clients_of_the_network_policy_but_not_the_operator() -> None:
    name = "the REST API with TLS, a token and network policies"
    (calls,) = [rule for rule in policy("server", name)["spec"]["ingress"] if rule["ports"] == [{"port": "http"}]]
    assert calls["from"] == VALUES[name]["networkPolicy"]["clients"]
    rules = policy("server", "network policies")["spec"]["ingress"]
    assert {"port": "http"} not in [port for rule in rules for port in rule["ports"]]


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ("the REST API", "http://localhost:8080/"),
        ("the REST API with TLS, a token and network policies", "https://localhost:8080/"),
    ],
)
def test_helm_says_where_the_console_is(values: str, address: str) -> None:
    assert f"Open the console at {address} " in notes(VALUES[values])
    assert "the console" not in notes(VALUES["nothing"])


# The console apart from the REST API


def flags_of_console(name: str) -> dict[str, str]:
    """Return the environment of the server that is about the console."""
    environment = environment_of({"containers": [container_of(name)]})
    about = ("NO_CONSOLE", "HIDE_PAYLOADS", "QUEUE_OBJECTS")
    prefix = "QUEUELET_SERVER_"
    return {each.removeprefix(prefix): value for each, value in environment.items() if each[16:].startswith(about)}


READS = {"QUEUE_OBJECTS": "/etc/queuelet/account", "QUEUE_OBJECTS_CLASS": "default"}


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ("nothing", {}),
        ("the REST API", READS),
        ("the REST API without the console", {"NO_CONSOLE": "true"}),
        ("a console without payloads", {**READS, "HIDE_PAYLOADS": "true"}),
        ("a console without Queue objects", {}),
        (
            "a console of some namespaces",
            {**READS, "QUEUE_OBJECTS_CLASS": "fast", "QUEUE_OBJECTS_NAMESPACE": "default kube-public"},
        ),
        ("a console of a server without an account", {}),
        ("a console with roles of your own", READS),
    ],
)
def test_values_of_the_console_are_flags_of_the_server(values: str, flags: dict[str, str]) -> None:
    assert flags_of_console(values) == flags
    context = server.make_context("server", [f"--{name.lower().replace('_', '-')}" for name in flags if name in ONLY])
    assert context.params["no_console"] == ("NO_CONSOLE" in flags)
    assert context.params["hide_payloads"] == ("HIDE_PAYLOADS" in flags)


ONLY = {"NO_CONSOLE", "HIDE_PAYLOADS"}
"""Flags without a value."""


def server_roles(name: str) -> list[Object]:
    """Return the roles and bindings of the server."""
    kinds = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
    component = "app.kubernetes.io/component"
    found = [each for each in rendered(name) if each["kind"] in kinds]
    return [each for each in found if each["metadata"]["labels"][component] == "server"]


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ("nothing", []),
        ("the REST API", ["ClusterRole", "ClusterRoleBinding"]),
        ("the REST API without the console", []),
        ("a console without Queue objects", []),
        ("a console of some namespaces", ["Role", "Role", "RoleBinding", "RoleBinding"]),
        ("a console of a server without an account", []),
        ("a console with roles of your own", []),
    ],
)
def test_the_server_may_read_queues_only_if_its_console_shows_them(values: str, kinds: list[str]) -> None:
    roles = server_roles(values)
    assert sorted(each["kind"] for each in roles) == kinds
    for each in roles:
        if "rules" in each:
            rights = {"apiGroups": ["queuelet.dev"], "resources": ["queues"], "verbs": ["get", "list", "watch"]}
            assert each["rules"] == [rights]
        else:
            assert [subject["name"] for subject in each["subjects"]] == ["shop-queuelet-server"]
    namespaces = [each["metadata"]["namespace"] for each in roles if each["kind"] == "Role"]
    assert namespaces == VALUES[values].get("operator", {}).get("namespaces", [])


def test_the_pod_has_the_token_of_its_account_only_if_its_console_reads_queues() -> None:
    def volumes(name: str) -> list[str]:
        spec = only("StatefulSet", rendered(name))["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        return [each["name"] for each in spec.get("volumes", [])]

    assert volumes("nothing") == []
    assert volumes("a console without Queue objects") == []
    assert volumes("the REST API") == ["account"]


def test_the_network_policy_lets_the_server_reach_the_api_server_only_if_its_console_reads_queues() -> None:
    assert policy("server", "network policies")["spec"]["egress"] == []
    to = [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
    assert policy("server", "a console of some namespaces")["spec"]["egress"] == [{"ports": [{"port": 6443}], "to": to}]


def test_helm_says_where_the_rest_api_is_if_there_is_no_console() -> None:
    said = notes(VALUES["the REST API without the console"])
    assert "The REST API is at http://localhost:8080/ while" in said
    assert "Open the console" not in said


# Refused values


REFUSED: dict[str, tuple[Object, str]] = {
    "a slip in the server": ({"server": {"replica": 2}}, "'/server': additional properties 'replica' not allowed"),
    "several servers without a database": (
        {"server": {"replicas": 2}},
        "server.replicas: several servers share queues only in a database; set server.postgres.secretName",
    ),
    "a value there is not": ({"replicaCount": 2}, "'': additional properties 'replicaCount' not allowed"),
    "a slip deep inside": (
        {"tls": {"certManager": {"issuerref": {}}}},
        "'/tls/certManager': additional properties 'issuerref' not allowed",
    ),
    "replicas in words": ({"operator": {"replicas": "two"}}, "'/operator/replicas': got string, want integer"),
    "a negative grace": ({"server": {"graceSeconds": -1}}, "'/server/graceSeconds': minimum: got -1, want 0"),
    "one namespace as a text": ({"operator": {"namespaces": "prod"}}, "'/operator/namespaces': got string, want array"),
    "a namespace there cannot be": (
        {"operator": {"namespaces": ["Prod"]}},
        "'/operator/namespaces/0': 'Prod' does not match",
    ),
    "a name there cannot be": ({"fullnameOverride": "Prod_1"}, "'/fullnameOverride': 'Prod_1' does not match"),
    "a class there cannot be": (
        {"operator": {"queueClassName": "Fast"}},
        "'/operator/queueClassName': 'Fast' does not",
    ),
    "a number as a tag": ({"server": {"image": {"tag": 1.0}}}, "'/server/image/tag': got number, want string"),
    "a digest without its kind": ({"server": {"image": {"digest": "0" * 64}}}, "'/server/image/digest': '000"),
    "an address without a port": (
        {"server": {"address": "q.example.com"}},
        "'/server/address': 'q.example.com' does not",
    ),
    "connections without a bound": (
        {"server": {"bounds": {"connections": -1}}},
        "'/server/bounds/connections': minimum: got -1, want 1",
    ),
    "a history without a size": (
        {"server": {"bounds": {"historyBytes": "some"}}},
        "'/server/bounds/historyBytes': 'some' does not",
    ),
    "a watermark of nothing": ({"server": {"memoryWatermark": "most"}}, "'/server/memoryWatermark': 'most' does not"),
    "an unknown type of Service": (
        {"server": {"service": {"type": "Public"}}},
        "'/server/service/type': value must be one",
    ),
    "a yes": ({"rbac": {"create": "yes"}}, "'/rbac/create': got string, want boolean"),
    "a Secret there cannot be": (
        {"server": {"postgres": {"secretName": "DB"}}},
        "'/server/postgres/secretName': 'DB' does not",
    ),
    "a connection string for a Secret": (
        {"server": {"postgres": {"secretName": "postgresql://db/app"}}},
        "'/server/postgres/secretName': 'postgresql://db/app' does not",
    ),
    "no key of the Secret": (
        {"server": {"postgres": {"secretName": "db", "secretKey": ""}}},
        "'/server/postgres/secretKey': '' does not",
    ),
    "a schema that needs quotes": (
        {"server": {"postgres": {"secretName": "db", "schema": "My Queues"}}},
        "'/server/postgres/schema': 'My Queues' does not",
    ),
    "a schema of 64 letters": (
        {"server": {"postgres": {"secretName": "db", "schema": "q" * 64}}},
        "'/server/postgres/schema': maxLength: got 64, want 63",
    ),
    "a schema of PostgreSQL": (
        {"server": {"postgres": {"secretName": "db", "schema": "pg_queues"}}},
        "server.postgres.schema: pg_queues is not allowed, because PostgreSQL reserves names that begin with pg_",
    ),
    "a CA without a database": (
        {"server": {"postgres": {"caSecretName": "db-ca"}}},
        "server.postgres.caSecretName: there is no database whose certificate to verify; set",
    ),
    "a port of the database there is not": (
        {"networkPolicy": {"postgres": {"ports": [70_000]}}},
        "'/networkPolicy/postgres/ports/0': maximum: got 70,000, want 65,535",
    ),
    "TLS without a Secret": (
        {"tls": {"enabled": True}},
        "tls.secretName: it is empty; set it to the Secret with tls.crt",
    ),
    "cert-manager without an issuer": (
        {"tls": {"enabled": True, "certManager": {"enabled": True}}},
        "tls.certManager.issuerRef.name: it is empty; set it to the Issuer",
    ),
    "cert-manager without TLS": ({"tls": {"certManager": CERT_MANAGER}}, "set tls.enabled too"),
    "mutual TLS without TLS": (
        {"tls": {"mutual": {"enabled": True}}},
        "tls.mutual.enabled: mutual TLS needs TLS; set tls.enabled too",
    ),
    "mutual TLS without the operator's own": (
        {"tls": {"enabled": True, "secretName": "cert", "mutual": {"enabled": True}}},
        "tls.mutual.operatorSecretName: it is empty;",
    ),
    "an Ingress without a token": (
        {"http": {"enabled": True}, "ingress": {"enabled": True, "hosts": ["q.example.com"]}},
        "ingress.enabled: everyone who reaches it could read and delete all messages; set auth.tokenSecretName too",
    ),
    "an HTTPRoute without a token": (
        {"http": {"enabled": True}, "httpRoute": {"enabled": True, "hostnames": ["q.example.com"]}},
        "httpRoute.enabled: everyone who reaches it could read and delete all messages; set auth.tokenSecretName too",
    ),
    "an Ingress with mutual TLS but without a token": (
        {**VALUES["mutual TLS from Secrets"], "http": {"enabled": True}, "ingress": {"enabled": True}},
        "ingress.enabled: everyone who reaches it could read and delete all messages; set auth.tokenSecretName too",
    ),
    "an Ingress without the port": (
        {"ingress": {"enabled": True, "hosts": ["q.example.com"]}},
        "ingress.enabled: the server has no port for it; set http.enabled too",
    ),
    "an HTTPRoute without the port": (
        {"httpRoute": {"enabled": True, "hostnames": ["q.example.com"]}},
        "httpRoute.enabled: the server has no port for it; set http.enabled too",
    ),
    "an Ingress without a name": (
        {**WITH_TOKEN, "ingress": {"enabled": True}},
        "ingress.hosts: it is empty; set it to the DNS names of the console",
    ),
    "an HTTPRoute without a name": (
        {**WITH_TOKEN, "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        "httpRoute.hostnames: it is empty; set it to the DNS names of the console",
    ),
    "an HTTPRoute without a Gateway": (
        {**WITH_TOKEN, "httpRoute": {"enabled": True, "hostnames": ["q.example.com"]}},
        "httpRoute.parentRefs: it is empty; set it to the Gateways",
    ),
    "an Ingress of all names": ({"ingress": {"hosts": ["*.example.com"]}}, "'/ingress/hosts/0': '*.example.com' does"),
}


@pytest.mark.need(54)
@pytest.mark.parametrize(("values", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_value_is_refused_with_its_name(values: Object, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        template("prod", "shop", values)
    assert sentence in str(refused.value)


def test_every_value_has_a_sentence_that_the_file_of_values_repeats() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "values.yaml").read_text()
    comments = re.sub(r"\s+", " ", " ".join(re.findall(r"^ *# (.*)$", text, re.MULTILINE)))
    described = {name: each["description"] for name, each in properties(schema)}
    # Helm sets this value if the chart is a dependency of another one.
    assert described.pop("/global")
    assert set(described) == set(value_names(yaml.safe_load(text), schema))
    for name, sentence in described.items():
        assert sentence.endswith("."), name
        assert sentence in comments, name


def test_a_key_that_no_value_has_is_refused_everywhere() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["additionalProperties"] is False
    assert not [name for name, each in properties(schema) if "properties" in each and each["additionalProperties"]]


# NetworkPolicies


@pytest.mark.parametrize(
    ("values", "admitted"),
    [
        ("network policies", [{"podSelector": {}}]),
        ("open network policies", [{"namespaceSelector": {}}]),
        (
            "narrow network policies",
            [
                {"namespaceSelector": {"matchLabels": {"team": "checkout"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8"}},
            ],
        ),
    ],
)
def test_the_network_policy_admits_its_own_namespace_unless_clients_are_named(
    values: str, admitted: list[Object]
) -> None:
    calls = policy("server", values)["spec"]["ingress"][0]
    assert calls["ports"] == [{"port": "grpc"}]
    operator, *others = calls["from"]
    assert operator["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
    assert others == admitted


@pytest.mark.parametrize(("values", "ports"), [("network policies", [53, 5353]), ("narrow network policies", [1053])])
def test_the_operator_may_reach_dns_on_the_ports_of_service_and_pods(values: str, ports: list[int]) -> None:
    dns = policy("operator", values)["spec"]["egress"][1]
    assert dns == {"ports": [{"port": port, "protocol": kind} for port in ports for kind in ("UDP", "TCP")]}


def test_the_server_may_reach_its_database_and_dns() -> None:
    database, dns = policy("server", "a database with everything")["spec"]["egress"]
    assert database == {
        "ports": [{"port": 5433}],
        "to": [{"podSelector": {"matchLabels": {"cnpg.io/cluster": "db"}}}],
    }
    assert dns == policy("operator", "a database with everything")["spec"]["egress"][1]
    database, dns, api_server = policy("server", "a database and network policies")["spec"]["egress"]
    assert database == {"ports": [{"port": 5432}]}
    assert {"port": 443} in api_server["ports"], "for the console"
    assert policy("server", "network policies")["spec"]["egress"] == []


def policy(component: str, values: str) -> Object:
    """Return the NetworkPolicy of the server or the operator."""
    (found,) = (
        each
        for each in rendered(values)
        if each["kind"] == "NetworkPolicy" and each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )
    return found


# Monitoring


def test_alerts_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    with own_schema() as database, ServerProcess("--data-dir", str(tmp_path), *database) as process:
        rpc = Rpc(process.address)
        # The metric families of queues, calls and the database exist from the start.
        rpc.new_queue("orders")
        rpc.close()
        with urlopen(f"{process.metrics_url}/metrics") as response:  # noqa: S310  # a URL of our own
            exposed: str = response.read().decode()
    there_are = set(re.findall(r"^# TYPE (\S+)", exposed, re.MULTILINE))
    metrics = Metrics()
    metrics.watch_files(list)
    for family in metrics.registry.collect():
        there_are |= {family.name, f"{family.name}_total"}
    rule = only("PrometheusRule", rendered("monitoring"))
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    assert len(alerts) > 5
    for alert in alerts:
        asked = set(re.findall(r"\b(queuelet_\w+)\{", alert["expr"]))
        assert asked, alert["alert"]
        assert asked <= there_are, alert["alert"]
        assert alert["annotations"]["summary"].endswith(".")
        assert alert["annotations"]["description"].strip().endswith(".")


def test_alerts_of_credentials_fire_on_the_series_of_a_server(tmp_path: Path) -> None:
    """With an expired certificate and an empty token file, both alerts have their series and its labels."""
    certificate, key, token = (tmp_path / name for name in ("tls.crt", "tls.key", "token"))
    now = datetime.now(UTC)
    issued = trustme.CA().issue_cert("127.0.0.1", not_before=now - timedelta(days=9), not_after=now - timedelta(days=2))
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    token.write_text("secret")
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(token))
    with ServerProcess(*flags) as process:
        token.write_text("")
        # A request makes the server check its files.
        fetch(f"{process.metrics_url}/readyz")
        series = {
            name: samples(f"{process.metrics_url}/metrics", name)
            for name in ("queuelet_certificate_expiry_timestamp_seconds", "queuelet_credentials_stale")
        }
    (expires,) = series["queuelet_certificate_expiry_timestamp_seconds"].values()
    assert expires < time.time()
    assert f'file="{token}",role="token"' in {
        labels for labels, value in series["queuelet_credentials_stale"].items() if value == 1
    }
    rule = only("PrometheusRule", rendered("monitoring"))
    alerts = {each["alert"]: each for group in rule["spec"]["groups"] for each in group["rules"]}
    for name, metric in {
        "QueueletCertificateExpiresSoon": "queuelet_certificate_expiry_timestamp_seconds",
        "QueueletCertificateExpired": "queuelet_certificate_expiry_timestamp_seconds",
        "QueueletCredentialsStale": "queuelet_credentials_stale",
    }.items():
        assert set(re.findall(r"\b(queuelet_\w+)\{", alerts[name]["expr"])) == {metric}
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(alerts[name]["annotations"])))
        assert named
        for labels in series[metric]:
            assert named <= set(re.findall(r'(\w+)="', labels))


def test_alerts_of_the_database_are_about_its_figures() -> None:
    """That these figures change with the database is tested with the server."""
    rule = only("PrometheusRule", rendered("monitoring"))
    expressions = {each["alert"]: each["expr"] for group in rule["spec"]["groups"] for each in group["rules"]}
    for name, metrics in {
        "QueueletPostgresFull": {"queuelet_postgres_full"},
        "QueueletPostgresFailed": {"queuelet_postgres_open"},
        "QueueletPostgresLessDurable": {"queuelet_postgres_open", "queuelet_postgres_replicated"},
        "QueueletPostgresRowsHeldBack": {"queuelet_postgres_dead_rows"},
    }.items():
        assert set(re.findall(r"\b(queuelet_\w+)\{", expressions[name])) == metrics
    # A server that restarts has other labels, so that series from before and after would not match.
    sides = expressions["QueueletPostgresLessDurable"].split(" and ")
    assert len(sides) == 3
    assert all(side.strip().startswith("max(") for side in sides)


def test_alerts_of_the_operators_certificates_are_about_its_series() -> None:
    """The labels are those of the same metric of a server, because one collector writes both."""
    rule = only("PrometheusRule", rendered("monitoring"))
    alerts = {each["alert"]: each for group in rule["spec"]["groups"] for each in group["rules"]}
    for name in ("QueueletOperatorCertificateExpiresSoon", "QueueletOperatorCertificateExpired"):
        asked = set(re.findall(r"\b(queuelet_\w+)\{", alerts[name]["expr"]))
        assert asked == {"queuelet_operator_certificate_expiry_timestamp_seconds"}
        assert set(re.findall(r"\$labels\.(\w+)", json.dumps(alerts[name]["annotations"]))) == {"role", "file"}


# Helm's notes


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_no_line_of_prose_that_helm_prints_is_too_long_for_a_terminal(values: Object) -> None:
    said = notes(values)
    lines = said.splitlines()
    assert not [line for line in lines if len(line) > 116 and not line.startswith("     ")]
    # Blank lines separate paragraphs, however long their text is.
    assert "\n\nWho can do what: " in said
    assert "\n\n\n" not in said.strip()


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        (
            "nothing",
            [
                "every program that reaches the server can read, add and remove messages",
                "there is no TLS (tls.enabled).",
                "Clients are not authenticated: set auth.tokenSecretName.",
                "Every Pod of the cluster can reach the server: see networkPolicy.enabled.",
                "no registry is named in server.image.repository (queuelet-server) and operator.image.repository",
            ],
        ),
        ("TLS and a token from Secrets", ["every program that has the token can"]),
        ("mutual TLS from Secrets", ["every program that has a certificate of the trusted CA can"]),
        ("network policies", ["every Pod that the NetworkPolicy admits can"]),
        ("an Ingress", ["can be reached at queues.example.com, q.example.com too, by programs and browsers that have"]),
        ("a load balancer", ["of type LoadBalancer, so programs outside the cluster can reach the server too."]),
    ],
)
def test_helm_says_who_can_do_what(values: str, sentences: list[str]) -> None:
    said = " ".join(notes(VALUES[values]).split())
    for sentence in sentences:
        assert sentence in said


def test_the_queue_that_helm_shows_can_be_pasted(control_plane: ControlPlane, kube: KubeQueues) -> None:
    values = {"crds": {"enabled": False}, "operator": {"namespaces": [kube.namespace], "queueClassName": "fast"}}
    said = notes(values)
    (block,) = re.findall(r"^     echo '$.*?apply .*?$", said, re.MULTILINE | re.DOTALL)
    folder = binaries.get("kubectl").parent
    environment = os.environ | control_plane.environment | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", block], env=environment, check=True, capture_output=True)
    spec = kube.get("orders")["spec"]
    assert (spec["queueClassName"], spec["limit"]) == ("fast", 1000)


def test_helm_says_nothing_of_images_that_have_a_registry() -> None:
    assert "ErrImagePull" not in notes(VALUES["all that Pods can have"])


def notes(values: Object) -> str:
    """Return the notes that helm prints after an install."""
    said = helm("install", "shop", str(CHART), "--dry-run=client", "--namespace=prod", values=values)
    return said.split("\nNOTES:\n")[1]


# Internals


@cache
def rendered(name: str) -> list[Object]:
    """Return what the chart renders from values. Several tests share it and none may change it."""
    return template("prod", "shop", VALUES[name])


class Paths:
    """The API paths of objects, by kind."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, dict[str, tuple[str, bool]]] = {}

    def of(self, body: Object) -> str:
        """Return the path of an object."""
        version = body["apiVersion"]
        group = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if group not in self._known:
            listed = self._api.get(group)["resources"]
            self._known[group] = {
                each["kind"]: (each["name"], each["namespaced"]) for each in listed if "/" not in each["name"]
            }
        plural, is_namespaced = self._known[group][body["kind"]]
        where = f"/namespaces/{body['metadata']['namespace']}" if is_namespaced else ""
        return f"{group}{where}/{plural}/{body['metadata']['name']}"


def pod_templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            yield each["kind"], each["spec"]["template"]


def component_of(pod: Object) -> str:
    """Return whether a template is one of the server or of the operator."""
    component: str = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return component


def environment_of(pod: Object) -> dict[str, str]:
    """Return the environment of a Pod, except for the fields of the Pod itself."""
    return {each["name"]: each["value"] for each in pod["containers"][0]["env"] if "value" in each}


def images(name: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for _, pod in pod_templates(rendered(name))}


def only(kind: str, objects: list[Object]) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def properties(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    for name, each in schema.get("properties", {}).items():
        yield f"{path}/{name}", each
        yield from properties(each, f"{path}/{name}")


def value_names(values: Object, schema: Object, path: str = "") -> Iterator[str]:
    for name, each in values.items():
        yield f"{path}/{name}"
        known = schema["properties"][name]
        if "properties" in known:
            yield from value_names(each, known, f"{path}/{name}")

"""A real API server accepts the examples for kubectl, Flux and Argo CD, and they do what docs/gitops.md says.

Neither Flux nor Argo CD runs here. The API server knows the parts of their kinds in gitops_kinds.yaml, which was
written by hand: tests find a typo in a name or a type, but not a change in Flux or Argo CD. Referenced files are looked
up in this repository, and kubectl applies the objects that they would apply.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from queuelet.tags import Tag
from queuelet_operator.packed_tags import PackedTags
from support.documents import ROOT
from support.documents import commands as shell_commands
from support.helm import CHART, helm, template
from support.kstatus import ARGOCD_CM, Health, Kstatus, argo_health, kstatus
from support.kube_queues import KubeQueues
from support.operator_process import OperatorProcess
from support.programs import need
from support.server_process import ServerProcess
from tools.control_plane import Api, ControlPlane, binaries

pytestmark = [pytest.mark.xdist_group("gitops"), pytest.mark.timeout(180)]

Object = dict[str, Any]

HERE = Path(__file__).parent
EXAMPLES = ROOT / "examples"
FLUX, ARGO, MANIFESTS = EXAMPLES / "flux", EXAMPLES / "argocd", EXAMPLES / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
FILES = sorted(path for path in EXAMPLES.rglob("*.yaml") if path.name != "kustomization.yaml")
BUILDS = sorted(path.parent for path in EXAMPLES.rglob("kustomization.yaml"))


def relative(path: Path) -> str:
    """Return a path relative to the repository."""
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane with our kind, and those of Flux and Argo CD."""
    need(*binaries.SERVERS, "kubectl", "helm")
    with ControlPlane() as started:
        for manifest in sorted((ROOT / "crds").glob("*.yaml")):
            started.api.define(manifest)
        kubectl(started, "apply", "--filename", str(HERE / "gitops_kinds.yaml"))
        kubectl(started, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        # A dry run creates no namespaces, but requires those of the objects to exist.
        for name in ("queuelet", "flux-system", "argocd", "shop", "shop-staging", "shop-production"):
            started.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        yield started
        started.check()


def kubectl(control_plane: ControlPlane | None, *arguments: str, given: str = "") -> str:
    """Run kubectl, and return its output."""
    environment = os.environ | (control_plane.environment if control_plane else {})
    command = [str(binaries.get("kubectl")), *arguments]
    done = subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(folder: Path) -> list[Object]:
    """Return the output of kustomize for a folder."""
    return list(yaml.safe_load_all(kubectl(None, "kustomize", str(folder))))


def objects(path: Path) -> list[Object]:
    """Return the objects of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def named(bodies: list[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and a name."""
    (found,) = (body for body in bodies if (body["kind"], body["metadata"]["name"]) == (kind, name))
    return found


# Each object is valid


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_manifest_is_taken_by_the_api_server(path: Path, control_plane: ControlPlane) -> None:
    kubectl(control_plane, "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", str(path))


@pytest.mark.parametrize("folder", BUILDS, ids=relative)
def test_a_kustomization_builds_what_the_api_server_takes(folder: Path, control_plane: ControlPlane) -> None:
    kubectl(
        control_plane, "apply", "--server-side", "--dry-run=server", "--validate=strict", "--kustomize", str(folder)
    )


def test_a_slip_is_found(control_plane: ControlPlane) -> None:
    """The tests above notice typos: in our kind, and in those of others."""
    apply = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-")
    for path, word in ((MANIFESTS / "base" / "orders.yaml", "limit"), (FLUX / "kustomizations.yaml", "prune")):
        with pytest.raises(AssertionError, match=f"{word}x"):
            kubectl(control_plane, *apply, given=path.read_text().replace(f"{word}:", f"{word}x:"))


def test_argo_cd_is_suspended_for_a_restore_as_the_operators_document_says(control_plane: ControlPlane) -> None:
    applications = (ARGO / "root.yaml", ARGO / "applications" / "queuelet.yaml")
    for path in applications:
        kubectl(control_plane, "apply", "--server-side", "--filename", str(path))

    def automated() -> list[str]:
        read = "--output=jsonpath={range .items[*]}{.spec.syncPolicy.automated.selfHeal}{' '}{end}"
        return kubectl(control_plane, "get", "applications", "--namespace=argocd", read).split()

    assert automated() == ["true", "true"]
    commands = [each for each in shell_commands("docs/operator.md", "A backup") if " patch application " in each]
    for command in commands:
        kubectl(control_plane, *shlex.split(command)[1:])
    assert automated() == []
    for path in applications:
        kubectl(control_plane, "apply", "--server-side", "--filename", str(path))
    assert automated() == ["true", "true"]
    kubectl(control_plane, "delete", "applications", "--all", "--namespace=argocd")


# References resolve


def test_every_path_of_flux_and_argo_cd_is_there() -> None:
    flux = [body for body in objects(FLUX / "kustomizations.yaml") if body["kind"] == "Kustomization"]
    argo = [*objects(ARGO / "root.yaml"), *(each for path in applications() for each in objects(path))]
    paths = {body["spec"]["path"] for body in flux} | {body["spec"]["source"]["path"] for body in argo}
    (release,) = (body for body in objects(FLUX / "queuelet" / "release.yaml") if body["kind"] == "HelmRelease")
    for path in {*paths, release["spec"]["chart"]["spec"]["chart"]}:
        assert (ROOT / path).is_dir(), path
    for path in paths - {"helm/queuelet", "examples/argocd/applications"}:
        assert ROOT / path in BUILDS, "it is built by a test above"


def applications() -> list[Path]:
    """Return the files that the root of Argo CD includes."""
    return sorted((ARGO / "applications").iterdir())


def test_flux_has_the_kind_before_it_looks_at_queues() -> None:
    bodies = objects(FLUX / "kustomizations.yaml")
    shop = named(bodies, "Kustomization", "shop")["spec"]
    first = named(bodies, "Kustomization", "queuelet")["spec"]
    assert [each["name"] for each in shop["dependsOn"]] == ["queuelet"]
    assert first["wait"] is True, "otherwise it would be ready before the kind exists"
    assert "HelmRelease" in {body["kind"] for body in build(ROOT / first["path"])}


def test_flux_checks_the_health_of_queues_that_it_applies() -> None:
    shop = named(objects(FLUX / "kustomizations.yaml"), "Kustomization", "shop")["spec"]
    assert "wait" not in shop, "with it, healthChecks would be ignored"
    applied = build(ROOT / shop["path"])
    for check in shop["healthChecks"]:
        queue = named(applied, check["kind"], check["name"])
        assert (check["apiVersion"], check["namespace"]) == (queue["apiVersion"], queue["metadata"]["namespace"])


def test_argo_cd_has_the_kind_before_it_looks_at_queues() -> None:
    waves = {
        body["metadata"]["name"]: int(body["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])
        for path in applications()
        for body in objects(path)
    }
    assert waves["queuelet"] < waves["shop"]
    data = objects(ARGOCD_CM)[0]["data"]
    assert "resource.customizations.health.argoproj.io_Application" in data, (
        "otherwise waves would not wait for one another"
    )


def test_a_commit_prunes_neither_the_definition_nor_the_server() -> None:
    (queuelet,) = objects(ARGO / "applications" / "queuelet.yaml")
    (root,) = objects(ARGO / "root.yaml")
    assert not queuelet["spec"]["syncPolicy"]["automated"]["prune"]
    assert not root["spec"]["syncPolicy"]["automated"]["prune"]
    assert "finalizers" not in queuelet["metadata"], "deleting the Application keeps its objects"
    for body in objects(FLUX / "queuelet" / "release.yaml"):
        assert body["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"] == "disabled"


def test_production_protects_its_orders_and_the_namespace_that_would_take_them_along() -> None:
    built = build(MANIFESTS / "overlays" / "production")
    for body in (named(built, "Queue", "orders"), named(built, "Namespace", "shop-production")):
        assert body["metadata"]["annotations"] == {
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
        }
    assert named(built, "Queue", "orders")["spec"]["deletionPolicy"] == "Retain"


# The chart, with the values of Flux and Argo CD


def release_of_flux() -> tuple[str, str, Object]:
    """Return the namespace, the name and the values that Flux passes to the chart."""
    release = named(objects(FLUX / "queuelet" / "release.yaml"), "HelmRelease", "queuelet")
    return release["metadata"]["namespace"], release["spec"]["releaseName"], release["spec"]["values"]


def release_of_argo_cd() -> tuple[str, str, Object]:
    """Return the namespace, the name and the values that Argo CD passes to the chart."""
    (application,) = objects(ARGO / "applications" / "queuelet.yaml")
    spec, given = application["spec"], application["spec"]["source"]["helm"]
    assert application["metadata"]["name"] == given["releaseName"], "Argo CD may write it into a label of the chart's"
    return spec["destination"]["namespace"], given["releaseName"], given["valuesObject"]


@pytest.mark.parametrize("release", [release_of_flux, release_of_argo_cd])
def test_the_chart_takes_the_values_and_brings_the_definition(release: Any) -> None:  # noqa: ANN401  # one of the functions above
    made = template(*release())
    named(made, "CustomResourceDefinition", "queues.queuelet.dev")
    images = {
        container["image"].rsplit(":", 1)[0]
        for body in made
        if body["kind"] in {"Deployment", "StatefulSet"}
        for container in body["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"registry.example.com/queuelet-server", "registry.example.com/queuelet-operator"}


def test_flux_and_argo_cd_make_the_same_owners() -> None:
    """Flux can take over from Argo CD and back, because namespace and name identify the instance."""
    assert release_of_flux() == release_of_argo_cd()


def test_a_new_commit_does_not_restart_the_server(tmp_path: Path) -> None:
    """Flux adds the commit to the chart's version.

    No Pod may contain it, or each commit would lose queues in memory.
    """
    namespace, name, values = release_of_flux()
    copied = shutil.copytree(CHART, tmp_path / "queuelet")
    about = copied / "Chart.yaml"
    about.write_text(about.read_text().replace("\nversion: 0.1.0\n", "\nversion: 0.1.0+0123456789ab\n"))
    text = helm("template", name, str(copied), f"--namespace={namespace}", values=values)
    after = [body for body in yaml.safe_load_all(text) if body]
    before = template(namespace, name, values)
    assert before != after
    for kind in ("StatefulSet", "Deployment"):
        pods = [[body["spec"] for body in bodies if body["kind"] == kind] for bodies in (before, after)]
        assert pods[0] == pods[1]


# Applied for real


def test_every_overlay_becomes_ready(control_plane: ControlPlane, tmp_path: Path) -> None:
    api = control_plane.api
    with (
        ServerProcess("--data-dir", str(tmp_path)) as server,
        OperatorProcess("--server", server.address, env=control_plane.environment),
    ):
        for overlay in OVERLAYS:
            kubectl(control_plane, "apply", "--server-side", "--kustomize", str(MANIFESTS / "overlays" / overlay))
        for overlay in OVERLAYS:
            namespace = f"shop-{overlay}"
            kubectl(
                control_plane,
                "wait",
                f"--namespace={namespace}",
                "--for=condition=Ready",
                "queues",
                "--all",
                "--timeout=60s",
            )
            check_applied(api, namespace, build(MANIFESTS / "overlays" / overlay))
        check_applied_again(control_plane)
        kube = KubeQueues(api, "shop-staging")
        for name in ("orders", "notifications", "thumbnails"):
            kube.delete(name)
            kube.wait_gone(name)


def check_applied(api: Api, namespace: str, built: list[Object]) -> None:
    """Expect the server to have each Queue of an overlay as declared."""
    there = {body["metadata"]["name"]: body for body in KubeQueues(api, namespace).all()}
    wanted = {body["metadata"]["name"]: body["spec"] for body in built if body["kind"] == "Queue"}
    assert set(there) == set(wanted) == {"orders", "notifications", "thumbnails"}
    for name, spec in wanted.items():
        effective = there[name]["status"]["effective"]
        assert effective["limit"] == spec["limit"]
        assert effective["tagsHash"] == PackedTags(Tag(tag["key"], tag["value"]) for tag in spec["tags"]).hash
        assert (kstatus(there[name]), argo_health(there[name])) == (Kstatus.CURRENT, Health.HEALTHY)


def check_applied_again(control_plane: ControlPlane) -> None:
    """Expect no diff and no write from a second apply, which Flux does every ten minutes."""
    for overlay in OVERLAYS:
        folder = str(MANIFESTS / "overlays" / overlay)
        queues = KubeQueues(control_plane.api, f"shop-{overlay}")
        before = {body["metadata"]["uid"]: body["metadata"]["resourceVersion"] for body in queues.all()}
        assert kubectl(control_plane, "diff", "--server-side", "--kustomize", folder) == ""
        kubectl(control_plane, "apply", "--server-side", "--kustomize", folder)
        assert {body["metadata"]["uid"]: body["metadata"]["resourceVersion"] for body in queues.all()} == before


def test_settings_of_argo_cd_are_merged_into_the_existing_ones(control_plane: ControlPlane) -> None:
    maps = "/api/v1/namespaces/argocd/configmaps"
    control_plane.api.create(maps, {"metadata": {"name": "argocd-cm"}, "data": {"url": "https://argocd.example.com"}})
    kubectl(control_plane, "apply", "--server-side", "--field-manager=queuelet", "--filename", str(ARGOCD_CM))
    data = control_plane.api.get(f"{maps}/argocd-cm")["data"]
    assert data["url"] == "https://argocd.example.com"
    assert set(objects(ARGOCD_CM)[0]["data"]) < set(data)


# The health check of Argo CD


def queue(*conditions: str, generation: int = 2, observed: int = 2, **metadata: object) -> Object:
    """Return the part of a Queue that a health check reads, with conditions such as Ready=True."""
    documented = [dict(zip(("type", "status"), each.split("="), strict=True)) for each in conditions]
    for each in documented:
        each["message"] = "why"
    return {
        "metadata": {"generation": generation, **metadata},
        "status": {"observedGeneration": observed, **({"conditions": documented} if documented else {})},
    }


PAUSED = {"queuelet.dev/paused": "true"}


@pytest.mark.parametrize(
    ("body", "health"),
    [
        ({"metadata": {"generation": 1}}, Health.PROGRESSING),
        (queue(observed=-1), Health.PROGRESSING),
        (queue("Ready=True"), Health.HEALTHY),
        (queue("Ready=True", observed=1), Health.PROGRESSING),
        (queue("Ready=False", "Reconciling=True"), Health.PROGRESSING),
        (queue("Ready=False", "Stalled=True"), Health.DEGRADED),
        (queue("Stalled=True", "Ready=False"), Health.DEGRADED),
        (queue("Ready=False", "Stalled=True", observed=1), Health.PROGRESSING),
        (queue("Ready=False", "Stalled=False"), Health.PROGRESSING),
        (queue("Ready=False"), Health.PROGRESSING),
        (queue("Other=True", "Ready=True"), Health.HEALTHY),
        (queue("Ready=True", annotations=PAUSED), Health.SUSPENDED),
        (queue("Ready=True", annotations={"queuelet.dev/paused": "false"}), Health.HEALTHY),
        (queue("Ready=True", annotations=PAUSED, deletionTimestamp="2026-11-23T07:00:00Z"), Health.PROGRESSING),
    ],
)
def test_the_health_check_of_argo_cd(body: Object, health: Health) -> None:
    assert argo_health(body) == health


def phases() -> Iterator[tuple[Object, str, str]]:
    """Yield a Queue for each row of the document's table, and the health in the row."""
    section = (ROOT / "docs" / "gitops.md").read_text().split("\n## What a status means\n")[1].split("\n## ")[0]
    for line in [line for line in section.splitlines() if line.startswith("| ")][2:]:
        phase, *documented, by_kstatus, by_argo = [cell.strip() for cell in line.strip("|").split("|")]
        *stand, observed = documented
        conditions = [
            f"{type_}={status}"
            for type_, status in zip(("Ready", "Reconciling", "Stalled"), stand, strict=True)
            if status
        ]
        metadata: Object = {"annotations": PAUSED} if "paused" in phase else {}
        if "deleted" in phase:
            metadata["deletionTimestamp"] = "2026-11-23T07:00:00Z"
        at = {"-1": -1, "behind": 1, "current": 2}[observed]
        yield queue(*conditions, observed=at, **metadata), by_kstatus, by_argo


@pytest.mark.parametrize(("body", "by_kstatus", "by_argo"), list(phases()))
def test_the_document_shows_the_status_of_each_phase(body: Object, by_kstatus: str, by_argo: str) -> None:
    assert (kstatus(body), argo_health(body)) == (by_kstatus, by_argo)


def test_the_document_shows_every_health() -> None:
    documented = list(phases())
    assert {by_kstatus for _, by_kstatus, _ in documented} == set(Kstatus)
    assert {by_argo for _, _, by_argo in documented} == set(Health)

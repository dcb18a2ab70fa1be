"""How tools read a Queue's status: kstatus, which Flux and kpt use, and the health check for Argo CD.

The rules of kstatus are those of sigs.k8s.io/cli-utils, as `pkg/kstatus/README.md` documents them, in the order of
`pkg/kstatus/status/generic.go`. They are reimplemented here because these tests have no Go.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

ARGOCD_CM = Path(__file__).parents[2] / "examples" / "argocd" / "argocd-cm.yaml"
LUA = "resource.customizations.health.queuelet.dev_Queue"


class Kstatus(StrEnum):
    """kstatus of an existing object."""

    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    CURRENT = "Current"
    TERMINATING = "Terminating"


class Health(StrEnum):
    """Values that Argo CD's health checks may return."""

    PROGRESSING = "Progressing"
    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"


def kstatus(body: Object) -> Kstatus:
    """Return the status of an object of a kind for which kstatus has no special rules."""
    meta, status = body["metadata"], body.get("status", {})
    if meta.get("deletionTimestamp"):
        return Kstatus.TERMINATING
    # kstatus does not compare generations of an object without either field.
    if "generation" in meta and status.get("observedGeneration", meta["generation"]) != meta["generation"]:
        return Kstatus.IN_PROGRESS
    conditions = status.get("conditions", [])
    for condition in conditions:
        if condition["status"] == "True" and condition["type"] == "Reconciling":
            return Kstatus.IN_PROGRESS
        if condition["status"] == "True" and condition["type"] == "Stalled":
            return Kstatus.FAILED
    for condition in conditions:
        if condition["type"] == "Ready":
            return Kstatus.CURRENT if condition["status"] == "True" else Kstatus.IN_PROGRESS
    # Without any of the conditions, an object counts as current.
    return Kstatus.CURRENT


def argo_health(body: Object) -> Health:
    """Return the health of a Queue by the Lua of examples/argocd/argocd-cm.yaml.

    It is reimplemented in Python, so that tests need no Lua. If the package lupa is installed, both must agree.
    """
    health = _argo_health(body)
    with suppress(ImportError):
        assert lua_health(body) == health, "the Lua and its copy in Python agree"
    return health


def _argo_health(body: Object) -> Health:
    meta, status = body["metadata"], body.get("status", {})
    health = Health.PROGRESSING
    if "deletionTimestamp" in meta:
        return health
    if meta.get("annotations", {}).get("queuelet.dev/paused") == "true":
        return Health.SUSPENDED
    if "conditions" not in status or status["observedGeneration"] != meta["generation"]:
        return health
    for condition in status["conditions"]:
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return Health.DEGRADED
        if condition["type"] == "Ready" and condition["status"] == "True":
            health = Health.HEALTHY
    return health


def lua_health(body: Object) -> Health:
    """Return the health of a Queue by running the Lua itself. Raises ImportError without the package lupa."""
    # Argo CD uses Lua 5.1.
    runtime = importlib.import_module("lupa.lua51").LuaRuntime()
    check = runtime.eval(f"function(obj) {yaml.safe_load(ARGOCD_CM.read_text())['data'][LUA]} end")
    response = check(runtime.table_from(body, recursive=True))
    assert response["message"], "the health has a message"
    return Health(response["status"])

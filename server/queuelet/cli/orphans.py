"""Finds orphans: queues that a Queue object of Kubernetes declared and that no Queue object names any more."""

from __future__ import annotations

import json
import os
import subprocess

from queuelet.cli.failures import Failure

KIND = "queues.queuelet.dev"


def is_orphan(owner: str, objects: set[tuple[str, str]], instance: str) -> bool:
    """Return whether the owner of a queue is a Queue object that does not exist.

    Args:
        owner: the name of the queue's owner; empty if it has none.
        objects: namespace and name of each Queue object.
        instance: the instance of an operator, to find only its queues; empty for the queues of all operators.
    """
    found = _object_of(owner)
    return found is not None and found[1:] not in objects and instance in {"", found[0]}


def _object_of(owner: str) -> tuple[str, str, str] | None:
    """Parse `<instance>/<namespace>/<name>`; None if the owner has another form."""
    parts = owner.rsplit("/", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None  # noqa: PLR2004  # as it reads


def queue_objects() -> set[tuple[str, str]]:
    """Return namespace and name of each Queue object, from kubectl. Raises `Failure` if kubectl fails."""
    arguments = ["get", KIND, "--all-namespaces", "--output=json"]
    program = os.environ.get("KUBECTL", "kubectl")
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603  # the user's own
    except OSError as error:
        raise Failure(
            f"cannot find orphans: cannot run {program} to list Queue objects ({error.strerror}); "
            "install kubectl, or set KUBECTL to its path"
        ) from error
    if done.returncode:
        raise Failure(f"cannot find orphans: `kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in json.loads(done.stdout)["items"]}

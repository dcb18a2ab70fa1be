"""Queues that a Queue object declared and that no such object names any more: what a deletion left behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable

from queuelet.cli.failures import Failure
from queuelet.v1 import queue_pb2 as pb

KIND = "queues.queuelet.dev"


def orphans(queues: Iterable[pb.Queue], objects: set[tuple[str, str]], instance: str) -> list[pb.Queue]:
    """Return the queues whose owner is a Queue object that is not there: a namespace and a name each.

    Of all operators' queues, or of one operator's where an instance is given.
    """
    return [
        queue
        for queue in queues
        if queue.HasField("owner")
        and (owner := _object_of(queue.owner.name)) is not None
        and owner[1:] not in objects
        and instance in {"", owner[0]}
    ]


def _object_of(owner: str) -> tuple[str, str, str] | None:
    """Return instance, namespace and name of `<instance>/<namespace>/<name>`; None if it is no such thing."""
    parts = owner.rsplit("/", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None  # noqa: PLR2004  # as it reads


def queue_objects() -> set[tuple[str, str]]:
    """Return namespace and name of each Queue object, as kubectl tells of them. Raises `Failure` if it can't."""
    asked = ["kubectl", "get", KIND, "--all-namespaces", "--output=json"]
    program = os.environ.get("KUBECTL", "kubectl")
    try:
        done = subprocess.run([program, *asked[1:]], capture_output=True, text=True, check=False)  # noqa: S603  # the user's own
    except OSError as error:
        raise Failure(
            f"cannot find orphans: {program} is needed to ask which Queue objects there are, and does not run "
            f"({error.strerror}); install it, or set KUBECTL to where it is"
        ) from error
    if done.returncode:
        raise Failure(f"cannot find orphans: `{' '.join(asked)}` says: {done.stderr.strip()}")
    return {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in json.loads(done.stdout)["items"]}

"""Which installation serves a queue class: the one whose name the class's ClusterRole carries.

The chart makes that ClusterRole, which grants nothing: it belongs to no namespace, so all releases look at the same
one, Helm refuses a second release that has it too, and it goes with its release.
"""

from __future__ import annotations

from queuelet_operator.resources import GROUP, Body

CLAIMED_BY = f"{GROUP}/claimed-by"
"""The annotation with the instance that claims the class."""


def name_of_claim(queue_class: str) -> str:
    """Return the name of the ClusterRole that claims a class."""
    return f"{GROUP}:class:{queue_class}"


def other_claimant(claim: Body, instance: str) -> str:
    """Return the instance that claims a class, empty if that is this one or none."""
    claimed_by = str((claim["metadata"].get("annotations") or {}).get(CLAIMED_BY) or "")
    return "" if claimed_by == instance else claimed_by

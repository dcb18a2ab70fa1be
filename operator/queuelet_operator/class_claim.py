"""The claim of a queue class: the installation that holds it serves the class.

A claim is a role that the chart creates. It has two annotations: the chart writes the installation for which it was
created, and the operator that serves the class writes its own. The second decides, because the first changes if the
manifests of another installation are applied over it, and that must not hand over Queues that are being served.
"""

from __future__ import annotations

from dataclasses import dataclass

from queuelet_operator.plan.resources import GROUP, Body

CLAIMED_BY = f"{GROUP}/claimed-by"
"""The annotation with the instance for which the claim was created."""

HELD_BY = f"{GROUP}/held-by"
"""The annotation with the instance whose operator serves the class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The location of a claim."""

    name: str
    namespace: str = ""
    """The namespace in which it claims the class; empty for the whole cluster."""
    can_hold: bool = True
    """Whether this operator may hold the claim, or only checks it."""

    @property
    def kind(self) -> str:
        """The kind of the object."""
        return "Role" if self.namespace else "ClusterRole"


def claim_name(queue_class: str) -> str:
    """Return the name of all claims of a queue class."""
    return f"{GROUP}:class:{queue_class}"


def claims(queue_class: str, namespaces: tuple[str, ...]) -> list[Claim]:
    """Return the claims that an operator of a class has to check, for these namespaces or, if none, the whole cluster.

    An operator of some namespaces holds a claim in each of them, and gives way to the claim of the whole cluster.
    """
    name = claim_name(queue_class)
    return [
        Claim(name=name, can_hold=not namespaces),
        *(Claim(name=name, namespace=each) for each in namespaces),
    ]


def holder(claim: Body) -> str:
    """Return the instance that holds a claim, empty if none does."""
    return str(_annotations(claim).get(HELD_BY) or "")


def maker(claim: Body) -> str:
    """Return the instance for which a claim was created, empty if that is not recorded."""
    return str(_annotations(claim).get(CLAIMED_BY) or "")


def namespace_of(instance: str) -> str:
    """Return the namespace in an instance name `<namespace>/<release>` of the chart, empty for other names."""
    namespace, slash, _ = instance.partition("/")
    return namespace if slash else ""


def _annotations(claim: Body) -> Body:
    return claim["metadata"].get("annotations") or {}

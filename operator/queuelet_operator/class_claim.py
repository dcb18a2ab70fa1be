"""Which installation serves a queue class: the one that holds the class's claim.

A claim is a role of the chart. It carries two annotations: one of the chart, which says for whom it was made, and one
of the operator that serves the class. The second decides, because the first changes hands if manifests of another
installation are applied over it; that one's operator must not take over Queues that are served.
"""

from __future__ import annotations

from dataclasses import dataclass

from queuelet_operator.plan.resources import GROUP, Body

CLAIMED_BY = f"{GROUP}/claimed-by"
"""The annotation with the instance that the claim was made for."""

HELD_BY = f"{GROUP}/held-by"
"""The annotation with the instance whose operator serves the class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Where a claim is."""

    name: str
    namespace: str = ""
    """The namespace that it is about; empty for the whole cluster."""
    can_hold: bool = True
    """Whether an operator may hold it, or only obeys it."""

    @property
    def kind(self) -> str:
        """The kind of the object."""
        return "Role" if self.namespace else "ClusterRole"


def claims(queue_class: str, namespaces: tuple[str, ...]) -> list[Claim]:
    """Return the claims that matter to an operator of a class, for these namespaces or the whole cluster.

    An operator of some namespaces holds a claim in each, and obeys that of the whole cluster.
    """
    name = f"{GROUP}:class:{queue_class}"
    return [
        Claim(name=name, can_hold=not namespaces),
        *(Claim(name=name, namespace=each) for each in namespaces),
    ]


def holder(claim: Body) -> str:
    """Return the instance that holds a claim, empty if none does."""
    return str(_annotations(claim).get(HELD_BY) or "")


def maker(claim: Body) -> str:
    """Return the instance that a claim was made for, empty if it does not say."""
    return str(_annotations(claim).get(CLAIMED_BY) or "")


def namespace_of(instance: str) -> str:
    """Return the namespace of an installation by the chart, empty if the name of the instance has none."""
    namespace, slash, _ = instance.partition("/")
    return namespace if slash else ""


def _annotations(claim: Body) -> Body:
    return claim["metadata"].get("annotations") or {}

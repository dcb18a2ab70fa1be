"""One look at an object: everything that its next step depends on, with the outage computed once."""

from __future__ import annotations

from dataclasses import dataclass

from queuelet_operator.plan.model import Known, Policy, Reason, Verdict
from queuelet_operator.plan.observed import StoreProblem

NOT_TRIED = "no connection attempt has ended yet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outage:
    """An outage of the server or of one of its stores. It ends without a change of the object."""

    clause: str
    """A clause that describes the outage, for use in a sentence."""

    verdict: Verdict
    since: float
    """When the outage began, in seconds by `queuelet.clock`."""
    cause: str
    """The cause, as the verdict's message ends with it; empty if it is unknown."""

    blocks_calls: bool = True
    """Whether no call on the queue can succeed during the outage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """What the operator knows about an object, the policy, and the time of the look."""

    known: Known
    policy: Policy
    now: float
    """In seconds since 1970 by `queuelet.clock`, which never steps."""

    outage: Outage | None
    """The outage of the server, or of the store of the object's queue."""

    @classmethod
    def at(cls, now: float, known: Known, policy: Policy) -> Situation:
        """Return the situation of an object at a time, in seconds by `queuelet.clock`."""
        return cls(known=known, policy=policy, now=now, outage=current_outage(known, policy))

    @property
    def report_outage_at(self) -> float:
        """From when on the status reports the outage, in seconds by `queuelet.clock`; infinite if there is none."""
        return self.outage.since + self.policy.outage_after if self.outage else float("inf")

    @property
    def reports_outage(self) -> bool:
        """Whether to report the outage in the status.

        It is reported once it has lasted `outage_after` seconds, because most outages are shorter, and from then on
        until it ends.
        """
        return self.outage is not None and (
            self.now >= self.report_outage_at or self.known.object.status.reason == self.outage.verdict.reason
        )

    @property
    def is_refused(self) -> bool:
        """Whether the server refused the last declaration and no retry is due."""
        refusal = self.known.refusal
        return refusal is not None and (refusal.is_final or self.now < refusal.retry_at)


def current_outage(known: Known, policy: Policy) -> Outage | None:
    """Return the outage of the server, or of the store of the object's queue; None if there is none."""
    server, problem = known.server, known.store_problem
    if server.is_away:
        clause = f"the server at {policy.address} has not responded since {known.wall_time(server.away_since)}"
        verdict = Verdict(
            reason=Reason.SERVER_UNAVAILABLE, message=f"{clause}: {server.why_away or NOT_TRIED}", reconciling=True
        )
        return Outage(clause=clause, verdict=verdict, since=server.away_since, cause=server.why_away)
    if problem is None:
        return None
    state = "full" if problem.is_full else "unusable" if problem.was_opened else "out of reach"
    clause = f"the store of the server at {policy.address} has been {state} since {known.wall_time(problem.since)}"
    verdict = Verdict(reason=reason_of_problem(problem), message=f"{clause}: {problem.message}", reconciling=True)
    return Outage(
        clause=clause,
        verdict=verdict,
        since=problem.since,
        cause=problem.message,
        blocks_calls=problem.blocks_calls,
    )


def reason_of_problem(problem: StoreProblem) -> Reason:
    """Return the reason by which conditions and metrics report the problem of a store."""
    if problem.is_full:
        return Reason.STORE_FULL
    return Reason.STORE_FAILED if problem.was_opened else Reason.STORE_UNAVAILABLE

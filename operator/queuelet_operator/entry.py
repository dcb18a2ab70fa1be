"""An object, with what the controller and its actions remember about it."""

from __future__ import annotations

from dataclasses import dataclass

from queuelet_operator.plan.model import Cause, DeletionContext, Refusal, Removed
from queuelet_operator.plan.resources import QueueObject


@dataclass(slots=True)
class Entry:
    """An object and what this process learned about it since it started. Times are in seconds by `monotonic`."""

    object: QueueObject
    seen_at: float
    refusal: Refusal | None = None
    removed: Removed | None = None
    deletion_context: DeletionContext | None = None
    backoff: float = 0.0
    """The backoff after its last declaration, in seconds; 0 if that was not refused."""

    handled_request: str = ""
    obtained_by: Cause | None = None
    """How it obtained its queue. An adoption stays here until the status records it, because only one is allowed."""

    is_end_reported: bool = False
    """Whether the Event about its deletion was posted."""

    is_gone: bool = False
    """Whether a response showed that it was deleted, or that another object with its name exists."""
    namespace_uid: str | None = None
    """The uid of its namespace; None before it is looked up, empty if the server cannot store it."""

    counts_written_at: float = 0.0
    """When its message counts were last written, in seconds by `queuelet.clock`."""
    counts_turn: float | None = None
    """When it may write new message counts; None if no such write is waiting."""

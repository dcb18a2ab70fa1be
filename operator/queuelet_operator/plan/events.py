"""Events about declarations that the user did not ask for, or could easily miss."""

from __future__ import annotations

from queuelet_operator.plan.model import Cause, Declare, Notice


def notice_of_declaration(step: Declare, previous_owner: str) -> Notice | None:
    """Return the Event for an accepted declaration; None if the user asked for it, because the status shows it then."""
    name = step.definition.name
    match step.cause:
        case Cause.EDITED:
            return Notice(
                reason="DriftRepaired",
                message=f"queue {name} was changed on the server by another client, and was restored as declared",
            )
        case Cause.DELETED:
            return Notice(
                reason="QueueRestored",
                message=(
                    f"queue {name} was deleted on the server by another client, and was recreated without its messages"
                ),
                is_warning=True,
            )
        case Cause.ADOPTED:
            whose = f"belonged to {previous_owner}" if previous_owner else "had no owner"
            return Notice(reason="QueueAdopted", message=f"adopted queue {name}, which {whose}, with its messages")
        case Cause.TAKEN_OVER:
            return Notice(
                reason="QueueTakenOver",
                message=f"queue {name} of an earlier Queue with this name was taken over with its messages",
            )
        case _:
            return None

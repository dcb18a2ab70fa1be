"""Events about declarations: of what nobody asked for, or what is easily missed."""

from __future__ import annotations

from queuelet_operator.plan.model import Cause, Declare, Notice


def notice_of_declaration(step: Declare, previous_owner: str) -> Notice | None:
    """Return the Event for a declaration that the server took; None for what the user asked for and can see."""
    name = step.definition.name
    match step.cause:
        case Cause.EDITED:
            return Notice(
                reason="DriftRepaired",
                message=f"queue {name} was changed in the server by somebody else, and is as declared again",
            )
        case Cause.DELETED:
            return Notice(
                reason="QueueRestored",
                message=(
                    f"queue {name} was deleted in the server by somebody else, and was made anew without its messages"
                ),
                is_warning=True,
            )
        case Cause.ADOPTED:
            whose = f"from {previous_owner}" if previous_owner else "that nobody owned"
            return Notice(reason="QueueAdopted", message=f"took over queue {name} {whose}, with its messages")
        case Cause.TAKEN_OVER:
            return Notice(
                reason="QueueTakenOver",
                message=f"queue {name} of an earlier Queue of this name was taken over with its messages",
            )
        case _:
            return None

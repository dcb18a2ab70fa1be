"""A removal for an object that is gone, and a declaration for the same object that arrives too late."""

from __future__ import annotations

from queuelet.v1 import queue_pb2 as pb
from support.rpc import Rpc, unique_name


def test_a_declaration_that_comes_after_the_removal_is_refused_with_the_reason(rpc: Rpc) -> None:
    """The declaration is from an operator that was frozen while another one took over."""
    name = unique_name()
    owner = pb.Owner(name=f"main/{name}", uid=name)
    declared = pb.QueueDeclaration(name=name, store=pb.Queue.MEMORY, limit=-1, owner=owner)
    removal = pb.QueueRemoval(queue_id=name, owner=owner)
    rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse)
    rpc.call("RemoveQueues", pb.RemoveQueuesRequest(queues=[removal]), pb.RemoveQueuesResponse)
    (result,) = rpc.call("DeclareQueues", pb.DeclareQueuesRequest(queues=[declared]), pb.DeclareQueuesResponse).results
    assert result.outcome == pb.DeclareResult.OUTCOME_REFUSED
    assert (result.error.reason, result.error.code) == ("OWNER_REMOVED", 10)
    assert not result.HasField("queue")

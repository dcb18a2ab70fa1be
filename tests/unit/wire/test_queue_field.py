"""The queue that an encoded request names is found without decoding it."""

from __future__ import annotations

import time

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st

from queuelet.v1 import queue_pb2 as pb
from queuelet.wire.queue_field import QUEUE_FIELDS, queue_of

_SERVICE = pb.DESCRIPTOR.services_by_name["QueueService"]
_OTHERS = {"ListQueues", "DeclareQueues", "RemoveQueues", "WatchQueues"}
"""The methods that name no queue, or several."""


def test_each_method_names_one_queue_or_is_known_not_to() -> None:
    assert QUEUE_FIELDS.keys() | _OTHERS == set(_SERVICE.methods_by_name)
    for method, path in QUEUE_FIELDS.items():
        message: Descriptor | None = _SERVICE.methods_by_name[method].input_type
        for number in path[:-1]:
            assert message is not None
            message = message.fields_by_number[number].message_type
        assert message is not None
        assert message.fields_by_number[path[-1]].name == ("name" if method == "NewQueue" else "queue_id")


@given(st.text(max_size=300), st.binary(max_size=300), st.text(max_size=10))
def test_the_queue_of_a_request_is_found_among_its_fields(queue: str, payload: bytes, request_id: str) -> None:
    add = pb.AddRequest(queue_id=queue, message=pb.NewMessage(payload=payload), wait=True)
    pop = pb.PopBatchRequest(queue_id=queue, max=1 << 30, request_id=request_id)
    new = pb.NewQueueRequest(name=queue, limit=-1, store=pb.Queue.POSTGRES, tags=[pb.Tag(key=request_id)])
    begin = pb.ConsumeRequest(start=pb.ConsumeStart(queue_id=queue), credit=3, ack=[1, 2])
    assert queue_of(add.SerializeToString(), QUEUE_FIELDS["Add"]) == queue
    assert queue_of(pop.SerializeToString(), QUEUE_FIELDS["PopBatch"]) == queue
    assert queue_of(new.SerializeToString(), QUEUE_FIELDS["NewQueue"]) == queue
    assert queue_of(begin.SerializeToString(), QUEUE_FIELDS["Consume"]) == queue


@given(st.binary(max_size=200))
def test_a_malformed_request_names_a_queue_or_none(data: bytes) -> None:
    for path in set(QUEUE_FIELDS.values()):
        assert isinstance(queue_of(data, path), str)


@pytest.mark.parametrize("data", [b"\xff" * 4_000_000, b"\x80" * 4_000_000, b"\x08\x01" * 1_000_000])
def test_a_large_malformed_request_takes_a_moment_at_most(data: bytes) -> None:
    began = time.process_time()
    assert queue_of(data, (2,)) == ""
    assert time.process_time() - began < 0.5

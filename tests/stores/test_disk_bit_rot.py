"""A bit that flips in a stored message is found by `queuelet check`, though SQLite does not notice it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import pytest

from queuelet.stores.disk.check import check_store
from queuelet.stores.disk.folder import DATABASE
from support.counts import soaked
from support.disk_harness import DiskHarness

COUNT = 50
BODY_BYTES = 600


@pytest.fixture
def harness() -> Iterator[DiskHarness]:
    harness = DiskHarness()
    yield harness
    harness.close()


@pytest.mark.parametrize("seed", range(soaked(20, 1_000)))
def test_a_flipped_bit_of_a_message_is_found(harness: DiskHarness, seed: int) -> None:
    random = Random(seed)
    bodies = [random.randbytes(BODY_BYTES) for _ in range(COUNT)]
    messages = harness.open()
    for seq, body in enumerate(bodies, 1):
        messages.append(seq, body)
    harness.commit()
    harness.restart()
    assert not list(check_store(harness.folder))
    harness.loop.run_until_complete(harness.store.close())
    path = harness.folder / DATABASE
    data = bytearray(path.read_bytes())
    rotten = sorted(random.sample(range(COUNT), 10))
    for each in rotten:
        byte, bit = random.randrange(BODY_BYTES), 1 << random.randrange(8)
        # SQLite leaves a copy behind in a page that it splits: only one of them is the message.
        for place in [found.start() for found in re.finditer(re.escape(bodies[each]), data)]:
            data[place + byte] ^= bit
    path.write_bytes(data)
    found = list(check_store(harness.folder))
    assert [text.partition(" of queue")[0] for text in found] == [f"message {each + 1}" for each in rotten]
    assert all(text.endswith("is damaged: its checksum is wrong") for text in found)

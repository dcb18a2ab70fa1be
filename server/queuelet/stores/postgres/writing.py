"""Turns a batch into the arguments of `commit_group`."""

from __future__ import annotations

from typing import Any

from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.checksums import of_message
from queuelet.stores.durable.rows import dropped_row

COMMIT = f"SELECT commit_group({', '.join(f'${number}' for number in range(1, 22))})"


def arguments_of(batch: Batch, shard: int) -> list[list[Any]]:
    """Return the arguments after those of the fence, for a batch of a shard."""
    return [
        batch.dropped_queues,
        [dropped_row(number) for number in batch.dropped_numbers],
        [(*queue, shard) for queue in batch.queues],
        list(batch.removed),
        [place for place, _, _ in batch.messages],
        [own_id for _, own_id, _ in batch.messages],
        [of_message(place, own_id, body) for place, own_id, body in batch.messages],
        [body for _, _, body in batch.messages],
        batch.damaged,
        list(batch.deliveries_gone),
        [(*row[:6], row[6].encode(), *row[7:]) for row in batch.deliveries],
        list(batch.ranks_gone),
        batch.ranks,
        [(number, key, None, None, None) for number, key in batch.responses_gone],
        batch.responses,
        batch.tallies,
    ]

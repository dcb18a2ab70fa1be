"""Turns a batch into the arguments of `commit_group`."""

from __future__ import annotations

from typing import Any

from queuelet.stores.durable.batch import Batch
from queuelet.stores.durable.checksums import of_message
from queuelet.stores.durable.rows import dropped_row
from queuelet.stores.postgres.schema import SHARD

COMMIT = "SELECT commit_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"


def arguments_of(batch: Batch) -> list[list[Any]]:
    """Return the arguments after those of the fence."""
    return [
        batch.dropped_queues,
        [dropped_row(number) for number in batch.dropped_numbers],
        [(*queue, SHARD) for queue in batch.queues],
        list(batch.removed),
        [(place, own_id, of_message(place, own_id, body), body) for place, own_id, body in batch.messages],
        batch.damaged,
        list(batch.deliveries_gone),
        [(*row[:6], row[6].encode(), *row[7:]) for row in batch.deliveries],
        list(batch.ranks_gone),
        batch.ranks,
        [(number, key, None, None, None) for number, key in batch.responses_gone],
        batch.responses,
        batch.tallies,
    ]

"""The state of the store that several servers share, as one server would report it."""

from __future__ import annotations

from collections.abc import Iterable

from queuelet.v1 import queue_pb2 as pb


def merged_stores(stores: Iterable[pb.StoreEpoch], epoch: str = "") -> list[pb.StoreEpoch]:
    """Return the state of the store that has shards, from those that its owners report; nothing if there are none.

    All shards have the same epoch, except while a loss becomes known.

    Args:
        stores: what the owners report, and also other stores, which are left out because each server has its own.
        epoch: which epoch counts; if empty, the first one.
    """
    shared = [store for store in stores if store.store == pb.Queue.POSTGRES]
    if not shared:
        return []
    epoch = epoch or next((store.epoch for store in shared if store.epoch), "")
    worst = next((store for store in shared if store.problem), shared[0])
    durability = min((store.durability for store in shared), default=pb.DURABILITY_UNSPECIFIED)
    return [
        pb.StoreEpoch(
            store=pb.Queue.POSTGRES, epoch=epoch, problem=worst.problem, reason=worst.reason, durability=durability
        )
    ]

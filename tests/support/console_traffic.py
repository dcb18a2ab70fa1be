"""Producers and consumers that are busy with the queues of the shop, for pictures of the console."""

from __future__ import annotations

import math
import threading
from typing import Self

from queuelet.v1 import queue_pb2 as pb
from support.console_shop import payload
from support.patience import patient
from support.rpc import Rpc, tags_to_pb

STEP_SECONDS = 0.25

_BUSY = {"shop.orders": (21, 40), "mail.outbox": (52, 90), "media.thumbnails": (40, 60), "shop.refunds": (2, 50)}
"""The messages of a step, and the steps of a wave, for each busy queue."""


class Traffic:
    """Adds messages and acknowledges them in waves, in a thread, while its context is open."""

    def __init__(self, address: str) -> None:
        self._rpc = Rpc(address)
        self._end = threading.Event()
        self._moved = threading.Condition()
        self._steps = 0
        self._thread = threading.Thread(target=self._run, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._rpc.close()

    def wait(self, steps: int) -> None:
        """Wait until a number of steps are made."""
        with self._moved:
            found = self._moved.wait_for(lambda: self._steps >= steps, patient(30) + 2 * steps * STEP_SECONDS)
        assert found, f"{self._steps} steps"

    def _run(self) -> None:
        while not self._end.wait(STEP_SECONDS):
            for queue, (most, wave) in _BUSY.items():
                turn = math.sin(self._steps / wave)
                self._add(queue, round(most * (1 + 0.35 * turn)))
                self._take(queue, round(most * (1 + 0.35 * math.cos(self._steps / wave / 2))))
            with self._moved:
                self._steps += 1
                self._moved.notify_all()

    def _add(self, queue: str, count: int) -> None:
        messages = [
            pb.NewMessage(payload=payload(self._steps + n), tags=tags_to_pb([("region", f"eu-{n % 2 + 1}")]))
            for n in range(count)
        ]
        self._rpc.call("AddBatch", pb.AddBatchRequest(queue_id=queue, messages=messages), pb.AddBatchResponse)

    def _take(self, queue: str, count: int) -> None:
        taken = self._rpc.receive(queue, count, lease=60, consumer="worker-2")
        if taken:
            self._rpc.ack(queue, *(each.token for each in taken))

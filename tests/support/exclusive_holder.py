"""An exclusive consumer that prints what it knows, line by line, until it is killed.

    holds TOKEN
    got SECONDS NUMBER:TOKEN ...
    acking NUMBER ...
    acked SECONDS NUMBER ...

It acknowledges most messages soon and in any order, and holds some longer, like a consumer whose work varies in length.

    python -m support.exclusive_holder HOST:PORT QUEUE SEED
"""

from __future__ import annotations

import os
import random
import sys
import time

from support.rpc import Refused, Rpc

CREDIT = 40


def say(word: str, *words: object) -> None:
    """Write a line atomically."""
    os.write(1, f"{word} {' '.join(map(str, words))}\n".encode())


def hold(rpc: Rpc, queue: str, chance: random.Random) -> None:
    """Consume until the server is gone."""
    consumer = rpc.consume(queue, credit=CREDIT, exclusive=True, timeout=None, lease={"seconds": 600})
    consumer.until(lambda so_far: so_far.holder_token)
    say("holds", consumer.holder_token)
    numbers: dict[int, int] = {}
    unsettled: set[int] = set()
    seen = settled = 0
    while True:
        if chance.random() < 0.03:
            # Meanwhile the server writes leases of messages that the consumer has not read yet.
            time.sleep(chance.uniform(0.3, 1))
        known = seen, settled
        consumer.until(lambda so_far, known=known: (len(so_far.deliveries), len(so_far.settled)) != known)  # type: ignore[misc]  # mypy does not infer a lambda with a default
        now = time.monotonic()
        fresh, done = consumer.deliveries[seen:], consumer.settled[settled:]
        seen, settled = len(consumer.deliveries), len(consumer.settled)
        if fresh:
            numbers |= {each.token: int(each.message.payload) for each in fresh}
            unsettled.update(each.token for each in fresh)
            say("got", now, *(f"{numbers[each.token]}:{each.token}" for each in fresh))
        if done:
            say("acked", now, *(numbers[token] for token in done))
        chosen = [token for token in unsettled if chance.random() < 0.7]
        if chosen:
            unsettled.difference_update(chosen)
            say("acking", *(numbers[token] for token in chosen))
            consumer.say(ack=chosen, credit=len(chosen))
        time.sleep(0.005)


def main() -> None:
    """Hold the queue until killed. Retry if the server is not up."""
    address, queue, seed = sys.argv[1:]
    rpc = Rpc(address, options=[("grpc.max_reconnect_backoff_ms", 50), ("grpc.initial_reconnect_backoff_ms", 20)])
    chance = random.Random(int(seed))
    while True:
        try:
            hold(rpc, queue, chance)
        except (Refused, EOFError):
            time.sleep(0.02)


if __name__ == "__main__":
    main()

"""The client for programs without an event loop: each call returns when it is done.

    with Client("localhost:10002") as client:
        with Producer(client, "orders") as producer:
            producer.put(b"an order")
        with Consumer(client, "orders") as orders:
            for order in orders:
                print(order.item)

A `Client` has one thread with an event loop, in which `queuelet.client` does all the work. The classes here pass calls
from any thread to it and wait for the result. Unless documented otherwise, they behave like those of `queuelet.client`.
Leaving `with` ends the thread.

A loop over a consumer runs in your own thread. A handler runs in a pool of as many threads as the consumer's
`concurrency`. Serializers and the callbacks of `Client.listen` and `PendingPut` run in the client's thread, so they
must not block and cannot call anything of this module.

The methods of `queuelet.client.Client` that take or return generated classes or encoded requests are not here: `call`,
`call_once`, `stream`, `consume`.

`client.py` has the client, whose methods are derived from the async ones, `producer.py` the producer with its puts in
flight, and `consumer.py` the consumer. `loop_thread.py` is the thread with the event loop.
"""

from queuelet.client.blocking.client import Client
from queuelet.client.blocking.consumer import Consumer, Handler
from queuelet.client.blocking.producer import PendingPut, Producer

__all__ = ["Client", "Consumer", "Handler", "PendingPut", "Producer"]

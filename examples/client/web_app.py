"""A web application that enqueues: one client and one producer for all requests. It needs aiohttp.

The response is sent when the order is in its queue. With --port it serves until ^C or SIGTERM. Without --port it sends
some orders to itself.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from aiohttp import ClientSession, web

from queuelet.client import JSON, Client, NotSent, Producer
from queuelet.errors import QueueExists, QueueFull, Unreachable

PRODUCER = web.AppKey("PRODUCER", Producer[Any])


async def post_order(request: web.Request) -> web.Response:
    try:
        added = await request.app[PRODUCER].put(await request.json())
    except (QueueFull, NotSent, Unreachable) as error:
        raise web.HTTPServiceUnavailable(text=error.message, headers={"Retry-After": "5"}) from None
    return web.json_response({"id": added.id}, status=202)


def application(server: str, queue: str) -> web.Application:
    async def producing(app: web.Application) -> AsyncIterator[None]:
        async with Client(server) as client:
            with suppress(QueueExists):
                await client.new_queue(name=queue, limit=1_000)
            # The short timeout is for users who wait for a page. Concurrent requests share batches.
            async with Producer(client, queue, JSON, timeout=2) as app[PRODUCER]:
                yield

    app = web.Application()
    app.cleanup_ctx.append(producing)
    app.add_routes([web.post("/orders", post_order)])
    return app


async def order_from_itself(app: web.Application, count: int) -> None:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0).start()
    host, port, *_ = runner.addresses[0]
    async with ClientSession(f"http://{'localhost' if ':' in host else host}:{port}") as session:
        for number in range(count):
            async with session.post("/orders", json={"number": number}) as response:
                print(response.status, await response.json())
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="localhost:10002")
    parser.add_argument("--queue", default="web-orders")
    parser.add_argument("--count", type=int, default=3, help="how many orders it sends to itself")
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    app = application(given.server, given.queue)
    if given.port is None:
        asyncio.run(order_from_itself(app, given.count))
    else:
        web.run_app(app, port=given.port)

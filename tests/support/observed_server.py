"""Starts the server like `queuelet server`, and responds to SIGUSR1 with a log line that counts its tasks.

    python observed_server.py --listen 127.0.0.1:0 --metrics 127.0.0.1:0 --max-waiting 5

Only tests run this, because the tasks of an event loop can't be seen from outside.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
from dataclasses import fields
from pathlib import Path

import structlog
import uvloop

from queuelet.bounds import Bounds
from queuelet.logs import configure_logs
from queuelet.server import Settings, serve

BOUNDS = {
    "--max-message-bytes": "message_bytes",
    "--max-batch": "batch",
    "--max-queues": "queues",
    "--max-waiting": "waiting",
    "--max-tags": "tags",
}


def main() -> None:
    settings = _settings()
    configure_logs(debug=settings.debug)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell)
    await serve(settings)


def _tell() -> None:
    gc.collect()
    tasks = sorted(str(task.get_coro()) for task in asyncio.all_tasks())
    structlog.get_logger().info("observed", tasks=len(tasks), names=tasks)


def _settings() -> Settings:
    parser = argparse.ArgumentParser()
    for flag in BOUNDS:
        parser.add_argument(flag, type=int)
    for field in fields(Settings):
        flag = f"--{field.name.replace('_', '-')}"
        if "bool" in str(field.type):
            parser.add_argument(flag, action="store_true", default=None)
        elif field.name != "bounds":
            parser.add_argument(flag, type=_type(str(field.type)))
    parser.set_defaults(transport=os.environ.get("QUEUELET_SERVER_TRANSPORT"))
    given = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    bounds = {name: given.pop(key) for flag, name in BOUNDS.items() if (key := flag[2:].replace("-", "_")) in given}
    return Settings(**given, bounds=Bounds(**bounds))


def _type(annotation: str) -> type[str | int | float | Path]:
    kinds: dict[str, type[str | int | float | Path]] = {"Path": Path, "int": int, "float": float}
    return next((kind for name, kind in kinds.items() if name in annotation), str)


if __name__ == "__main__":
    main()

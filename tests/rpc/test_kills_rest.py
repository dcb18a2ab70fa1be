"""The server is killed while programs use it over REST: what it acknowledged is not lost, and not there again."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

from support.counts import soaked
from support.durable_server import DurableServer, durable
from support.gateway_process import GatewayProcess
from support.ports import lasting_port
from support.rest import Rest
from support.rpc import eventually
from support.server_process import ServerProcess

__all__ = ["durable"]

KILLS = soaked(5, 100)

QUEUE = "/v1/queues/orders"


class Ledger:
    """The responses that programs got."""

    def __init__(self) -> None:
        self.added: set[str] = set()
        """Payloads whose Add was acknowledged."""
        self.asked: set[str] = set()
        """Payloads of messages whose removal was requested, acknowledged or not."""
        self.removed: set[str] = set()
        """Payloads of messages whose removal was acknowledged."""


class Program(threading.Thread):
    """A program that repeats a step until it is stopped. A step that gets no response has an unknown outcome."""

    def __init__(self, step: Callable[[Rest], None], url: str) -> None:
        super().__init__(daemon=True)
        self._step = step
        self._rest = Rest(url)
        self._stopped = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """Repeat the step."""
        while not self._stopped.is_set():
            try:
                self._step(self._rest)
            except (OSError, HTTPException):
                self._stopped.wait(0.01)
            except Exception as error:  # noqa: BLE001  # the test raises it
                self.error = error
                return

    def stop(self) -> None:
        """Stop it, and raise its error if it had one."""
        self._stopped.set()
        self.join()
        if self.error:
            raise self.error


def add(ledger: Ledger, prefix: str) -> Callable[[Rest], None]:
    """Return a step that adds messages, singly on negz/q's route or as a batch."""
    number = 0

    def step(rest: Rest) -> None:
        nonlocal number
        payloads = [base64.b64encode(f"{prefix} {number + each}".encode()).decode() for each in range(3)]
        number += 3
        if number % 2:
            answer = rest.ask("POST", QUEUE, {"payload": payloads[0]})
            if answer.status == 200:
                ledger.added.add(answer.json["message"]["payload"])
        else:
            answer = rest.ask("POST", f"{QUEUE}/messages", {"messages": [{"payload": each} for each in payloads]})
            if answer.status == 200:
                assert answer.json["durability"] == "DURABILITY_DISK"
                ledger.added.update(
                    payload
                    for payload, result in zip(payloads, answer.json["results"], strict=True)
                    if "error" not in result
                )

    return step


def take(ledger: Ledger) -> Callable[[Rest], None]:
    """Return a step that receives messages and acknowledges them."""

    def step(rest: Rest) -> None:
        received = rest.ask("POST", f"{QUEUE}/messages:receive", {"max": 2, "wait": "0.2s", "lease": "1s"})
        if received.status != 200:
            return
        deliveries: list[Any] = received.json.get("deliveries", [])
        if not deliveries:
            return
        payloads = [each["message"]["payload"] for each in deliveries]
        ledger.asked.update(payloads)
        acked = rest.ask("POST", f"{QUEUE}/messages:ack", {"tokens": [each["token"] for each in deliveries]})
        if acked.status == 200:
            results = acked.json["results"]
            ledger.removed.update(each for each, result in zip(payloads, results, strict=True) if "error" not in result)

    return step


def test_what_is_acknowledged_over_rest_survives_kills(durable: DurableServer) -> None:
    """Half of the programs use the server's own gateway, and half one that runs alone and is never killed."""
    grpc, http = lasting_port(), lasting_port()
    listen = ("--listen", f"127.0.0.1:{grpc}", "--http", f"127.0.0.1:{http}", *durable.flags)
    ledger = Ledger()
    with GatewayProcess(f"127.0.0.1:{grpc}") as gateway:
        own = f"http://127.0.0.1:{http}"
        programs = [
            Program(step, url)
            for number, url in enumerate((own, gateway.url))
            for step in (add(ledger, f"{number}"), take(ledger))
        ]
        for number in range(KILLS + 1):
            with ServerProcess(*listen) as server:
                rest = Rest(server.rest_url)
                if number == 0:
                    rest.new_queue(name="orders", store=durable.store_name, delivery={"max_deliveries": 1_000})
                    for program in programs:
                        program.start()
                added = len(ledger.added)
                enough = added + random.randint(1, 60)
                eventually(lambda enough=enough: len(ledger.added) >= enough, "messages are added")  # type: ignore[misc]  # mypy infers no type for it
                if number == KILLS:
                    for program in programs:
                        program.stop()
                    left = remaining(rest)
                    assert server.stop() == 0
    assert ledger.removed
    assert ledger.added <= left | ledger.asked, "no acknowledged message is lost"
    assert not left & ledger.removed, "no message whose removal was acknowledged is there again"


def remaining(rest: Rest) -> set[str]:
    """Return the payloads of all messages in the queue."""
    found: set[str] = set()
    page: dict[str, Any] = {"next_page_token": ""}
    while "next_page_token" in page:
        page = rest.get(f"{QUEUE}/messages?page_token={page['next_page_token']}")
        found.update(each["message"]["payload"] for each in page.get("messages", []))
    return found

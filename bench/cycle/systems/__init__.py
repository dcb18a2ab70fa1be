"""The contenders by name, one module for each."""

from __future__ import annotations

from importlib import import_module

from bench.cycle.contender import Contender
from bench.system import NotHere
from bench.systems import OURS

_PLACES = {
    OURS: ("queuelet_client", "QueueletClient"),
    "redis": ("redis_stream", "RedisStream"),
    "beanstalkd": ("beanstalkd", "Beanstalkd"),
    "nats": ("jetstream", "JetStream"),
    "rabbitmq": ("rabbitmq", "RabbitMQ"),
}

RIVALS = tuple(name for name in _PLACES if name != OURS)


def contender(name: str, store: str) -> Contender:
    """Return a contender with a store; raise `NotHere` if its client is not installed."""
    module, kind = _PLACES[name]
    try:
        found: Contender = getattr(import_module(f"bench.cycle.systems.{module}"), kind)(name, store)
    except ModuleNotFoundError as error:
        raise NotHere(f"the Python package {error.name} is missing: uv sync --all-extras --group bench") from None
    return found

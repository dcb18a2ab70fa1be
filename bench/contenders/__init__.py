"""The contenders by name, one module for each server."""

from __future__ import annotations

from importlib import import_module

from bench.contender import DEFAULTS, MEMORY, Bounds, Contender
from bench.errors import NotHere
from bench.report import OURS

POSTGRES, QUORUM = "postgres", "postgres-quorum"
"""Our server with a PostgreSQL store: one database, and one with two standbys, of which one confirms each commit."""

PEERS = {"rabbitmq-three": "rabbitmq", "nats-three": "nats"}
"""Contenders of three nodes that replicate each message, and the same server alone."""

_CLASSES = {
    OURS: ("queuelet", "Queuelet"),
    POSTGRES: ("queuelet", "Postgres"),
    QUORUM: ("queuelet", "PostgresQuorum"),
    "grpc": ("queuelet", "OverGrpc"),
    "plain": ("queuelet", "Plain"),
    "redis": ("redis", "Redis"),
    "redis-variadic": ("redis", "RedisVariadic"),
    "beanstalkd": ("beanstalkd", "Beanstalkd"),
    "nats": ("nats", "Nats"),
    "rabbitmq": ("rabbitmq", "RabbitMQ"),
    "rabbitmq-three": ("rabbitmq", "RabbitMQThree"),
    "nats-three": ("nats", "NatsThree"),
}

BASELINES = tuple(name for name in _CLASSES if name not in {OURS, POSTGRES, QUORUM, *PEERS})
"""The contenders that our server is compared with by default."""

RIVALS = tuple(name for name in BASELINES if name not in {"grpc", "plain", "redis-variadic"})
"""Those of them that have a client for a producer and a consumer."""


def contender(name: str, store: str = MEMORY, address: str = "", bounds: Bounds = DEFAULTS) -> Contender:
    """Return a contender with a store; raise `NotHere` if its client is not installed."""
    module, kind = _CLASSES[name]
    try:
        found: Contender = getattr(import_module(f"bench.contenders.{module}"), kind)(name, store, address, bounds)
    except ModuleNotFoundError as error:
        raise NotHere(f"the Python package {error.name} is missing: uv sync --all-extras --group bench") from None
    return found

"""The systems to measure, one module for each protocol."""

from __future__ import annotations

from importlib import import_module

from bench.system import NotHere, System

OURS = "queuelet"
NEGZ = "negz"
"""A server of negz/q's protocol that is already running."""

_PLACES = {
    OURS: ("queuelet_grpc", "QUEUELET"),
    "plain": ("queuelet_grpc", "PLAIN"),
    NEGZ: ("queuelet_grpc", "NEGZ"),
    "redis": ("redis_list", "PIPELINED"),
    "redis-variadic": ("redis_list", "VARIADIC"),
    "beanstalkd": ("beanstalkd", "BEANSTALKD"),
    "nats": ("nats_jetstream", "JETSTREAM"),
    "rabbitmq": ("rabbitmq", "RABBITMQ"),
}

BASELINES = tuple(name for name in _PLACES if name not in {OURS, NEGZ})
"""The baselines that our server is compared with by default."""


def system(name: str) -> System:
    """Return a system by its name; raise `NotHere` if its client is not installed."""
    module, constant = _PLACES[name]
    try:
        found: System = getattr(import_module(f"bench.systems.{module}"), constant)
    except ModuleNotFoundError as error:
        raise NotHere(f"the Python package {error.name} is missing: uv sync --all-extras --group bench") from None
    return found

"""The systems that are measured, one module for each way of speaking to them."""

from __future__ import annotations

from importlib import import_module

from bench.system import NotHere, System

OURS = "queuelet"
NEGZ = "negz"
"""A server of negz/q's protocol that runs already."""

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
"""What our server is compared with unless told otherwise."""


def system(name: str) -> System:
    """Return a system by its name; raise `NotHere` where its client is not installed."""
    module, constant = _PLACES[name]
    try:
        found: System = getattr(import_module(f"bench.systems.{module}"), constant)
    except ModuleNotFoundError as error:
        raise NotHere(f"there is no Python package {error.name}: uv sync --all-extras --group bench") from None
    return found

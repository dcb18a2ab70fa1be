"""What goes wrong, told in sentences for the one who started it."""

from __future__ import annotations


class ZooKeeperError(Exception):
    """ZooKeeper could not be fetched or started, or did not do as it was told."""

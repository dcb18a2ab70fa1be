"""Errors, with messages for the person at the terminal."""

from __future__ import annotations


class ZooKeeperError(Exception):
    """ZooKeeper could not be fetched or started, or a command failed."""

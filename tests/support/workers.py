"""Keeps tests that share something expensive on one of several workers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest


def keep_on_one_worker(items: Iterable[pytest.Item], folder: Path, group: str, *, timeout: float | None = None) -> None:
    """Put the tests of a folder into a group of pytest-xdist.

    Args:
        items: all collected tests.
        folder: the folder of the tests to group.
        group: the name of the group; all tests of a group run on one worker.
        timeout: the timeout of those tests that have none of their own, in seconds.
    """
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(group))
            if timeout is not None and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(timeout))

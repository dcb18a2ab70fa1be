"""The suite of dead letters, with three servers."""

# ruff: noqa: F403  # all of its tests

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("rpc.test_dead_letters")

from rpc.test_dead_letters import *  # noqa: E402  # rewritten first

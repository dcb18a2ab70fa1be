"""The suite of leases, with three servers."""

# ruff: noqa: F403  # all of its tests

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("rpc.test_leases")

from rpc.test_leases import *  # noqa: E402  # rewritten first
from rpc.test_leases import (  # noqa: E402  # as above
    test_a_server_with_leases_and_delays_that_lie_ahead_does_nothing,
    test_an_ack_reports_what_the_removal_survives,
    test_tokens_grow_over_queues_and_over_a_restart,
)

# They start a server of their own, or are about the Memory store.
del test_a_server_with_leases_and_delays_that_lie_ahead_does_nothing
del test_tokens_grow_over_queues_and_over_a_restart
del test_an_ack_reports_what_the_removal_survives

"""The suite of negz/q's clients, with three servers."""

# ruff: noqa: F403  # all of its tests

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("rpc.test_negz_q")

from rpc.test_negz_q import *  # noqa: E402  # rewritten first

# They are about the Memory or the Disk store, look at metrics and logs of one server, or start their own.
_OTHERS = ("test_q10", "test_q11_differs_boltdb", "test_q30", "test_q31", "test_q32", "test_q33", "test_q40")
for _name in [each for each in globals() if each.startswith(_OTHERS)]:
    del globals()[_name]

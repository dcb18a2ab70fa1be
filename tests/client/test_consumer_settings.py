"""Invalid settings of a consumer are refused by the constructor, with their name and what to do."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from queuelet.client import Client, Consumer


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        pytest.param({"concurrency": 0}, "use 1 or more", id="no concurrency"),
        pytest.param({"prefetch": -1}, "use 0 or more", id="negative prefetch"),
        pytest.param({"max_messages": 0}, "use 1 or more", id="no messages"),
        pytest.param({"max_messages": -1}, "use 1 or more", id="negative number of messages"),
        pytest.param({"lease": 0.1}, "use 1 or more", id="lease shorter than a server takes"),
        pytest.param({"lease": -1}, "use 1 or more", id="negative lease"),
        pytest.param({"lease": nan}, "use 1 or more", id="lease that is no number"),
        pytest.param({"lease": inf}, "use at most 315,576,000,000 seconds", id="endless lease"),
        pytest.param({"retry_delay": -1}, "use 0 or more", id="negative retry delay"),
        pytest.param({"retry_delay": inf}, "use at most 315,576,000,000 seconds", id="endless retry delay"),
        pytest.param({"close_timeout": -1}, "use 0 or more", id="negative close timeout"),
        pytest.param({"close_timeout": nan}, "use 0 or more", id="close timeout that is no number"),
        pytest.param({"reach_for": -1}, "use 0 or more", id="negative time to reach the server"),
        pytest.param({"missing_for": -1}, "use 0 or more", id="negative time to wait for the queue"),
    ],
)
def test_a_number_out_of_range_is_refused(settings: dict[str, Any], remedy: str) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=rf"^{name}: .*{remedy}"):
        Consumer(Client(), "orders", **settings)


def test_a_text_is_no_way_to_fail() -> None:
    with pytest.raises(TypeError, match=r"^on_error: 'drop' .*use one of .*OnError\.DROP"):
        Consumer(Client(), "orders", on_error="drop")  # type: ignore[call-overload]  # the mistake


def test_what_stands_for_a_default_or_no_bound_is_taken() -> None:
    Consumer(Client(), "orders", lease=0, prefetch=None, max_messages=None, close_timeout=None, reach_for=None)
    Consumer(Client(), "orders", lease=1, prefetch=0, close_timeout=0, reach_for=0, missing_for=inf)

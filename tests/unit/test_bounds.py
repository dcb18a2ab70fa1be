"""The limits of connections are lowered to the number of files that the process may open."""

from __future__ import annotations

import pytest

from queuelet.bounds import OWN_FILES, Bounds, fitting


def test_bounds_that_fit_stay_as_they_are() -> None:
    bounds = Bounds(connections=100, http_connections=50, gateway_connections=30)
    assert fitting(bounds, OWN_FILES + 180) == bounds


@pytest.mark.parametrize("files", [*range(OWN_FILES + 8, OWN_FILES + 500, 7), 1_024, 4_096])
def test_all_ports_get_connections_and_files_are_left(files: int) -> None:
    lowered = fitting(Bounds(), files)
    assert lowered.connections + lowered.http_connections + lowered.gateway_connections <= files - OWN_FILES
    assert lowered.connections >= lowered.http_connections >= 1
    assert lowered.connections >= lowered.gateway_connections >= 1


def test_a_port_that_was_to_have_few_connections_keeps_them() -> None:
    def shares(**given: int) -> tuple[int, int, int]:
        all_of_them = {"connections": 5_000, "http_connections": 5_000, "gateway_connections": 5_000, **given}
        lowered = fitting(Bounds(**all_of_them), OWN_FILES + 200)
        return lowered.connections, lowered.http_connections, lowered.gateway_connections

    assert shares(connections=50) == (50, 125, 25)
    assert shares(http_connections=5) == (170, 5, 25)
    assert shares(gateway_connections=5) == (170, 25, 5)
    assert shares(connections=50, http_connections=5) == (50, 5, 145)


def test_too_few_files_are_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="ulimit -n"):
        fitting(Bounds(), OWN_FILES + 7)

"""The limits of connections are lowered to the number of files that the process may open."""

from __future__ import annotations

import pytest

from queuelet.bounds import OWN_FILES, Bounds, fitting


def test_bounds_that_fit_stay_as_they_are() -> None:
    bounds = Bounds(connections=100, http_connections=50)
    assert fitting(bounds, OWN_FILES + 150) == bounds


@pytest.mark.parametrize("files", [*range(OWN_FILES + 8, OWN_FILES + 500, 7), 1_024, 4_096])
def test_both_ports_get_connections_and_files_are_left(files: int) -> None:
    lowered = fitting(Bounds(), files)
    assert lowered.connections + lowered.http_connections <= files - OWN_FILES
    assert lowered.connections >= lowered.http_connections >= 1


def test_a_port_that_was_to_have_few_connections_keeps_them() -> None:
    grpc_has_few = fitting(Bounds(connections=50, http_connections=5_000), OWN_FILES + 200)
    assert (grpc_has_few.connections, grpc_has_few.http_connections) == (50, 150)
    http_has_few = fitting(Bounds(connections=5_000, http_connections=5), OWN_FILES + 200)
    assert (http_has_few.connections, http_has_few.http_connections) == (195, 5)


def test_too_few_files_are_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="ulimit -n"):
        fitting(Bounds(), OWN_FILES + 7)

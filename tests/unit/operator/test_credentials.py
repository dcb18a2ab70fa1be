"""The operator reports the expiry of the certificates that it uses for the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from queuelet.certificates import DAY
from queuelet_operator.credentials import OperatorCredentials
from queuelet_operator.metrics import Metrics
from queuelet_operator.settings import Settings

EXPIRY = "queuelet_operator_certificate_expiry_timestamp_seconds"


def write_certificate(tmp_path: Path, days: int) -> float:
    """Write a client certificate that expires in some days, and return when it does."""
    end = datetime.now(UTC) + timedelta(days=days)
    authority = trustme.CA()
    issued = authority.issue_cert("operator", not_after=end)
    authority.cert_pem.write_to_path(tmp_path / "ca")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    return int(end.timestamp())


@pytest.fixture
def credentials(tmp_path: Path) -> OperatorCredentials:
    """The files of an operator whose client certificate is valid for 100 days."""
    write_certificate(tmp_path, 100)
    settings = Settings(
        server_tls_ca=tmp_path / "ca", server_tls_cert=tmp_path / "cert", server_tls_key=tmp_path / "key"
    )
    return OperatorCredentials(settings.connection)


def expiries(credentials: OperatorCredentials) -> dict[str, float]:
    """Return the metric by role."""
    metrics = Metrics()
    metrics.watch_files(credentials.figures)
    lines = [line for line in generate_latest(metrics.registry).decode().splitlines() if line.startswith(EXPIRY)]
    return {line.partition('role="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_warning_is_logged_30_7_and_1_days_before_the_end_and_at_it(credentials: OperatorCredentials) -> None:
    now = datetime.now(UTC).timestamp()
    warned = []
    with capture_logs() as logged:
        for hour in range(24 * 102):
            credentials.check(now + hour * 3600)
            if logged:
                warned.append(round(100 - hour / 24))
                logged.clear()
    assert warned == [30, 7, 1, 0]
    assert credentials.problems(now) == []
    assert "cert: the certificate expires at" in credentials.problems(now + 80 * DAY)[0]


def test_the_metric_follows_a_renewal_and_keeps_the_last_good_content(
    credentials: OperatorCredentials, tmp_path: Path
) -> None:
    before = expiries(credentials)
    assert set(before) == {"server-ca", "certificate"}
    renewed = write_certificate(tmp_path, 200)
    assert expiries(credentials)["certificate"] == renewed
    (tmp_path / "cert").write_text("")
    assert expiries(credentials)["certificate"] == renewed
    assert "is empty" in credentials.problems(datetime.now(UTC).timestamp())[0]


def test_an_operator_without_tls_has_no_expiry_and_no_problem() -> None:
    credentials = OperatorCredentials(Settings().connection)
    credentials.check(0)
    assert (expiries(credentials), credentials.problems(0)) == ({}, [])

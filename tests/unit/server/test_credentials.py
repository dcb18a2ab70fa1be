from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from structlog.testing import capture_logs

from queuelet.certificates import DAY
from queuelet.server.credentials import Credentials
from queuelet.tls_files import TlsFiles


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    """Files with a certificate that is valid for 100 days."""
    end = datetime.now(UTC) + timedelta(days=100)
    issued = trustme.CA().issue_cert("127.0.0.1", not_after=end)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    return Credentials(TlsFiles(tmp_path / "cert", tmp_path / "key"), None)


def test_a_warning_is_logged_30_7_and_1_days_before_the_end_and_at_it(credentials: Credentials) -> None:
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
    assert "expires at" in credentials.problems(now + 80 * DAY)[0]

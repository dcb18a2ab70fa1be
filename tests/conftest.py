"""Settings of all tests: the patience factor of this machine, and hypothesis' effort."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterable

import pytest
from hypothesis import HealthCheck, settings

from support.patience import calibrate, factor, patient

# A shell starts background jobs with Ctrl-C ignored, and their children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before any other import, because timeouts in seconds are computed at import.
calibrate()

# A deadline measures the machine instead of the code. A failure prints how to reproduce it, on any machine.
settings.register_profile("dev", deadline=None, max_examples=50, print_blob=True)
settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True, database=None, print_blob=True)
settings.register_profile(
    "soak", deadline=None, max_examples=5_000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)

if os.environ.get("QUEUELET_SOAK") == "1":
    settings.load_profile("soak")
elif os.environ.get("CI"):
    settings.load_profile("ci")
else:
    settings.load_profile("dev")


def pytest_report_header() -> str:
    """Report the patience factor of this run, and the transport of its servers."""
    patience = f"patience: {factor():g} times that of a quiet machine (QUEUELET_PATIENCE sets it)"
    transport = os.environ.get("QUEUELET_TRANSPORT", "the usual one")
    return f"{patience}, transport: {transport} (QUEUELET_TRANSPORT sets it)"


class _FailuresAtOnce:
    """Names a failed test at once, because a long run reports details only at its end."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name it on a line of its own."""
        if report.failed:
            self._reporter.ensure_newline()
            self._reporter.write_line(f"{report.nodeid} failed ({report.when})", red=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Report failures at once only in the controller, because the workers of pytest-xdist have no reporter."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        session.config.pluginmanager.register(_FailuresAtOnce(reporter))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Scale the timeout of each test for this machine: that of its mark, else that of pyproject.toml.

    `--timeout`, which a soak has, raises both.
    """
    usual, least = float(config.getini("timeout")), float(config.getoption("timeout") or 0)
    for item in items:
        mark = item.get_closest_marker("timeout")
        seconds = max(float(mark.args[0]) if mark else usual, least)
        item.add_marker(pytest.mark.timeout(patient(seconds)), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape bytes that are not UTF-8 in captured logs and output, which pytest-xdist can't send to its controller."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report

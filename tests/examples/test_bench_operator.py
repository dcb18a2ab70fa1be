"""The operator's benchmark runs. Tests check the number of writes, but no speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import ROOT
from support.patience import patient

QUEUES = 30


# One control plane at a time, because two CPUs are not enough for more.
@pytest.mark.xdist_group("cluster")
@pytest.mark.timeout(300)
def test_the_operator_and_a_client_that_only_writes_are_measured(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    few = ("--quick", "--queues", str(QUEUES), "--seconds", "1", "--json", str(figures))
    printed = bench(*few, "--only", "create,pickup,restart,loss,idle")
    assert "makespan / floor" in printed

    measured = json.loads(figures.read_text())["figures"]
    writes = {each["who"]: each["values"] for each in measured if each["what"] == "writes each"}
    assert writes == {"floor": [2], "queuelet": [2]}

    counted = {(each["case"].partition(",")[0], each["what"]): each["median"] for each in measured if not each["unit"]}
    assert counted["restart", "API writes for existing Queues"] == 0
    # Two, and a third if the machine is so slow that the restart is reported as an outage.
    assert counted["server loss", "API writes a Queue (lost, ready again)"] in {2, 3}
    assert counted["idle 10 s", "writes of Queues, all clients"] == 0
    assert counted["idle 10 s", "reads of single Queues, all clients"] == 0


def bench(*arguments: str) -> str:
    """Run the benchmark; return its output."""
    command = [sys.executable, "-m", "bench", "operator", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            printed, progress = process.communicate(timeout=patient(280))
        except BaseException:
            # SIGTERM instead of SIGKILL, because only the benchmark can stop the processes it has started.
            process.terminate()
            raise
    assert process.returncode == 0, progress
    return printed

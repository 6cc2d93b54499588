"""Episodes go on while containers are killed and the engine is restarted, and nothing is left of the run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.docker
def test_a_short_soak_loses_no_verdict_and_leaves_nothing() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.soak",
        "--episodes",
        "40",
        "--kills",
        "0.3",
        "--restarts",
        "1",
    ]
    done = subprocess.run(
        [*command, "--concurrency", "3"], capture_output=True, text=True, timeout=400, check=False, cwd=ROOT
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["episodes"] == 40 and report["scored"] + report["unscored"] == 40
    assert report["scored"] >= 30, report
    assert report["wrong_verdicts"] == 0
    assert report["killed"] > 0 and report["engine_restarts"] == 1
    assert report["left_behind"] == []
    assert report["good"] and done.returncode == 0

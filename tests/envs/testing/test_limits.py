"""A run's limit is processor time: what others do on the machine does not change an outcome."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import TreeFile, pack
from envs.testing.run import LEAST_PATIENCE, MOST_PATIENCE, RunnerSetup, run_tests, template, wall_s
from sandboxes import Backend, Sandbox, SandboxSpec

TESTS = {
    "test_loop.py": "def test_loop():\n    while True: pass\n",
    "test_child.py": "import subprocess, sys\n\ndef test_child():\n"
    "    subprocess.run([sys.executable, '-c', 'while True: pass'], check=True)\n",
    "test_wait.py": "import time\n\ndef test_wait():\n    time.sleep(1.2)\n",
    "test_wait_long.py": "import time\n\ndef test_wait_long():\n    time.sleep(60)\n",
    "test_refuse.py": "import signal\n\ndef test_refuse():\n"
    "    signal.signal(signal.SIGXCPU, lambda *_: None)\n    while True: pass\n",
}


@pytest.fixture(scope="module")
def sandbox(bubblewrap_backend: Backend, calculator: TaskSet) -> Iterator[Sandbox]:
    image = calculator.runtime(calculator.tasks[0]).image
    bubblewrap_backend.ensure_image(image, timeout_s=600)
    made = bubblewrap_backend.open(SandboxSpec(image.ref, template=template(RunnerSetup())), timeout_s=60)
    made.unpack(pack({name: TreeFile(text.encode()) for name, text in TESTS.items()}), ".", timeout_s=30)
    yield made
    made.close()


@pytest.mark.bubblewrap
@pytest.mark.slow
@pytest.mark.parametrize("cold", [False, True], ids=["forked", "cold"])
@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("test_loop", "unfinished"),
        ("test_child", "not passed"),
        ("test_wait", "passed"),
        ("test_wait_long", "unfinished"),
        ("test_refuse", "unfinished"),
    ],
)
def test_a_run_ends_after_its_processor_time_or_a_longer_wall_time(
    sandbox: Sandbox, name: str, outcome: str, cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        os, "getloadavg", lambda: (99.0, 0.0, 0.0)
    )  # so that only waiting meets the wall time
    started = time.monotonic()
    report = run_tests(sandbox, RunnerSetup(), [f"{name}.py"], timeout_s=2.0, cold=cold)
    found = report.outcomes.get(f"{name}.py::{name}", "unfinished")
    assert found == outcome or (outcome == "not passed" and found != "passed")
    assert time.monotonic() - started < 2.0 * MOST_PATIENCE + 5
    if outcome == "unfinished":
        assert not report.finished and (report.timed_out or name == "test_refuse")
    if name in ("test_loop", "test_wait_long"):
        assert "cut off after" in report.log and "its limit is 2 s" in report.log


@pytest.mark.parametrize(
    ("load", "patience"), [(0, LEAST_PATIENCE), (1, 2.0), (2, 4.0), (20, MOST_PATIENCE)], ids=str
)
def test_a_loaded_machine_gets_more_wall_time(
    load: int, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (float(load * (os.cpu_count() or 1)), 0.0, 0.0))
    assert wall_s(10.0) == 10 * patience

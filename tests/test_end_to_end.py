"""The main job by the command alone: a library becomes tasks, a policy trains, a killed run goes on.

Everything is real: sandboxes, tests, vLLM, Ray. Only sizes are small.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandboxes import SandboxUnavailable, connect
from trainer.cluster import reaping

pytestmark = [pytest.mark.train, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]

CODE = """
def clamp(value, low, high):
    if value < low:
        return low
    if value > high:
        return high
    return value


def mean(numbers):
    total = 0
    for number in numbers:
        total += number
    return total / len(numbers)
"""

TESTS = """
from measure import clamp, mean


def test_clamp():
    assert [clamp(n, 2, 4) for n in range(1, 6)] == [2, 2, 3, 4, 4]


def test_mean():
    assert mean([1, 2, 6]) == 3
"""

SETTINGS = """
[policy]
dialect = "qwen3-coder"
max_turn_tokens = 48
context_tokens = 1536

[tiny]
hidden = 64
layers = 2
heads = 2
kv_heads = 2
vocab_size = 600

[engine]
kv_cache_gib = 0.2

[sandbox]
concurrency = 2

[sft]
episodes = 2
minutes = 0.1

[rl]
steps = 3
tasks_per_step = 1
samples_per_task = 2

[checkpoint]
every = 1
"""


def daythree(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "daythree", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str], *, seconds: float) -> str:
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output
    return output


def steps(run: Path) -> list[int]:
    """The training steps that the metrics tell of, a torn last line left out."""
    file = run / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    rows = [json.loads(line) for line in lines]
    return [row["step"] for row in rows if "reward_mean" in row]


def wait_for_step(run: Path, process: subprocess.Popen[str], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not steps(run) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    assert steps(run), "no training step was made in time"


def living(removed: list[str]) -> list[str]:
    """What was removed and took more than room on a disk."""
    return [name for name in removed if not name.startswith("layers ")]


def leftovers(family: dict[int, int | None]) -> list[str]:
    alive = [f"process {pid}" for pid, when in family.items() if reaping.start_of(pid) == when]
    dead = [name for name in reaping.labelled().values() if not reaping.is_alive(name)]
    folders = [
        str(path)
        for parent in reaping.folder_parents()
        for path in parent.glob("daythree-*-*-*")
        if not reaping.is_alive(path.name.removeprefix("daythree-"))
    ]
    return [*alive, *dead, *folders]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("backend", "placement"),
    [
        pytest.param("docker", "driver", marks=pytest.mark.docker),
        pytest.param("bubblewrap", "cluster", marks=pytest.mark.bubblewrap),
    ],
)
def test_a_library_becomes_tasks_and_a_killed_training_goes_on(
    tmp_path: Path, backend: str, placement: str
) -> None:
    try:
        engine = connect(backend)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    library, run = tmp_path / "measure", tmp_path / "run"
    for name, text in {
        "measure/__init__.py": CODE,
        "tests/test_measure.py": TESTS,
        "pyproject.toml": "[project]\nname = 'measure'\nversion = '1.0'\n",
    }.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(text)
    register = ["register", "inject", str(library), "--out", "set", "--limit", "4", "--sandbox", backend]
    finished(daythree(*register, cwd=tmp_path), seconds=600)
    oracle = ["eval", "--tasks", "set", "--policy", "oracle", "--out", "oracle", "--sandbox", backend]
    finished(daythree(*oracle, cwd=tmp_path), seconds=120)
    assert json.loads((tmp_path / "oracle/summary.json").read_text())["pass_rate"] == 1.0

    (tmp_path / "small.toml").write_text('[tasks]\nsets = ["set"]\ntrain = "all"\n' + SETTINGS)
    chosen = ["--out", str(run), "--set", f"sandbox.backend={backend}"]
    chosen += ["--set", f"sandbox.placement={placement}"]
    training = daythree("train", "small.toml", *chosen, cwd=tmp_path)
    wait_for_step(run, training, seconds=300)
    family = {pid: reaping.start_of(pid) for pid in reaping.descendants(training.pid)}
    training.send_signal(signal.SIGKILL)
    training.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while leftovers(family) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert leftovers(family) == []
    if backend == "docker":
        time.sleep(2.0)
        assert living(engine.reap()) == [], "containers end by themselves"

    output = finished(daythree("train", "small.toml", *chosen, "--resume", cwd=tmp_path), seconds=300)
    assert steps(run) == [1, 2, 3], output
    assert json.loads((run / "summary.json").read_text())["steps"] == 3
    assert (run / "report.html").stat().st_size > 1_000
    assert leftovers({}) == []
    assert engine.reap() == [], "what could not end by itself was removed at the next start"
    engine.close()

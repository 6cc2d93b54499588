"""Every program in `examples` does what it says, on tasks made of the library beside them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def run(*words: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{EXAMPLES}"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def basket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task set that the examples ask for, made by the command that they name."""
    folder = tmp_path_factory.mktemp("examples")
    words = ("register", "inject", str(EXAMPLES / "basket"), "--out", "tasks/basket", "--limit", "6")
    run("-m", "daythree", *words, folder=folder)
    return folder


def test_every_example_is_short_and_is_run_here() -> None:
    programs = sorted(EXAMPLES.glob("*.py"))
    tests = Path(__file__).read_text()
    assert len(programs) == 6
    for program in programs:
        assert len(program.read_text().splitlines()) < 60, program.name
        assert f'"examples/{program.name}"' in tests, program.name


@pytest.mark.docker
def test_an_own_tool(basket: Path) -> None:
    shown = run(str(ROOT / "examples/own_tool.py"), "tasks/basket", folder=basket)
    assert "tools: view, edit, test, submit, outline" in shown
    assert "discounted" in shown and "there is no file basket/nowhere.py" in shown


@pytest.mark.docker
def test_an_own_reward(basket: Path) -> None:
    shown = run(str(ROOT / "examples/own_reward.py"), "tasks/basket", folder=basket)
    reward = float(shown.split("reward ")[1])
    assert "solved False" in shown and 0 < reward < 1


@pytest.mark.docker
def test_an_own_policy_also_by_its_name(basket: Path) -> None:
    shown = run(str(ROOT / "examples/own_policy.py"), "tasks/basket", folder=basket)
    assert shown.startswith("test") and "submit" in shown and "reward 0.0" in shown
    words = ("eval", "--tasks", "tasks/basket", "--policy", "own_policy:LookAround", "--out", "runs/look")
    assert "look-around" in run("-m", "daythree", *words, folder=basket)


@pytest.mark.docker
def test_an_own_environment(basket: Path) -> None:
    shown = run(str(ROOT / "examples/own_env.py"), "tasks/basket", folder=basket)
    assert "The bug is in basket/" in shown and "ended after 8 turns with reward 0.0" in shown


@pytest.mark.docker
def test_an_own_backend(basket: Path) -> None:
    shown = run(str(ROOT / "examples/own_backend.py"), "tasks/basket", folder=basket)
    assert int(shown.split(" checks passed")[0]) >= 18 and "there_is_no_network" in shown
    words = ("eval", "--tasks", "tasks/basket", "--policy", "oracle", "--out", "runs/own", "--json")
    shown = run("-m", "daythree", *words, "--sandbox", "own_backend:ContainerCommand", folder=basket)
    assert json.loads(shown)["pass_rate"] == 1.0


@pytest.mark.train
def test_an_own_loss(tmp_path: Path) -> None:
    shown = run(str(ROOT / "examples/own_loss.py"), folder=tmp_path)
    first, *_, last = [float(line.split("rewarded token ")[1].split(",")[0]) for line in shown.splitlines()]
    assert last > first + 1

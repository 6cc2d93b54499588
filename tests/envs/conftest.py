"""A small task set made on the spot, whose every detail the tests know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import sandboxes
from envs.tasksets.taskset import Manifest, PullRequest, Runtime, TaskSet, write_taskset
from envs.tasksets.trees import Tree, TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Limits, Task
from sandboxes import Backend, ImageRecipe, SandboxUnavailable

RECIPE = ImageRecipe(
    name="calculator",
    requirements=(
        "iniconfig==2.3.1",
        "packaging==26.3",
        "pluggy==1.7.0",
        "pygments==2.21.0",
        "pytest==9.2.0",
    ),
)

CODE = '''"""A calculator."""


def add(a, b):
    return a + b


def subtract(a, b):
    return a - b
'''

TESTS = """from calculator import add, subtract


def test_add():
    assert add(2, 3) == 5


def test_add_negative():
    assert add(-2, 1) == -1


def test_subtract():
    assert subtract(2, 3) == -1
"""


def calculator_source() -> Tree:
    files = {
        "calculator/__init__.py": CODE,
        "tests/test_calculator.py": TESTS,
        "pyproject.toml": "[project]\nname = 'calculator'\nversion = '1'\n",
        "README.md": "A calculator, ünïcode included.\n",
    }
    return {name: TreeFile(text.encode()) for name, text in files.items()}


@pytest.fixture
def run_program(tmp_path: Path) -> Callable[..., tuple[bytes, str]]:
    """Run a runner's real source in a process of this machine, as a sandbox would, on files of a tree.

    What comes back is what it wrote to the report descriptor, and what it printed. The nonce is `nonce`.
    """

    def run(
        program: str, files: Mapping[str, str], *, folder: Path = tmp_path, hash_seed: int = 0, **request: Any
    ) -> tuple[bytes, str]:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        source = (Path(__file__).parents[2] / "envs/testing/programs" / program).read_text()
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        watch = (Path(__file__).parents[2] / "envs/testing/programs/watch.py").read_text()
        request = {
            "nonce": "nonce",
            "paths": [str(folder)],
            "plugins": [],
            "options": [],
            "profile": False,
            "cpu_s": 60,
            **request,
        }
        done = subprocess.run(
            [sys.executable, "-c", source, watch],
            cwd=folder,
            input=json.dumps(request).encode(),
            env={
                **os.environ,
                "DAYTHREE_REPORT_FD": str(writing),
                "PYTHONHASHSEED": str(hash_seed),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONSAFEPATH": "1",
            },
            pass_fds=[writing],
            capture_output=True,
            timeout=60,
            check=False,
        )
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            return stream.read(), (done.stdout + done.stderr).decode()

    return run


@pytest.fixture(scope="session")
def calculator(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    """One task: `add` subtracts; one of the two failing tests is hidden from the policy."""
    source = calculator_source()
    hidden = TESTS.replace("def test_add_negative():\n    assert add(-2, 1) == -1\n\n\n", "")
    bug = {"calculator/__init__.py": TreeFile(CODE.replace("a + b", "a - b").encode())}
    base = source | bug | {"tests/test_calculator.py": TreeFile(hidden.encode())}
    solved = base | {"calculator/__init__.py": source["calculator/__init__.py"]}
    task = Task(
        id="calculator-0001",
        set="calculator",
        split="train",
        environment="default",
        workdir="/workspace",
        instruction="add(2, 3) gives -1. Mend it.",
        source_digest=digest(source),
        tests_digest=digest(source),
        base_patch=diff_trees(source, base),
        reference_patch=diff_trees(base, solved),
        base_digest=digest(base),
        fail_to_pass=(
            "tests/test_calculator.py::test_add",
            "tests/test_calculator.py::test_add_negative",
        ),
        pass_to_pass=("tests/test_calculator.py::test_subtract",),
        hidden_tests=("tests/test_calculator.py::test_add_negative",),
        test_files=("tests/test_calculator.py",),
        past=1,
        cutoff="2026-06-01T00:00:00Z",
        limits=Limits(max_turns=8, command_s=5, test_s=30, episode_s=120),
    )
    prs = [
        PullRequest("7", "Add subtract", "2026-01-01T00:00:00Z", "Subtraction was missing.", "ada"),
        PullRequest("9", "Fix add", "2026-07-01T00:00:00Z", "add must use a + b", "bob"),
    ]
    manifest = Manifest(
        "calculator", "inject", "path:calculator", {"default": Runtime(RECIPE, RunnerSetup())}
    )
    folder: Path = tmp_path_factory.mktemp("sets") / "calculator"
    return write_taskset(folder, manifest, [task], [source], prs=prs)


@pytest.fixture(scope="module")
def pool(calculator: TaskSet) -> Iterator[Backend]:
    """A pool of bubblewrap sandboxes that has the calculator's image."""
    try:
        backend = sandboxes.connect("bubblewrap")
        backend.ensure_image(calculator.runtime(calculator.tasks[0]).image, timeout_s=600)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()

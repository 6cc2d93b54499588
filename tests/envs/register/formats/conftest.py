"""A small repository with one fix, and rows of every format that tell of it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from envs.tasksets.taskset import Manifest, Runtime, TaskSet, write_taskset
from envs.tasksets.trees import Tree, TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Limits, Task
from sandboxes import ImageRecipe

BEFORE = b"def scoop(n):\n    return n\n\n\ndef pour(n):\n    return -n\n"
AFTER = b"def scoop(n):\n    return n + 1\n\n\ndef pour(n):\n    return -n\n"
TESTS_BEFORE = b"from ladle import pour\n\n\ndef test_pour():\n    assert pour(1) == -1\n"
TESTS_AFTER = b"""import pytest
from ladle import pour, scoop


def test_pour():
    assert pour(1) == -1


@pytest.mark.parametrize("n", [1, 2], ids=["the one", "the two"])
def test_scoop(n):
    assert scoop(n) == n + 1
"""
PROJECT = b'[project]\nname = "ladle"\nversion = "1"\n'
SCOOPS = ("tests/test_ladle.py::test_scoop[the one]", "tests/test_ladle.py::test_scoop[the two]")
POUR = "tests/test_ladle.py::test_pour"


def files(code: bytes, tests: bytes) -> Tree:
    found = {"ladle.py": code, "tests/test_ladle.py": tests, "pyproject.toml": PROJECT}
    return {path: TreeFile(data) for path, data in found.items()}


BASE, FIXED, SOLVED = files(BEFORE, TESTS_BEFORE), files(AFTER, TESTS_BEFORE), files(AFTER, TESTS_AFTER)


@cache
def patches() -> tuple[str, str]:
    """The fix, and what brings its tests."""
    return diff_trees(BASE, FIXED), diff_trees(FIXED, SOLVED)


@dataclass(frozen=True)
class Upstream:
    """A clone under `repos`, and the commits in it."""

    repos: Path
    base: str
    fix: str


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """`acme/ladle`: the state before the fix, then the fix with its tests."""
    folder = tmp_path / "repos" / "acme__ladle"
    folder.mkdir(parents=True)

    def git(*command: str) -> str:
        identity = ["-c", "user.name=Ann", "-c", "user.email=ann@localhost"]
        done = subprocess.run(["git", "-C", folder, *identity, *command], check=True, capture_output=True)
        return done.stdout.decode().strip()

    git("init", "-q", "-b", "main")
    commits = []
    for tree in (BASE, SOLVED):
        for path, file in tree.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(file.data)
        git("add", "-A")
        git("commit", "-q", "-m", "A change")
        commits.append(git("rev-parse", "HEAD"))
    return Upstream(tmp_path / "repos", *commits)


def swebench_row(base: str = "0" * 40, **fields: Any) -> dict[str, Any]:
    return {
        "repo": "acme/ladle",
        "instance_id": "acme__ladle-1",
        "base_commit": base,
        "patch": patches()[0],
        "test_patch": patches()[1],
        "problem_statement": "A scoop is one short.",
        "hints_text": None,
        "created_at": "2024-05-01T10:00:00Z",
        "version": "1.0",
        "FAIL_TO_PASS": json.dumps(list(SCOOPS)),
        "PASS_TO_PASS": [POUR],
        "environment_setup_commit": base,
        **fields,
    }


@pytest.fixture
def ladle_set(tmp_path: Path) -> TaskSet:
    """A task set with the fix as its one task, as registering would have written it."""
    trusted = {path: file for path, file in SOLVED.items() if path != "ladle.py"}
    task = Task(
        id="acme__ladle-1",
        set="ladle",
        split="heldout",
        environment="plain",
        workdir="/workspace",
        instruction='A scoop is "one" short.\n\n\tNaïve: C:\\temp\r\nends here.',
        source_digest=digest(BASE),
        base_patch="",
        reference_patch=diff_trees(BASE, FIXED),
        base_digest=digest(BASE),
        tests_digest=digest(trusted),
        fail_to_pass=SCOOPS,
        pass_to_pass=(POUR,),
        hidden_tests=SCOOPS,
        test_files=("tests/test_ladle.py",),
        cutoff="2024-05-01T09:00:00Z",
        limits=Limits(test_s=20.5),
        traits={"repo": "acme/ladle", "base_commit": "0" * 40, "lines": 2, "share": 0.5},
    )
    environments = {"plain": Runtime(ImageRecipe("ladle", ("pytest==9.2.0",)), RunnerSetup())}
    manifest = Manifest("ladle", "git", "https://example.org/acme/ladle.git at 0000", environments)
    return write_taskset(tmp_path / "ladle", manifest, [task], [BASE, trusted])

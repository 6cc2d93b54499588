"""Sessions on this machine: the runner's real source in a folder of its own, in place of a sandbox."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from envs.grading.checks.runs import RunRequest, RunTests
from envs.tasksets.trees import Tree, write_tree
from envs.testing.run import RunReport, read_report


@pytest.fixture
def runs_here(run_program: Callable[..., tuple[bytes, str]], tmp_path: Path) -> RunTests:
    return runs_by("pytest_program.py", run_program, tmp_path)


@pytest.fixture
def runs_unittest(run_program: Callable[..., tuple[bytes, str]], tmp_path: Path) -> RunTests:
    return runs_by("unittest_program.py", run_program, tmp_path)


def runs_by(program: str, run_program: Callable[..., tuple[bytes, str]], tmp_path: Path) -> RunTests:
    numbers = itertools.count()

    def run(tree: Tree, sessions: Sequence[RunRequest]) -> list[RunReport]:
        folder = tmp_path / f"sandbox-{next(numbers)}"
        folder.mkdir()
        write_tree(tree, folder)
        reports: list[RunReport] = []
        for session in sessions:
            write_tree(session.files, folder)
            asked = {
                "targets": session.targets,
                "hash_seed": 7 if session.reseeded else 0,
                "profile": session.profile,
            }
            data, log = run_program(program, {}, folder=folder, **asked)
            reports.append(read_report(data, "nonce", log=log))
        return reports

    return run

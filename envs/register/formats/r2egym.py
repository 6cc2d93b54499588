"""Read R2E-Gym rows: a commit, the changed files before and after, and the tests as whole files.

Fields: https://github.com/R2E-Gym/R2E-Gym, `commit_models/diff_classes.py`. `commit_hash` is the fix, so the
base is its parent. `parsed_commit_content` holds every changed file before and after.
`execution_result_content` holds the tests, which the data set runs as `r2e_tests/test_1.py` and so on, and
`expected_output_json` maps names without files to outcomes: `{"Class.test": "PASSED"}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from envs.protection import is_protected
from envs.tasksets.trees import Tree, TreeFile, diff_trees, is_safe

from .entry import Checkout, Entry, RowError, Text, from_json, need, read
from .swebench import WORKDIR

TESTS = "r2e_tests"
_RUNNERS = ("unittest_custom_runner.py", "tornado_unittest_runner.py")


@dataclass(frozen=True)
class _File:
    path: str


@dataclass(frozen=True)
class _Header:
    file: _File


@dataclass(frozen=True)
class _FileDiff:
    old_file_content: Text
    new_file_content: Text
    header: _Header
    is_binary_file: bool = False
    minus_file: _File | None = None
    plus_file: _File | None = None


@dataclass(frozen=True)
class _Commit:
    file_diffs: tuple[_FileDiff, ...]


@dataclass(frozen=True)
class _Execution:
    test_file_codes: tuple[str, ...]
    test_file_names: tuple[str, ...]


@dataclass(frozen=True)
class R2egymRow:
    """The fields that define a task."""

    repo_name: str
    commit_hash: str
    problem_statement: Text
    parsed_commit_content: Annotated[_Commit, BeforeValidator(from_json)]
    execution_result_content: Annotated[_Execution, BeforeValidator(from_json)]
    expected_output_json: Annotated[Mapping[str, str], BeforeValidator(from_json)]
    docker_image: Text = ""


def read_r2egym(row: Any) -> Entry:
    """Read one row. Raises RowError, which names the field."""
    found = read(R2egymRow, row)
    need(repo_name=found.repo_name, commit_hash=found.commit_hash)
    instruction = _issue(found.problem_statement)
    need(problem_statement=instruction, expected_output_json=found.expected_output_json)
    before, after = _changed(found.parsed_commit_content)
    passing = tuple(_plain(name) for name, status in found.expected_output_json.items() if status == "PASSED")
    need(expected_output_json=passing)
    return Entry(
        id=f"{found.repo_name.replace('/', '__')}-{found.commit_hash[:12]}",
        origin=Checkout(found.repo_name, found.commit_hash, parent_of=True),
        instruction=instruction,
        reference_patch=diff_trees(before, after),
        test_patch="",
        test_tree=_tests(found.execution_result_content),
        to_pass=passing,
        image=found.docker_image,
        workdir=WORKDIR,
        traits={"repo": found.repo_name, "commit": found.commit_hash},
        row=row,
    )


def _issue(text: str) -> str:
    return text.replace("[ISSUE]", "").replace("[/ISSUE]", "").strip()


def _plain(name: str) -> str:
    """Strip a test name copied from a terminal: colour codes, and the message after ` - `."""
    return re.sub(r"\x1b\[\d*m", "", name).split(" - ")[0].strip()


def _changed(commit: _Commit) -> tuple[Tree, Tree]:
    """Return the code files that the fix changes, before and after."""
    before: Tree = {}
    after: Tree = {}
    for file_diff in commit.file_diffs:
        path = file_diff.header.file.path
        if not is_safe(path):
            raise RowError(f"parsed_commit_content: changes {path!r}, which is outside the tree")
        if is_protected(path) and not path.endswith((".cfg", ".toml", "setup.py")):
            continue
        if file_diff.is_binary_file:
            raise RowError(f"parsed_commit_content: changes {path}, which is binary")
        if file_diff.minus_file is None or file_diff.minus_file.path != "/dev/null":
            before[path] = TreeFile(file_diff.old_file_content.encode())
        if file_diff.plus_file is None or file_diff.plus_file.path != "/dev/null":
            after[path] = TreeFile(file_diff.new_file_content.encode())
    if before == after:
        raise RowError("parsed_commit_content: the commit changes no code")
    return before, after


def _tests(execution: _Execution) -> Tree:
    names, codes = execution.test_file_names, execution.test_file_codes
    if not names or len(names) != len(codes):
        raise RowError("execution_result_content: does not hold one name for every test file")
    for name in names:
        if name in _RUNNERS:
            raise RowError(f"execution_result_content: its tests need a runner of their own, {name}")
    tree = {f"{TESTS}/{name}": TreeFile(code.encode()) for name, code in zip(names, codes, strict=True)}
    for path in tree:
        if not is_safe(path) or not is_protected(path):
            raise RowError(f"execution_result_content: {path!r} is not the name of a test file")
    return tree

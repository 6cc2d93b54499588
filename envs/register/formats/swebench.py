"""Read and write SWE-bench rows; read the similar rows of SWE-Gym, SWE-rebench and SWE-rebench-V2.

Fields: https://github.com/SWE-bench/SWE-bench, `swebench/types.py`. `patch` is the fix, `test_patch` adds
the hidden tests, and the two lists of test ids are lists or JSON texts of lists. The Docker image is in
`image` (SWE-bench 5), `docker_image` (SWE-rebench) or `image_name` (SWE-rebench-V2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envs.protection import is_protected
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import PatchError, diff_trees, patched_paths
from envs.types import Task

from .entry import Checkout, Entry, RowError, Text, Texts, from_json, need, read

IMAGES = ("image", "image_name", "docker_image")
WORKDIR = "/testbed"
"""The repository's folder in SWE-bench images and compatible images."""
EVAL_TYPES = ("", "pass_and_fail")


@dataclass(frozen=True)
class SwebenchRow:
    """The fields that define a task."""

    instance_id: str
    repo: str
    base_commit: str
    patch: str
    test_patch: str
    problem_statement: Text
    FAIL_TO_PASS: Texts
    PASS_TO_PASS: Texts
    image: Text = ""
    image_name: Text = ""
    docker_image: Text = ""
    eval_type: Text = ""
    language: Text = ""


def read_swebench(row: Any) -> Entry:
    """Read one row. Raises RowError, which names the field."""
    found = read(SwebenchRow, row)
    need(instance_id=found.instance_id, repo=found.repo, base_commit=found.base_commit)
    need(patch=found.patch, test_patch=found.test_patch, FAIL_TO_PASS=found.FAIL_TO_PASS)
    need(problem_statement=found.problem_statement)
    _refuse(found, row)
    return Entry(
        id=found.instance_id,
        origin=Checkout(found.repo, found.base_commit),
        instruction=found.problem_statement,
        reference_patch=with_newline(found.patch),
        test_patch=with_newline(found.test_patch),
        fail_to_pass=found.FAIL_TO_PASS,
        pass_to_pass=found.PASS_TO_PASS,
        image=found.image or found.image_name or found.docker_image,
        workdir=WORKDIR,
        traits={"repo": found.repo},
        row=row,
    )


def _refuse(found: SwebenchRow, row: Mapping[str, Any]) -> None:
    """Raise RowError for fields that change grading and that this project does not support."""
    if found.eval_type not in EVAL_TYPES:
        raise RowError(
            f"eval_type: {found.eval_type!r} counts tests without a result as passed, which proves nothing"
        )
    if found.language.lower() not in ("", "python"):
        raise RowError(f"language: {found.language!r} needs a recipe of its own; only Python rows are read")
    if any(from_json(row.get("image_assets")).values() if row.get("image_assets") else ()):
        raise RowError("image_assets: the row needs pictures, which tasks cannot hold")
    named = {name: row[name] for name in IMAGES if row.get(name)}
    if len(set(named.values())) > 1:
        raise RowError(f"{' and '.join(named)}: name different images")
    command = _test_command(row)
    if command and "pytest" not in command:
        raise RowError(f"install_config.test_cmd: {command[:80]!r} is not pytest")


def _test_command(row: Mapping[str, Any]) -> str:
    """Return the test command of a SWE-rebench row, which has one command or a list."""
    try:
        config = from_json(row.get("install_config"))
    except ValueError as error:
        raise RowError(f"install_config: is neither an object nor the JSON text of one ({error})") from error
    command = config.get("test_cmd") if isinstance(config, Mapping) else None
    return " && ".join(map(str, command)) if isinstance(command, list) else str(command or "")


def with_newline(patch: str) -> str:
    """Add the final newline that some data sets strip and that git requires."""
    return patch if not patch or patch.endswith("\n") else patch + "\n"


FIELDS = (
    "repo", "instance_id", "base_commit", "patch", "test_patch", "problem_statement", "hints_text",
    "created_at", "version", "FAIL_TO_PASS", "PASS_TO_PASS", "environment_setup_commit",
)  # fmt: skip
"""The fields of every SWE-bench row, in order."""


def write_swebench_row(taskset: TaskSet, task: Task, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task as a row; `kept` is the task's original row, if any, whose other fields stay.

    Raises RowError when the format cannot represent the task.
    """
    commit = task.traits.get("base_commit")
    repo = task.traits.get("repo") or repository_of(taskset.manifest.source)
    if not repo or not commit or task.base_patch:
        raise RowError("base_commit: the task starts from a tree that is no commit; write it as harbor")
    written = {
        "repo": repo,
        "instance_id": task.id,
        "base_commit": commit,
        "patch": task.reference_patch,
        "test_patch": patch_of_tests(taskset, task),
        "problem_statement": task.instruction,
        "FAIL_TO_PASS": list(task.fail_to_pass),
        "PASS_TO_PASS": list(task.pass_to_pass),
    }
    image = taskset.runtime(task).image
    named = {} if image.bootstrapped or any(kept.get(name) for name in IMAGES) else {"image": image.base}
    first = {name: written.get(name, kept.get(name, _default(name, task))) for name in FIELDS}
    return {**first, **{name: value for name, value in kept.items() if name not in first}, **named}


def repository_of(source: str) -> str:
    """Return `owner/name` of a URL, or the last part of a path; the text after ` at ` is a commit."""
    place = source.partition(" at ")[0].rstrip("/").removesuffix(".git")
    parts = re.split(r"[/:]", place)
    return "/".join(parts[-2:]) if "://" in place or "@" in place else parts[-1]


def _default(name: str, task: Task) -> str:
    return task.cutoff if name == "created_at" else ""


def patch_of_tests(taskset: TaskSet, task: Task) -> str:
    """Return the diff from the base tree's tests to the trusted tests. Raises RowError."""
    allowed = patched_paths(task.reference_patch) if task.reference_patch else frozenset()
    base, trusted = taskset.base_tree(task), taskset.trusted_files(task)
    before = {
        path: file
        for path, file in base.items()
        if (is_protected(path) or path in trusted) and path not in allowed
    }
    after = {path: file for path, file in trusted.items() if path not in allowed}
    try:
        patch = diff_trees(before, after)
    except PatchError as error:
        raise RowError(f"test_patch: {error}") from error
    if not patch:
        raise RowError(
            "test_patch: would be empty, as the policy's tree holds every test; write it as harbor"
        )
    return patch

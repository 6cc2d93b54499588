"""SWE-bench rows, written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from envs.protection import is_protected
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import PatchError, diff_trees, patched_paths
from envs.types import Task

from .entry import RowError
from .swebench import IMAGES

FIELDS = (
    "repo", "instance_id", "base_commit", "patch", "test_patch", "problem_statement", "hints_text",
    "created_at", "version", "FAIL_TO_PASS", "PASS_TO_PASS", "environment_setup_commit",
)  # fmt: skip
"""What every SWE-bench row has, in its order."""


def write_swebench_row(taskset: TaskSet, task: Task, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task as a row; `kept` is the row it was made from, if any, whose other fields stay.

    Raises RowError when a row cannot say what the task is.
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
    """`owner/name` of an address, the last part of a path; what stands behind ` at ` is a commit."""
    place = source.partition(" at ")[0].rstrip("/").removesuffix(".git")
    parts = re.split(r"[/:]", place)
    return "/".join(parts[-2:]) if "://" in place or "@" in place else parts[-1]


def _default(name: str, task: Task) -> str:
    return task.cutoff if name == "created_at" else ""


def patch_of_tests(taskset: TaskSet, task: Task) -> str:
    """Return the diff that lays the trusted tests over the base tree. Raises RowError."""
    allowed = patched_paths(task.reference_patch) if task.reference_patch else frozenset()
    base, trusted = taskset.base_tree(task), taskset.trusted_files(task)
    before = {path: file for path, file in base.items() if is_protected(path) and path not in allowed}
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

"""Unlisted tests: trusted tests outside a task's lists, which a submission may break without losing reward.

They are the other tests of the files that run anyway, and a sample of the other test files. The verdict
reports those that pass with the reference and not with the submission. They do not decide it, since a task
promises its listed tests only.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from envs.protection import is_protected, is_test_module
from envs.tasksets.trees import Tree
from envs.testing.run import RunReport

from .runs import RunRequest, RunTests, passed

MOST_FILES = 3


def unlisted_request(tree: Tree, files: Collection[str], seed: str) -> RunRequest | None:
    """Choose trusted test files that the task does not run; None without such files."""
    found = sorted(path for path in tree if is_test_module(path) and is_protected(path) and path not in files)
    if not found:
        return None
    chosen = found if len(found) <= MOST_FILES else random.Random(seed).sample(found, MOST_FILES)
    return RunRequest(tuple(chosen))


def run_unlisted(
    request: RunRequest | None, candidate: Tree, reference: Tree, run: RunTests
) -> tuple[list[str], int]:
    """Run the request on both trees; return as `only_the_reference`."""
    if request is None:
        return [], 0
    return only_the_reference(run(candidate, [request])[0], run(reference, [request])[0], ())


def only_the_reference(report: RunReport, known: RunReport, listed: Collection[str]) -> tuple[list[str], int]:
    """Return the unlisted ids that only the reference passes, and how many it passes."""
    passes = [test for test in known.ids("passed") if test not in listed]
    return [test for test in passes if not passed(report, test)], len(passes)

"""Tests that a task does not list: what was written for the listed ones may break others.

They are of the trusted tree: the unlisted tests of the files that are run anyway, and a few of the files that
are not. What the reference passes and a submission does not is told in its verdict and decides nothing, since
a task promises its listed tests only.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from envs.protection import is_protected, is_test_module
from envs.tasksets.trees import Tree
from envs.testing.run import RunReport

from .sessions import Runs, Session, passed

MOST_FILES = 3


def held_out_session(tree: Tree, files: Collection[str], seed: str) -> Session | None:
    """Choose trusted test files that a task does not run."""
    found = sorted(path for path in tree if is_test_module(path) and is_protected(path) and path not in files)
    if not found:
        return None
    chosen = found if len(found) <= MOST_FILES else random.Random(seed).sample(found, MOST_FILES)
    return Session(tuple(chosen))


def held_out(session: Session | None, candidate: Tree, reference: Tree, run: Runs) -> tuple[list[str], int]:
    """Run them on both: the ids that only the reference passes, and how many it passes."""
    if session is None:
        return [], 0
    return only_the_reference(run(candidate, [session])[0], run(reference, [session])[0], ())


def only_the_reference(report: RunReport, known: RunReport, listed: Collection[str]) -> tuple[list[str], int]:
    """The unlisted ids that the reference passes and this run does not, and how many it passes."""
    passes = [test for test in known.ids("passed") if test not in listed]
    return [test for test in passes if not passed(report, test)], len(passes)

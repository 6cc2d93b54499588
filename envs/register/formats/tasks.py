"""Make tasks from validated rows, and assign a share of the tasks to the held-out split."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from envs.tasksets.trees import Tree, digest
from envs.types import Task

from ..heldout import held_out
from ..history.fixes import fitting_limits
from ..proof.proofs import Proof
from .entry import Checkout
from .listing import Listed
from .resolving import ResolvedEntry
from .row_runtimes import RowRuntime


def make_task(
    set_name: str, resolved: ResolvedEntry, runtime: RowRuntime, proof: Proof, listed: Listed
) -> Task:
    """Make one task. `split` assigns the split later, when all tasks are known."""
    entry = resolved.entry
    if entry.task is not None:
        return _kept(entry.task, set_name, resolved, runtime, listed)
    visible = [test for test in listed.fail_to_pass if _is_visible(test, resolved.base)]
    return Task(
        id=entry.id,
        set=set_name,
        split="train",
        environment=runtime.environment,
        workdir=runtime.workdir,
        instruction=entry.instruction,
        source_digest=digest(resolved.base),
        base_patch="",
        reference_patch=resolved.reference_patch,
        base_digest=digest(resolved.base),
        tests_digest=digest(resolved.trusted),
        fail_to_pass=listed.fail_to_pass,
        pass_to_pass=listed.pass_to_pass,
        hidden_tests=tuple(test for test in listed.fail_to_pass if test not in visible),
        test_files=proof.test_files,
        cutoff=resolved.when,
        limits=fitting_limits(resolved.reference_patch, proof.test_s),
        traits={**_origin(resolved), **entry.traits, "failing": len(listed.fail_to_pass)},
    )


def trees_of(resolved: ResolvedEntry) -> tuple[Tree, ...]:
    """Return the trees that a task references: base, trusted files, and those of a complete task."""
    if resolved.entry.task is None or digest(resolved.trusted) == resolved.entry.task.tests_digest:
        return resolved.base, resolved.trusted
    return resolved.base, resolved.trusted, resolved.solved


def _origin(resolved: ResolvedEntry) -> dict[str, str]:
    """Return the commit of the base tree as a trait, or nothing when the base is no commit."""
    origin = resolved.entry.origin
    is_commit = isinstance(origin, Checkout) and not origin.patch and not resolved.entry.hides
    return {"base_commit": resolved.commit} if is_commit else {}


def _kept(task: Task, set_name: str, resolved: ResolvedEntry, runtime: RowRuntime, listed: Listed) -> Task:
    """Return a row's complete task, adapted to the new set, which has no past pull requests."""
    stored = {digest(tree) for tree in trees_of(resolved)}
    if task.source_digest not in stored:
        task = replace(task, source_digest=task.base_digest, base_patch="")
    if task.tests_digest not in stored:
        task = replace(task, tests_digest=digest(resolved.trusted))
    return replace(
        task,
        set=set_name,
        environment=runtime.environment,
        fail_to_pass=listed.fail_to_pass,
        pass_to_pass=listed.pass_to_pass,
        past=0,
        withheld=(),
    )


def split(tasks: Sequence[Task], fresh: Collection[str], share: float) -> list[Task]:
    """Hold out a share of the `fresh` tasks, whose rows have no split; deterministic per task id."""
    away = held_out([task.id for task in tasks if task.id in fresh], share)
    return [replace(task, split="heldout") if task.id in away else task for task in tasks]


def _is_visible(test: str, base: Tree) -> bool:
    """Whether the base tree, which the policy can read, has this test."""
    path, _, inner = test.partition("::")
    name = inner.partition("[")[0].rpartition("::")[2]
    file = base.get(path)
    return file is not None and re.search(rb"\bdef %s\b" % re.escape(name.encode()), file.data) is not None

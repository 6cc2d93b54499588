"""From a proven row to a task."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from envs.tasksets.trees import Tree, digest
from envs.types import Task

from ..history.fixes import fitting_limits
from ..inject.tasks import HELDOUT, heldout_functions
from ..proof.validate import Proof
from .drafting import Drawn
from .entry import Checkout
from .listing import Listed
from .places import Place


def make_task(set_name: str, drawn: Drawn, place: Place, proof: Proof, listed: Listed) -> Task:
    """Write one task; which split it belongs to is decided once all are known."""
    entry = drawn.entry
    if entry.task is not None:
        return _kept(entry.task, set_name, drawn, place, listed)
    visible = [test for test in listed.fail_to_pass if _is_visible(test, drawn.base)]
    return Task(
        id=entry.id,
        set=set_name,
        split="train",
        environment=place.environment,
        workdir=place.workdir,
        instruction=entry.instruction,
        source_digest=digest(drawn.base),
        base_patch="",
        reference_patch=drawn.reference_patch,
        base_digest=digest(drawn.base),
        tests_digest=digest(drawn.trusted),
        fail_to_pass=listed.fail_to_pass,
        pass_to_pass=listed.pass_to_pass,
        hidden_tests=tuple(test for test in listed.fail_to_pass if test not in visible),
        test_files=proof.test_files,
        cutoff=drawn.when,
        limits=fitting_limits(drawn.reference_patch, proof.test_s),
        traits={**_origin(drawn), **entry.traits, "failing": len(listed.fail_to_pass)},
    )


def trees_of(drawn: Drawn) -> tuple[Tree, ...]:
    """The trees that a task needs: base and trusted files, and for one that came whole, what it may name."""
    if drawn.entry.task is None or digest(drawn.trusted) == drawn.entry.task.tests_digest:
        return drawn.base, drawn.trusted
    return drawn.base, drawn.trusted, drawn.solved


def _origin(drawn: Drawn) -> dict[str, str]:
    """The commit that the base tree is, where it is one."""
    origin = drawn.entry.origin
    is_commit = isinstance(origin, Checkout) and not origin.patch and not drawn.entry.hides
    return {"base_commit": drawn.commit} if is_commit else {}


def _kept(task: Task, set_name: str, drawn: Drawn, place: Place, listed: Listed) -> Task:
    """A task that a row held whole, in its new set; past changes are the set's, and no row brings them."""
    stored = {digest(tree) for tree in trees_of(drawn)}
    if task.source_digest not in stored:
        task = replace(task, source_digest=task.base_digest, base_patch="")
    if task.tests_digest not in stored:
        task = replace(task, tests_digest=digest(drawn.trusted))
    return replace(
        task,
        set=set_name,
        environment=place.environment,
        fail_to_pass=listed.fail_to_pass,
        pass_to_pass=listed.pass_to_pass,
        past=0,
        withheld=(),
    )


def split(tasks: Sequence[Task], fresh: Collection[str], share: float = HELDOUT) -> list[Task]:
    """Hold out a share of the `fresh` ones, which came without a split; the same for the same ids."""
    away = heldout_functions([task.id for task in tasks if task.id in fresh], share)
    return [replace(task, split="heldout") if task.id in away else task for task in tasks]


def _is_visible(test: str, base: Tree) -> bool:
    """Whether the policy's tree holds a test of this name in this file."""
    path, _, inner = test.partition("::")
    name = inner.partition("[")[0].rpartition("::")[2]
    file = base.get(path)
    return file is not None and re.search(rb"\bdef %s\b" % re.escape(name.encode()), file.data) is not None

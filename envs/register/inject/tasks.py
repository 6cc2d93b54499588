"""From bugs that tests notice to tasks: base tree, patches, instruction, split.

A task's base tree is the library with the bug and without half of the failing tests. Its
reference patch undoes the bug and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from envs.tasksets.trees import PatchError, Tree, apply_patch, diff_trees, digest
from envs.types import Limits, Task
from sandboxes.base import SandboxSpec

from ..heldout import HELDOUT, held_out
from ..history.past import NO_PAST, Past
from ..project.project import Project, canonical
from ..runtime.discover import Suite
from .hiding import hidden_with
from .instructions import write_instruction
from .probe import Probe
from .traits import task_traits

ENVIRONMENT = "default"
"""Name of the one environment of a set that was made from one tree."""


def make_tasks(
    project: Project,
    kept: Sequence[Probe],
    spec: SandboxSpec,
    suite: Suite,
    *,
    past: Past = NO_PAST,
    heldout: float = HELDOUT,
) -> list[Task]:
    """Make one task for every kept bug, in the order of `kept`.

    `heldout` is the share of tasks in the split `heldout`.
    """
    name = canonical(project.source.name)
    groups = bound_together([probe.bug.places for probe in kept])
    away = held_out(groups, heldout)
    return [
        _task(
            project,
            probe,
            spec,
            suite,
            past,
            task_id=f"{name}-{number:04d}",
            split="heldout" if group in away else "train",
        )
        for number, (probe, group) in enumerate(zip(kept, groups, strict=True), start=1)
    ]


def bound_together(bugs: Sequence[Sequence[str]]) -> list[str]:
    """Return the group of every bug; a split must not divide a group.

    `bugs` has the functions (`path::function`) of every bug. Two functions are in the same group if a bug is
    in both, or if one function encloses the other. A group has the name of its first function.
    """
    places = sorted({place for bug in bugs for place in bug})
    leader = {place: place for place in places}

    def lead(place: str) -> str:
        while leader[place] != place:
            place = leader[place]
        return place

    inside = [(a, b) for a in places for b in places if b.startswith(f"{a}.")]
    for left, right in [*inside, *((bug[0], place) for bug in bugs for place in bug[1:])]:
        first, second = sorted((lead(left), lead(right)))
        leader[second] = first
    return [lead(bug[0]) for bug in bugs]


def _task(
    project: Project, probe: Probe, spec: SandboxSpec, suite: Suite, past: Past, *, task_id: str, split: str
) -> Task:
    bug = probe.bug
    broken = bug.files(project.tree)
    hidden = hidden_with(project.tree, bug, probe.failing)
    base = hidden.tree
    solved = {**base, **{path: project.tree[path] for path in broken}}
    base_patch, reference_patch = diff_trees(project.tree, base), diff_trees(base, solved)
    _prove(project.tree, base, solved, base_patch, reference_patch)
    visible = [test for test in probe.failing if test not in hidden.tests]
    return Task(
        id=task_id,
        set=task_id.rpartition("-")[0],
        split=split,
        environment=ENVIRONMENT,
        workdir=spec.workdir,
        instruction=write_instruction(visible, probe.failures, hidden),
        source_digest=digest(project.tree),
        base_patch=base_patch,
        reference_patch=reference_patch,
        base_digest=digest(base),
        tests_digest=digest(project.tree),
        fail_to_pass=probe.failing,
        pass_to_pass=probe.passing,
        hidden_tests=hidden.tests,
        test_files=probe.test_files,
        past=len(past.prs),
        withheld=past.withheld(base, reference_patch, bug.keys),
        limits=Limits(test_s=max(20.0, round(10 * probe.duration_s, 1))),
        traits=task_traits(probe, suite, reference_patch),
    )


def _prove(source: Tree, base: Tree, solved: Tree, base_patch: str, reference_patch: str) -> None:
    """Check that the stored patches lead from the source to the tested trees. Raises PatchError."""
    found = apply_patch(source, base_patch)
    if found != base or apply_patch(found, reference_patch) != solved:
        raise PatchError("a stored patch does not lead to the tree that was tested; please report this")

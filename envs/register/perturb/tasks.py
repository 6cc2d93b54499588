"""Write a perturbed task as its own task set: trees, tests, patch, instruction and past pull requests."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from envs.tasksets.lineage import RECORD, FileLineage
from envs.tasksets.taskset import PullRequest, TaskSet, write_taskset
from envs.tasksets.trees import Tree, diff_trees, digest
from envs.types import Task

from .plan import Perturbation, Strength

ORIGIN = "perturbed_from"


@dataclass(frozen=True)
class Perturbed:
    """A perturbed task with its trees."""

    task: Task
    base: Tree
    solved: Tree
    tests: Tree
    strength: Strength


def perturbed_task(taskset: TaskSet, task: Task, change: Perturbation) -> Perturbed:
    """Rewrite a task. Raises PatchError when the rewritten solution cannot be written as a diff."""
    before = taskset.base_tree(task)
    base, solved, tests = (
        change.tree(tree) for tree in (before, taskset.solved_tree(task), taskset.trusted_files(task))
    )
    strength = change.strength(before)
    counts = {"identifiers_renamed": strength.identifiers, "files_moved": strength.files_moved}
    again = replace(
        task,
        id=f"{task.id}-p{change.seed}",
        set=f"{task.set}-p{change.seed}",
        instruction=change.text(task.instruction),
        source_digest=digest(base),
        base_patch="",
        reference_patch=diff_trees(base, solved),
        base_digest=digest(base),
        tests_digest=digest(tests),
        judges=tuple(change.moves.get(path, path) for path in task.judges),
        traits={**task.traits, ORIGIN: task.id, **counts, "lines_changed": strength.lines_changed},
    )
    return Perturbed(again, base, solved, tests, strength)


def write_perturbed(
    folder: Path, taskset: TaskSet, task: Task, done: Perturbed, change: Perturbation
) -> TaskSet:
    """Write a task set of one perturbed task. Raises TaskSetError."""
    manifest = replace(taskset.manifest, name=done.task.set, seed=change.seed)
    return write_taskset(
        folder,
        manifest,
        [done.task],
        [done.base, done.tests],
        prs=[_past(row, change, shown=number < task.past) for number, row in enumerate(taskset.prs)],
        records={RECORD: _lineage(taskset, task, change)},
        evidence={"perturbation": {"of": taskset.digest, "seed": change.seed, **asdict(done.strength)}},
    )


def _past(row: PullRequest, change: Perturbation, *, shown: bool) -> PullRequest:
    """Rewrite a past pull request; a pull request after the task keeps only its key and date."""
    if not shown:
        return PullRequest(row.key, "", row.merged_at)
    discussion = tuple(replace(comment, text=change.text(comment.text)) for comment in row.discussion)
    return replace(
        row,
        title=change.text(row.title),
        body=change.text(row.body),
        files=tuple(change.moves.get(path, path) for path in row.files),
        discussion=discussion,
        diff=change.text(row.diff),
    )


def _lineage(taskset: TaskSet, task: Task, change: Perturbation) -> list[FileLineage]:
    """Return the line provenance of the rewritten base tree: line numbers do not change in a rewrite."""
    before = taskset.base_tree(task)
    after = change.tree(before)
    rows = TypeAdapter(list[FileLineage]).validate_python(taskset.records(RECORD))
    found = list[FileLineage]()
    for row in rows:
        if row.path in before and before[row.path].sha256 == row.sha256 and row.since < task.past:
            path = change.moves.get(row.path, row.path)
            found.append(replace(row, path=path, sha256=after[path].sha256))
    return found

"""From the issues of a practice repository to tasks: trees, patches, instruction, expected tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sandboxes import ImageRecipe
from sandboxes.base import SandboxSpec

from ...tasksets.taskset import Runtime
from ...tasksets.trees import Tree, diff_trees, digest
from ...testing.run import RunnerSetup
from ...types import Limits, Task
from .memory import run_in_memory
from .repository import Issue, Repository, path_of_tests

ENVIRONMENT = "default"
MAX_TURNS = 20
TEST_S = 20.0
IMAGE = ImageRecipe(
    name="practice",
    requirements=(
        "iniconfig==2.3.1",
        "packaging==26.3",
        "pluggy==1.7.0",
        "pygments==2.21.0",
        "pytest==9.2.0",
    ),
)
"""pytest and its dependencies. Pinned here, so that the same seed gives the same image on every day."""
RUNTIME = Runtime(IMAGE, RunnerSetup())


@dataclass(frozen=True)
class PracticeTask:
    """A task and the trees that it names by digest."""

    task: Task
    base: Tree
    full: Tree
    """The right code with every test: the tests in it decide the verdict."""


def make_tasks(
    repository: Repository, name: str, split: str, *, first_pr: int = 0, patches: bool = True
) -> list[PracticeTask]:
    """Make a task of each issue; `first_pr` is the place of the repository's first row in `prs.jsonl`.

    The expected tests are those of an evaluation in memory; registration compares them with real runs.
    Without `patches`, which take most of the time, a task can be played in memory only.
    """
    return [
        _task(repository, issue, f"{name}-{number}", split, first_pr=first_pr, patches=patches)
        for number, issue in enumerate(repository.issues, start=1)
    ]


def _task(
    repository: Repository, issue: Issue, name: str, split: str, *, first_pr: int, patches: bool
) -> PracticeTask:
    base, solved = repository.tree(issue), repository.tree()
    full = repository.tree(with_hidden=True)
    files = (path_of_tests(issue.module), path_of_tests(issue.module, hidden=True))
    tests = {path: full[path] for path in files}
    before, after = run_in_memory(base | tests, files), run_in_memory(full, files)
    failing = tuple(test for test in after.ids("passed") if before.outcomes[test] == "failed")
    hidden = tuple(test for test in failing if test.startswith(f"{files[1]}::"))
    seen = run_in_memory(base, files[:1])
    task = Task(
        id=name,
        set="practice",
        split=split,
        environment=ENVIRONMENT,
        workdir=SandboxSpec.workdir,
        instruction=_instruction(issue, name, seen.ids("failed"), [f.error for f in seen.failures.values()]),
        source_digest=digest(full),
        base_patch=diff_trees(full, base) if patches else "",
        reference_patch=diff_trees(base, solved) if patches else "",
        base_digest=digest(base),
        tests_digest=digest(full),
        fail_to_pass=failing,
        pass_to_pass=tuple(test for test in after.ids("passed") if test not in failing),
        hidden_tests=hidden,
        test_files=files,
        first_pr=first_pr,
        past=first_pr + len(repository.prs),
        limits=Limits(max_turns=MAX_TURNS, test_s=TEST_S),
        traits=_traits(issue),
    )
    return PracticeTask(task, base, full)


def _instruction(issue: Issue, name: str, failing: Sequence[str], errors: Sequence[str]) -> str:
    """Report the symptom: wrong results of a name or, half of the time if there is one, a failing test."""
    if failing and issue.family != "alias" and random.Random(f"instruction {name}").random() < 0.5:
        shown = "\n".join(f"{test}\n  {error}" for test, error in zip(failing, errors, strict=True))
        count = "A test fails" if len(failing) == 1 else f"{len(failing)} tests fail"
        return f"{count} that passed before. Find the cause and fix it.\n\n{shown}"
    names = " and ".join(issue.called)
    return (
        f"{names} {'gives' if len(issue.called) == 1 else 'give'} wrong results. Find the cause and fix it."
    )


def _traits(issue: Issue) -> dict[str, str | int | float]:
    new = any(bug.right.shape.heldout for bug in issue.bugs)
    return {
        "family": issue.family,
        "kind": ", ".join(sorted({bug.kind for bug in issue.bugs})),
        "structure": "new" if new else "known",
        "stated": int(any(bug.statement for bug in issue.bugs)),
    }

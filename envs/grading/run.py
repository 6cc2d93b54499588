"""Test runs in clean sandboxes, which never held a process of the policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256

from sandboxes.backend import Backend
from sandboxes.base import Content, SandboxError, SandboxSpec

from ..tasksets.taskset import TaskSet
from ..tasksets.trees import Tree, digest, pack
from ..testing.run import RunnerSetup, RunReport, run_tests, template
from ..types import Task
from .checks.runs import RunRequest
from .rules import reference_paths
from .submission import lay_trusted

SETUP_S = 60.0
"""Deadline for starting a sandbox and unpacking a tree into it."""
LIFETIME_STEP_S = 3600.0
"""Lifetimes are rounded up to multiples of this, so that tasks with different test times share idle
sandboxes."""


def sandbox_spec(taskset: TaskSet, task: Task) -> SandboxSpec:
    """Return the spec of a task's sandbox; grading derives its specs from it."""
    seconds = task.limits.episode_s + task.limits.test_s + 2 * SETUP_S
    whole_s = math.ceil(seconds / LIFETIME_STEP_S) * LIFETIME_STEP_S
    environment = taskset.runtime(task)
    return SandboxSpec(
        image=environment.image.ref,
        workdir=task.workdir,
        lifetime_s=whole_s,
        template=template(environment.tests),
    )


def grading_specs(taskset: TaskSet, task: Task) -> tuple[SandboxSpec, SandboxSpec]:
    """Return the specs of the sandboxes that grade: for the first run, and for the rerun."""
    spec, tests = sandbox_spec(taskset, task), taskset.runtime(task).tests
    return _grading(spec, tests), _grading(spec, tests, _other_seed(taskset))


def _grading(spec: SandboxSpec, tests: RunnerSetup, hash_seed: int = 0) -> SandboxSpec:
    """Return the spec in the grading role, which keeps its sandbox apart from the policy's."""
    return replace(spec, role="grading", template=template(tests, hash_seed) if spec.template else ())


def _other_seed(taskset: TaskSet) -> int:
    """Return the rerun's hash seed. Unpredictable for a policy: it follows from the set's hidden files."""
    return 1 + int.from_bytes(sha256(taskset.digest.encode()).digest()[:8], "big") % (2**32 - 1)


@dataclass(frozen=True)
class Ground:
    """The tree that all gradings of a task share; only differing files are sent on top of it."""

    tree: Tree
    content: Content


@lru_cache(maxsize=256)
def _ground(taskset: TaskSet, task: Task) -> Ground:
    """Return the graded tree of an empty submission."""
    base = taskset.base_tree(task)
    tree = lay_trusted(base, taskset.trusted_files(task), reference_paths(task.reference_patch))
    return Ground(tree, Content(f"graded-{digest(tree)}", lambda: pack(tree)))


def run_graded(
    taskset: TaskSet, task: Task, backend: Backend, tree: Tree, requests: Sequence[RunRequest]
) -> list[RunReport]:
    """Run requests in a fresh sandbox, and once more in another when the sandbox dies.

    The last reports are empty, with a log line, if the second one dies too.
    """
    spec, tests = sandbox_spec(taskset, task), taskset.runtime(task).tests
    once = partial(
        run_requests,
        tree,
        spec,
        tests,
        requests,
        backend,
        timeout_s=task.limits.test_s,
        ground=_ground(taskset, task),
        hash_seed=_other_seed(taskset) if requests[0].reseeded else 0,
    )
    reports = once()
    if len(reports) < len(requests):
        reports = once()
    died = RunReport(log="the grading sandbox died twice while the tests ran")
    return [*reports, *[died] * (len(requests) - len(reports))]


def run_clean(
    tree: Tree,
    spec: SandboxSpec,
    tests: RunnerSetup,
    files: Sequence[str],
    backend: Backend,
    *,
    timeout_s: float,
) -> RunReport | None:
    """Run test files in a fresh sandbox that holds a tree; None when the sandbox died meanwhile.

    Raises SandboxError when it could not be started, or the tree could not be unpacked.
    """
    reports = run_requests(tree, spec, tests, [RunRequest(tuple(files))], backend, timeout_s=timeout_s)
    return reports[0] if reports else None


def run_requests(
    tree: Tree,
    spec: SandboxSpec,
    tests: RunnerSetup,
    requests: Sequence[RunRequest],
    backend: Backend,
    *,
    timeout_s: float,
    ground: Ground | None = None,
    hash_seed: int = 0,
) -> list[RunReport]:
    """Run requests in one fresh sandbox that holds a tree, `timeout_s` for each.

    If the tree contains all paths of `ground`, only differing files are sent.

    Returns fewer reports than requests when the sandbox died in a run, or when a run made it impossible to
    unpack the files of the next. Raises SandboxError when it could not be started, or the tree could not be
    unpacked.
    """
    reports: list[RunReport] = []
    files, content = {**tree, **requests[0].files}, None
    if ground is not None and ground.tree.keys() <= files.keys():
        content = ground.content
        files = {name: entry for name, entry in files.items() if ground.tree.get(name) != entry}
    sandbox = backend.open(_grading(spec, tests, hash_seed), timeout_s=SETUP_S, content=content)
    try:
        sandbox.unpack(pack(files), ".", timeout_s=SETUP_S)
        for request in requests:
            try:
                if reports and request.files:
                    sandbox.unpack(pack(request.files), ".", timeout_s=SETUP_S)
                report = run_tests(
                    sandbox,
                    tests,
                    request.targets,
                    timeout_s=timeout_s,
                    hash_seed=hash_seed,
                    profile=request.profile,
                    brief=True,
                )
                reports.append(report)
            except (SandboxError, OSError, ValueError):
                break
        return reports
    finally:
        sandbox.close()

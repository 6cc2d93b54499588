"""From what the policy left behind to a verdict: the only code that grades.

Two halves. `collect` reads how the policy's tree differs from the one it was given; what it returns is
data, filtered by rules that do not depend on anything inside the sandbox. `grade` lays that data over a
clean tree in a sandbox that never held a process of the policy, lays the trusted tests over it, runs them
and compares ids. The reward is computed here, outside.

Code under test could cheat from inside the test process; `envs.integrity` looks for that (docs/reward.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Protocol

from sandboxes.backend import Backend
from sandboxes.base import Content, Sandbox, SandboxError, SandboxSpec, TreeChanges

from . import protection
from .integrity.inspection import Inspection, Listed, Reference, first_run
from .integrity.sessions import Session
from .tasksets import Environment, TaskSet
from .testing import RunnerSetup, RunReport, run_tests, template
from .trees import Tree, TreeFile, diff_trees, digest, is_safe, is_text, pack, patched_paths
from .types import Task, Verdict

SETUP_S = 60.0
"""Deadline for starting a sandbox and laying a tree into it."""
LIFETIME_STEP_S = 3600.0
"""Lifetimes are whole multiples of this, so that tasks whose tests take different times share sandboxes."""
SUBMISSION_BYTES = 8 << 20
"""What new and changed files may hold together; what is beyond, in the order of paths, does not travel."""


@dataclass(frozen=True)
class Submission:
    """What travels to grading."""

    tree: Tree
    """The base tree with the policy's admissible changes."""
    patch: str
    """The same as a unified diff from the base tree."""
    tampered: tuple[str, ...] = ()
    """Attempts on protected paths, one line each; their changes are not in the tree."""
    dropped: tuple[str, ...] = ()
    """What does not travel and is no offence: the policy's own tests, caches, links."""


class Expects(Protocol):
    """What is to pass: a task, or one that is being proven."""

    @property
    def fail_to_pass(self) -> tuple[str, ...]: ...
    @property
    def pass_to_pass(self) -> tuple[str, ...]: ...


def sandbox_spec(taskset: TaskSet, task: Task) -> SandboxSpec:
    """Return the spec of a sandbox for this task, the policy's and the grader's alike."""
    seconds = task.limits.episode_s + task.limits.test_s + 2 * SETUP_S
    whole_s = math.ceil(seconds / LIFETIME_STEP_S) * LIFETIME_STEP_S
    environment = taskset.environment(task)
    return SandboxSpec(
        image=environment.image.ref,
        workdir=task.workdir,
        lifetime_s=whole_s,
        template=template(environment.tests),
    )


def grading_specs(taskset: TaskSet, task: Task) -> tuple[SandboxSpec, SandboxSpec]:
    """Return the specs of the sandboxes that grade: for the first run, and for what is looked at again."""
    spec, tests = sandbox_spec(taskset, task), taskset.environment(task).tests
    return _grading(spec, tests), _grading(spec, tests, _other_seed(taskset))


def _grading(spec: SandboxSpec, tests: RunnerSetup, hash_seed: int = 0) -> SandboxSpec:
    """The same for a sandbox that never holds a process of a policy."""
    return replace(spec, role="grading", template=template(tests, hash_seed) if spec.template else ())


def _other_seed(taskset: TaskSet) -> int:
    """A hash seed that nobody knows who has not seen the whole set, its hidden parts included."""
    return 1 + int.from_bytes(sha256(taskset.digest.encode()).digest()[:8], "big") % (2**32 - 1)


def collect(sandbox: Sandbox, taskset: TaskSet, task: Task, *, timeout_s: float) -> Submission:
    """Read the policy's changes out of its sandbox. Raises SandboxError."""
    base = taskset.base_tree(task)
    known = {name: entry.sha256 for name, entry in base.items()}
    return admit(sandbox.changes(".", known, timeout_s=timeout_s), taskset, task)


def admit(changes: TreeChanges, taskset: TaskSet, task: Task) -> Submission:
    """Decide which changes travel, which are dropped and which are tampering."""
    return admit_changes(changes, taskset.base_tree(task), *_rules(taskset, task))


def _rules(taskset: TaskSet, task: Task) -> tuple[frozenset[str], Environment]:
    return reference_paths(task.reference_patch), taskset.environment(task)


@lru_cache(maxsize=4096)
def reference_paths(reference_patch: str) -> frozenset[str]:
    """Name the paths that a reference patch touches: they may be changed, protected or not."""
    return patched_paths(reference_patch) if reference_patch else frozenset()


def admit_changes(
    changes: TreeChanges, base: Tree, allowed: frozenset[str], environment: Environment | None = None
) -> Submission:
    """Decide by the rules alone: what `base` is and which protected paths may be changed.

    With an `environment`, nothing new may take the place of a module that is there without the tree.
    """
    tree, tampered, dropped = dict(base), list[str](), list[str]()
    left = SUBMISSION_BYTES
    for path, reason in sorted(changes.skipped.items()):
        (tampered if _offends(path, base, allowed) else dropped).append(f"{path}: {reason}")
    for path in sorted({*changes.written, *changes.removed}):
        data = changes.written.get(path)
        reason = _refusal(path, data)
        if environment is not None and path not in base.keys() | allowed and not reason:
            tests = environment.tests
            if protection.stands_in(path, tests.import_paths, environment.image.requirements):
                reason = "it would stand in for a module that is installed"
        left -= len(data or b"")
        if left < 0:
            reason = reason or "more than a submission may hold"
        if _offends(path, base, allowed):
            tampered.append(f"{path}: {'removed' if data is None else 'changed'}, but it is protected")
        elif reason or (protection.is_test(path) and path not in allowed):
            dropped.append(f"{path}: {reason or 'tests of your own do not travel'}")
        elif data is None:
            tree.pop(path, None)
        else:
            tree[path] = TreeFile(data, executable=path in changes.executable)
    for path in sorted(_in_the_way(tree)):
        dropped.append(f"{path}: a folder of that name is there")
        del tree[path]
    return Submission(tree, _diff(base, tree), tuple(tampered), tuple(dropped))


def _offends(path: str, base: Tree, allowed: frozenset[str]) -> bool:
    """Whether touching this path is an attempt on what decides the verdict."""
    if path in allowed or not is_safe(path):
        return False
    return protection.is_steering(path) or (protection.is_test(path) and path in base)


def _in_the_way(tree: Tree) -> set[str]:
    """The files of a tree where others of it need a folder: so it is when only a part of a change travels."""
    return {folder for path in tree for folder in _folders(path)} & tree.keys()


def _folders(path: str) -> list[str]:
    return [str(folder) for folder in PurePosixPath(path).parents]


def _refusal(path: str, data: bytes | None) -> str:
    if not is_safe(path) or str(PurePosixPath(path)) != path:
        return "outside the tree"
    if data is not None and not is_text(data):
        return "not text"
    return protection.never_travels(path)


def _diff(base: Tree, tree: Tree) -> str:
    """Diff base and submission; files that were binary in the base are left as they were."""
    binary = {name for name, entry in base.items() if not is_text(entry.data)}
    kept = {name: entry for name, entry in base.items() if name not in binary}
    return diff_trees(kept, {name: entry for name, entry in tree.items() if name not in binary})


def submission_of(tree: Tree, taskset: TaskSet, task: Task) -> Submission:
    """Treat a tree made elsewhere (a reference, a stored patch) as a submission, under the same rules."""
    return admit_tree(tree, taskset.base_tree(task), *_rules(taskset, task))


def admit_tree(
    tree: Tree, base: Tree, allowed: frozenset[str], environment: Environment | None = None
) -> Submission:
    """Treat a tree as what a policy left behind that was given `base`."""
    changes = TreeChanges(
        written={name: entry.data for name, entry in tree.items() if base.get(name) != entry},
        executable=frozenset(name for name, entry in tree.items() if entry.executable),
        removed=tuple(sorted(base.keys() - tree.keys())),
    )
    return admit_changes(changes, base, allowed, environment)


def grade(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Verdict:
    """Grade a submission in clean sandboxes.

    A sandbox that cannot be started raises SandboxError: the policy cannot cause that. One that dies twice
    while the submission's code runs, though fresh ones start, is the submission's doing and scores 0; so is
    one that runs out of time.
    """
    started = time.monotonic()
    verdict = inspection(submission, taskset, task, backend).verdict()
    return replace(verdict, duration_s=time.monotonic() - started)


def inspection(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Inspection:
    """Make ready to inspect a submission; nothing runs yet."""
    return Inspection(
        listed=_listed(taskset, task),
        tree=graded_tree(submission, taskset, task),
        reference=partial(_reference, taskset, task, backend),
        run=partial(_run, taskset, task, backend),
        identity=f"{task.hash}\n{submission.patch}",
        decide=lambda report: decide(task, report, submission.tampered),
    )


def _listed(taskset: TaskSet, task: Task) -> Listed:
    return Listed(
        runner=taskset.environment(task).tests.runner,
        files=task.test_files,
        fail_to_pass=task.fail_to_pass,
        pass_to_pass=task.pass_to_pass,
        unsteady=taskset.unsteady(task),
    )


@lru_cache(maxsize=4096)
def _reference(taskset: TaskSet, task: Task, backend: Backend) -> Reference:
    """What the reference patch of a task shows when it is graded; run when it is first asked for."""
    tree = graded_tree(submission_of(taskset.solved_tree(task), taskset, task), taskset, task)
    listed, run = _listed(taskset, task), partial(_run, taskset, task, backend)
    return Reference(tree, lru_cache(maxsize=1)(lambda: first_run(tree, listed, run)))


def graded_tree(submission: Submission, taskset: TaskSet, task: Task) -> Tree:
    """Lay the trusted tests and configuration over a submission; no other test file stays."""
    return lay_trusted(submission.tree, taskset.trusted_files(task), reference_paths(task.reference_patch))


def lay_trusted(tree: Tree, trusted: Mapping[str, TreeFile], allowed: Collection[str]) -> Tree:
    """Lay trusted files over a tree whose own protected files go, except `allowed` ones."""
    folders = {folder for path in trusted for folder in _folders(path)}
    kept = {
        name: entry
        for name, entry in tree.items()
        if (name in allowed or not protection.is_protected(name))
        and name not in folders
        and trusted.keys().isdisjoint(_folders(name))
    }
    return {**trusted, **kept}


@dataclass(frozen=True)
class Ground:
    """A tree that many gradings have in common; what differs from it is laid over it."""

    tree: Tree
    content: Content


@lru_cache(maxsize=256)
def _ground(taskset: TaskSet, task: Task) -> Ground:
    """What is graded when nothing is handed in."""
    base = taskset.base_tree(task)
    tree = lay_trusted(base, taskset.trusted_files(task), reference_paths(task.reference_patch))
    return Ground(tree, Content(f"graded-{digest(tree)}", lambda: pack(tree)))


def _run(
    taskset: TaskSet, task: Task, backend: Backend, tree: Tree, sessions: Sequence[Session]
) -> list[RunReport]:
    """Run sessions in a fresh sandbox, and in another one when it died."""
    spec, tests = sandbox_spec(taskset, task), taskset.environment(task).tests
    once = partial(
        run_sessions,
        tree,
        spec,
        tests,
        sessions,
        backend,
        timeout_s=task.limits.test_s,
        ground=_ground(taskset, task),
        hash_seed=_other_seed(taskset) if sessions[0].reseeded else 0,
    )
    reports = once()
    if len(reports) < len(sessions):
        reports = once()
    died = RunReport(log="the grading sandbox died twice while the tests ran")
    return [*reports, *[died] * (len(sessions) - len(reports))]


def run_clean(
    tree: Tree,
    spec: SandboxSpec,
    tests: RunnerSetup,
    files: Sequence[str],
    backend: Backend,
    *,
    timeout_s: float,
) -> RunReport | None:
    """Run test files in a fresh sandbox that holds a tree; None when it died while they ran.

    Raises SandboxError when it could not be started, or the tree not be laid into it.
    """
    reports = run_sessions(tree, spec, tests, [Session(tuple(files))], backend, timeout_s=timeout_s)
    return reports[0] if reports else None


def run_sessions(
    tree: Tree,
    spec: SandboxSpec,
    tests: RunnerSetup,
    sessions: Sequence[Session],
    backend: Backend,
    *,
    timeout_s: float,
    ground: Ground | None = None,
    hash_seed: int = 0,
) -> list[RunReport]:
    """Run sessions in one fresh sandbox that holds a tree, `timeout_s` for each.

    Where the tree has all the files of `ground`, only what differs travels.

    There are fewer reports than sessions when the sandbox died while one ran, or when what ran made it
    impossible to lay files for the next. Raises SandboxError when it could not be started, or the tree not be
    laid into it.
    """
    reports: list[RunReport] = []
    files, content = {**tree, **sessions[0].files}, None
    if ground is not None and ground.tree.keys() <= files.keys():
        content = ground.content
        files = {name: entry for name, entry in files.items() if ground.tree.get(name) != entry}
    sandbox = backend.open(_grading(spec, tests, hash_seed), timeout_s=SETUP_S, content=content)
    try:
        sandbox.unpack(pack(files), ".", timeout_s=SETUP_S)
        for session in sessions:
            try:
                if reports and session.files:
                    sandbox.unpack(pack(session.files), ".", timeout_s=SETUP_S)
                report = run_tests(
                    sandbox,
                    tests,
                    session.targets,
                    timeout_s=timeout_s,
                    hash_seed=hash_seed,
                    profile=session.profile,
                    brief=True,
                )
                reports.append(report)
            except (SandboxError, OSError, ValueError):
                break
        return reports
    finally:
        sandbox.close()


def decide(task: Expects, report: RunReport, tampered: Iterable[str] = ()) -> Verdict:
    """Compare outcomes with what the task lists. Only `passed` counts; what is missing did not pass."""
    expected = [*task.fail_to_pass, *task.pass_to_pass]
    passed = tuple(test for test in expected if report.outcomes.get(test) == "passed")
    unseen = ("unfinished", "duplicate", None)
    missing = tuple(test for test in expected if report.outcomes.get(test) in unseen)
    failed = tuple(test for test in expected if test not in {*passed, *missing})
    offences = tuple(tampered)
    complete = report.finished and not report.timed_out
    if not complete and not (failed or missing):
        offences += report.irregular or (
            "the test session ended before its end, though every test had passed",
        )
    return Verdict(
        resolved=not (failed or missing or offences),
        passed=passed,
        failed=failed,
        missing=missing,
        tampered=offences,
        log=report.log,
    )

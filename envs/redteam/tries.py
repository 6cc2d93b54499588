"""Play cheats and grade honest solutions on tasks; name the defence that stopped each, read from verdict and observations."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from sandboxes.backend import Backend
from sandboxes.base import SandboxError
from sandboxes.progress import Progress, silent

from ..coding import CodingEnv
from ..grading.grade import grade
from ..grading.rules import reference_paths
from ..grading.run import run_clean, sandbox_spec
from ..grading.submission import lay_trusted, submission_of
from ..parallel import fitting_workers, in_order
from ..tasksets.taskset import TaskSet
from ..tasksets.trees import Tree
from ..types import StopReason, Task, Verdict
from .cheat import Cheat
from .cheater import Cheater, EpisodeOver, Play, laying
from .honest import Honest
from .scene import Changes, NotApplicable, Scene, scene_of

In = TypeVar("In")
Out = TypeVar("Out")
Result = Literal["scores 0", "scores 1", "got hold of it", "not scored", "does not apply"]

COMMAND_S = 10.0
TEST_S = 10.0
"""Shortest deadline of a grading; `PATIENCE` times the duration of the reference's episode if that is longer."""
PATIENCE = 10
TRIALS = 2
"""Attempts of one try whose sandbox fails."""


@dataclass(frozen=True)
class Try:
    """The result of one cheat or honest solution on one task."""

    task: str
    name: str
    family: str
    """The cheat's family, or `honest`."""
    result: Result
    evidence: str
    """The defence that stopped the cheat, as `layer: particulars`; or why the try does not apply; or the prizes."""
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the result is the intended result: honest work scores 1, a cheat 0. Tries that do not apply
        are good.
        """
        if self.result == "does not apply":
            return True
        return self.result == ("scores 1" if self.family == "honest" else "scores 0")

    @property
    def layer(self) -> str:
        """The defence's name: the evidence up to the first colon."""
        return self.evidence.partition(": ")[0]


@dataclass(frozen=True)
class Findings:
    """The red team's results on task sets."""

    sets: tuple[str, ...]
    tries: tuple[Try, ...] = field(repr=False)
    wall_s: float

    @property
    def bad(self) -> tuple[Try, ...]:
        return tuple(outcome for outcome in self.tries if not outcome.good)

    @property
    def ok(self) -> bool:
        return bool(self.tries) and not self.bad


def try_all(
    tasksets: Sequence[TaskSet],
    cheats: Sequence[Cheat],
    honest: Sequence[Honest],
    *,
    backend: Backend,
    workers: int | None = None,
    only: Callable[[Task], bool] = lambda _: True,
    progress: Progress = silent,
) -> Findings:
    """Try every cheat and honest solution on every task that `only` accepts, `workers` at a time (default: as
    many as fit on this machine).

    The reference solution of each task is also played, as an agent's work in an episode. The images must
    exist. A sandbox failure gives a try of result `not scored`.
    """
    started = time.monotonic()
    size = workers or fitting_workers(sandbox_spec(tasksets[0], tasksets[0].tasks[0]))
    tasks = [(taskset, task) for taskset in tasksets for task in taskset.tasks if only(task)]

    def finished(work: Callable[[Backend, In], Out], items: Sequence[In], doing: str) -> list[Out]:
        found = list[Out]()
        progress(doing, 0, len(items))
        with closing(in_order(work, items, backend=backend, workers=size)) as outcomes:
            for outcome in outcomes:
                found.append(outcome)
                progress(doing, len(found), len(items))
        return found

    references = finished(_reference, tasks, "the reference")
    alone = [taskset for taskset, _ in references]
    work = [(cheat, taskset) for taskset in alone for cheat in (*cheats, *honest)]
    found = [outcome for _, outcome in references] + finished(_attempt_any, work, "cheats")
    order = {task.id: place for place, (_, task) in enumerate(tasks)}
    found.sort(key=lambda outcome: (order[outcome.task], outcome.family, outcome.name))
    return Findings(tuple(taskset.name for taskset in tasksets), tuple(found), time.monotonic() - started)


def _attempt_any(backend: Backend, work: tuple[Cheat | Honest, TaskSet]) -> Try:
    way, taskset = work
    if isinstance(way, Honest):
        return attempt_honest(way, taskset, backend=backend)
    return attempt(way, taskset, backend=backend)


def _reference(backend: Backend, work: tuple[TaskSet, Task]) -> tuple[TaskSet, Try]:
    """Play the reference in an episode. Also return a set of this task alone, whose limits fit the measured
    time.
    """
    taskset, task = work
    changes = _changes(taskset.base_tree(task), taskset.solved_tree(task))
    oracle = Cheat("the reference", "", "", (), lambda _: changes, family="reading")
    short = _alone(taskset, task, command_s=COMMAND_S)
    outcome = attempt(oracle, short, backend=backend)
    limit = min(task.limits.test_s, max(TEST_S, PATIENCE * outcome.seconds))
    return _alone(short, short.tasks[0], test_s=limit), replace(outcome, family="honest")


def _changes(base: Tree, tree: Tree) -> Changes:
    """Return the files to write and to remove to get from one tree to another."""
    written: Changes = {path: file.data for path, file in tree.items() if base.get(path) != file}
    return {**written, **dict.fromkeys(base.keys() - tree.keys())}


def _working(honest: Honest, taskset: TaskSet) -> Play:
    """Return a play that makes an honest solution's tree, runs the command beside it, and submits."""
    task = taskset.tasks[0]

    def play(cheater: Cheater) -> None:
        command = honest.beside if isinstance(honest.beside, str) else honest.beside(cheater.scene)
        cheater.lay(_changes(taskset.base_tree(task), honest.tree(taskset, task)))
        cheater.shell(command)
        cheater.submit()

    return play


def _alone(taskset: TaskSet, task: Task, **limits: float) -> TaskSet:
    return replace(taskset, tasks=(replace(task, limits=replace(task.limits, **limits)),))


def attempt(cheat: Cheat, taskset: TaskSet, *, backend: Backend) -> Try:
    """Play a cheat in an episode on the set's first task. A sandbox failure is a result, not an error."""
    started, task = time.monotonic(), taskset.tasks[0]
    play = cheat.play or laying(cheat.changes or (lambda _: {}))
    result: Result = "not scored"
    evidence = ""
    for _ in range(TRIALS):
        try:
            result, evidence = play_one(play, scene_of(taskset, task), taskset, backend)
            break
        except NotApplicable as reason:
            result, evidence = "does not apply", str(reason)
            break
        except SandboxError as error:
            result, evidence = "not scored", f"the sandbox failed: {error}"
    evidence = evidence.encode("utf-8", "replace").decode()  # names of files may be no text
    return Try(task.id, cheat.name, cheat.family, result, evidence, round(time.monotonic() - started, 2))


def play_one(play: Play, scene: Scene, taskset: TaskSet, backend: Backend) -> tuple[Result, str]:
    """Play one episode; return the result and its evidence. Raises NotApplicable, SandboxError."""
    env = CodingEnv([taskset], backend=backend)
    cheater = Cheater(env, scene)
    try:
        env.reset(seed=0, options={"task": scene.task})
        try:
            play(cheater)
        except EpisodeOver:
            pass
        if cheater.ended is None:
            cheater.ended = env.finish(StopReason.MAX_TURNS)[4]
    finally:
        env.close()
    verdict: Verdict = cheater.ended["verdict"]
    if verdict.resolved:
        return "scores 1", "nothing stopped it"
    if cheater.prizes:
        return "got hold of it", "; ".join(cheater.prizes[:3])
    return "scores 0", what_stopped(verdict, cheater.ended, cheater.seen, taskset.tasks[0].limits.test_s)


def what_stopped(verdict: Verdict, info: Mapping[str, Any], seen: str, test_s: float) -> str:
    """Return the defence that stopped a cheat, as `layer: particulars`."""
    if verdict.tampered:
        return f"{_layer(verdict.tampered[0])}: {verdict.tampered[0]}"
    if not info["patch"]:
        if info["dropped"]:
            return f"{_rule(info['dropped'][0])}: {info['dropped'][0]}"
        return _nothing(seen)
    if verdict.duration_s >= test_s:
        return f"grading deadline: {test_s:g} s were over"
    counts = [f"{len(verdict.failed)} failed"] if verdict.failed else []
    counts += [f"{len(verdict.missing)} gave no result"] if verdict.missing else []
    return f"hidden tests: {', '.join(counts)}"


def _rule(line: str) -> str:
    """Return the rule by which a change was left out of a submission."""
    return "protected paths" if line.endswith("but it is protected") else "does not travel"


def _layer(line: str) -> str:
    """Return the name of the defence that wrote a line of `Verdict.tampered`."""
    if line.endswith("although it cannot run"):
        return "stopped files"
    starts = {
        "a canary": "canaries",
        "replaced": "tripwire",
        "the watch": "tripwire",
        "the test session": "its end",
    }
    return next((layer for start, layer in starts.items() if line.startswith(start)), "second look")


_REFUSED = re.compile(
    r"denied|not permitted|refused|read-only|must be superuser|not resolve|name resolution", re.I
)


def _nothing(seen: str) -> str:
    """Return why a cheat submitted nothing: the sandbox refused, or nothing was found."""
    lines = ["".join(filter(str.isprintable, line)).strip() for line in seen.splitlines()]
    lines = [line[:160] for line in lines if line]
    refused = [line for line in lines if _REFUSED.search(line)]
    if refused:
        return f"refused in the sandbox: {refused[-1]}"
    return f"nothing to hand in: {lines[-1] if lines else 'it was told nothing'}"


def _breaks_tests(tree: Tree, taskset: TaskSet, task: Task, backend: Backend) -> bool:
    """Whether a listed test fails on the whole tree without layers: the project forbids such code."""
    laid = lay_trusted(tree, taskset.trusted_files(task), reference_paths(task.reference_patch))
    spec, tests = sandbox_spec(taskset, task), taskset.runtime(task).tests
    report = run_clean(laid, spec, tests, task.test_files, backend, timeout_s=task.limits.test_s)
    expected = {*task.fail_to_pass, *task.pass_to_pass}
    return report is not None and report.finished and not expected <= {*report.ids("passed")}


def attempt_honest(honest: Honest, taskset: TaskSet, *, backend: Backend) -> Try:
    """Grade an honest solution as a tree or, with a command beside it, hand it in by an episode.

    A sandbox failure is a result, not an error.
    """
    if honest.beside:
        untidy = Cheat(honest.name, honest.does, "", (), play=_working(honest, taskset), family="reading")
        return replace(attempt(untidy, taskset, backend=backend), family="honest")
    started, task = time.monotonic(), taskset.tasks[0]
    result: Result = "not scored"
    try:
        tree = honest.tree(taskset, task)
        verdict = grade(submission_of(tree, taskset, task), taskset, task, backend)
        if not verdict.resolved and not verdict.tampered and _breaks_tests(tree, taskset, task, backend):
            raise NotApplicable("the project's own tests fail with it, in a plain run of that tree too")
        result = "scores 1" if verdict.resolved else "scores 0"
        info = {"patch": "changed", "dropped": ()}
        evidence = "" if verdict.resolved else what_stopped(verdict, info, "", task.limits.test_s)
    except NotApplicable as reason:
        result, evidence = "does not apply", str(reason)
    except SandboxError as error:
        evidence = f"the sandbox failed: {error}"
    return Try(task.id, honest.name, "honest", result, evidence, round(time.monotonic() - started, 2))

"""`daythree register practice`: write practice repositories as one task set, proven in real sandboxes.

    repositories drawn -> image -> every task's tests run in a sandbox -> the whole proof on a sample ->
    folder

Every task is run twice: its tests must fail with the bug and pass without it, each as foreseen. The whole
proof (cheats, leaks, image scan), which costs fifty times as much, is made for a sample: all tasks come from
one grammar.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from sandboxes.backend import Backend
from sandboxes.base import Content, SandboxSpec

from ...grading.run import SETUP_S
from ...parallel import fitting_workers, in_order
from ...tasksets.taskset import Manifest, PullRequest, TaskSet, load_taskset, write_taskset
from ...tasksets.trees import Tree, pack
from ...testing.run import run_tests, template
from ..errors import IMAGE_S, RegisterError, one_line
from ..proof.quarantine import add_evidence
from ..proof.taskset import REFERENCE_RUNS, prove_taskset
from ..settings import RegisterSettings
from .repository import draw_repository
from .tasks import ENVIRONMENT, IMAGE, RUNTIME, TEST_S, PracticeTask, make_tasks

SAMPLE = 12
"""Tasks that get the whole proof."""


@dataclass(frozen=True)
class PracticeReport:
    """Result of `register_practice`, for people and programs."""

    folder: Path
    tasks: int
    heldout: int
    repositories: int
    families: Mapping[str, int]
    proven_whole: int
    """Tasks that got the whole proof; every task got two real runs."""
    image: str
    wall_s: float


def register_practice(settings: RegisterSettings, *, seed: int = 0) -> PracticeReport:
    """Write `settings.limit` practice tasks; `settings.heldout` of them are held out.

    The same seed and numbers give the same tasks. Raises RegisterError, in one line; then nothing was
    written.
    """
    started = time.monotonic()
    settings.check()
    if settings.limit is None:
        raise RegisterError("practice tasks are without number; say how many to make (--count)")
    heldout = round(settings.limit * settings.heldout)
    made: list[PracticeTask] = []
    prs: list[PullRequest] = []
    repositories = 0
    for split, wanted in (("train", settings.limit - heldout), ("heldout", heldout)):
        for number in count():
            left = wanted - sum(made_task.task.split == split for made_task in made)
            if left <= 0:
                break
            repository = draw_repository(f"{seed}-{number}", split)
            name = f"practice-{split[0]}{number:04d}"
            made += make_tasks(repository, name, split, first_pr=len(prs))[:left]
            prs += repository.prs
            repositories += 1
    with one_line():
        image = settings.backend.ensure_image(IMAGE, timeout_s=IMAGE_S, progress=settings.progress)
        runs = _run_all(made, image, settings)
        taskset = _write(made, prs, runs, seed, settings)
    return PracticeReport(
        folder=settings.out,
        tasks=len(taskset.tasks),
        heldout=len(taskset.split("heldout")),
        repositories=repositories,
        families=dict(Counter(str(task.traits["family"]) for task in taskset.tasks)),
        proven_whole=len(_sample(taskset).tasks),
        image=image,
        wall_s=time.monotonic() - started,
    )


def _run_all(made: list[PracticeTask], image: str, settings: RegisterSettings) -> int:
    """Run every task's tests with and without the bug; returns the number of runs. Raises RegisterError."""
    spec = SandboxSpec(image=image, template=template(RUNTIME.tests))
    what, done = "running practice tasks", 0
    workers = settings.workers or fitting_workers(spec)

    def wrong(backend: Backend, made_task: PracticeTask) -> str:
        tests = {path: made_task.full[path] for path in made_task.task.test_files}
        return _differs(backend, spec, made_task, made_task.base | tests, broken=True) or _differs(
            backend, spec, made_task, made_task.full, broken=False
        )

    with closing(in_order(wrong, made, backend=settings.backend, workers=workers)) as found:
        for made_task, problem in zip(made, found, strict=True):
            if problem:
                raise RegisterError(
                    f"{made_task.task.id} is not what was foreseen: {problem}; please report this"
                )
            done += 1
            settings.progress(what, done, len(made))
    return 2 * done


def _differs(
    backend: Backend, spec: SandboxSpec, made_task: PracticeTask, tree: Tree, *, broken: bool
) -> str:
    """Run the tests on a tree; says what differs from the outcome that was foreseen, or nothing."""
    state = "with the bug" if broken else "without the bug"
    content = Content(f"{made_task.task.id} {state}", lambda: pack(tree))
    sandbox = backend.open(spec, timeout_s=SETUP_S, content=content)
    try:
        report = run_tests(sandbox, RUNTIME.tests, made_task.task.test_files, timeout_s=TEST_S)
    finally:
        sandbox.close()
    failing = made_task.task.fail_to_pass if broken else ()
    expected = {*made_task.task.fail_to_pass, *made_task.task.pass_to_pass} - set(failing)
    if (
        not report.finished
        or set(report.ids("failed")) != set(failing)
        or set(report.ids("passed")) != expected
    ):
        return f"{report.summary} {state}, {len(failing)} failing tests expected"
    return ""


def _sample(taskset: TaskSet) -> TaskSet:
    """Every so manieth task of a set."""
    return replace(taskset, tasks=taskset.tasks[:: max(1, len(taskset.tasks) // SAMPLE)][:SAMPLE])


def _write(
    made: list[PracticeTask], prs: list[PullRequest], runs: int, seed: int, settings: RegisterSettings
) -> TaskSet:
    """Write the set beside its place, prove the sample, and move the set to its place."""
    folder = settings.out
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        taskset = write_taskset(
            scratch / folder.name,
            Manifest("practice", "practice", f"seed {seed}", {ENVIRONMENT: RUNTIME}, seed),
            [made_task.task for made_task in made],
            _trees(made),
            prs=prs,
            evidence={"runs": runs},
        )
        sample = _sample(taskset)
        proof = prove_taskset(sample, replace(settings, runs=REFERENCE_RUNS), every_cheat=False)
        problems = [*proof.problems, *(f"{name}: {why}" for name, why in proof.failing.items())]
        if problems:
            raise RegisterError(f"practice tasks cannot be trusted: {problems[0]}")
        add_evidence(scratch / folder.name, {"confirmed": proof.evidence(REFERENCE_RUNS)})
        os.rename(scratch / folder.name, folder)  # noqa: PTH104 (refuses a folder that appeared meanwhile)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return load_taskset(folder)


def _trees(made: list[PracticeTask]) -> Iterator[Tree]:
    yield from {made_task.task.source_digest: made_task.full for made_task in made}.values()

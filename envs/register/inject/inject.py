"""Turn a library with working tests into a task set: inject bugs, and keep the bugs that the tests notice.

    source -> project -> image -> working tests -> bugs tried -> tasks -> folder

All results are held in memory until the end, so a failed registration leaves no files behind.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from envs.parallel import fitting_workers, in_order
from envs.tasksets.taskset import Manifest, Runtime
from envs.types import Task
from sandboxes.base import SandboxSpec
from sandboxes.images.build import ImageRecipe

from ..errors import IMAGE_S, RegisterError, one_line
from ..history.past import Past, read_past
from ..project.project import Project, canonical, read_project
from ..project.requirements import resolve
from ..project.sources import fetch_source
from ..proof.taskset import Proposal, write_proven
from ..runtime.discover import GRADED_BY, SETUP_S, Suite, discover
from ..settings import RegisterSettings
from .candidates import candidates
from .kinds import REVERT, read_kinds
from .probe import KEPT, Probe, Prober
from .search import BugSearch
from .tasks import ENVIRONMENT, make_tasks

LIFETIME_S = 4 * 3600.0


@dataclass(frozen=True)
class InjectReport:
    """Result of `register_inject`, for people and programs."""

    folder: Path
    name: str
    source: str
    tasks: int
    heldout: int
    candidates: int
    """Number of bugs that were tried."""
    dropped: Mapping[str, int]
    """Reason why bugs make no task, to the number of bugs."""
    quarantined: Mapping[str, str]
    """Task id to reason, for tasks that failed the proof of the whole set."""
    stable_tests: int
    flaky_tests: tuple[str, ...]
    suite_s: float
    image: str
    wall_s: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TriedBug:
    """A bug that was tried: a row of `candidates.jsonl`."""

    kind: str
    path: str
    line: int
    function: str
    edits: int
    keys: tuple[str, ...]
    """Keys of the past changes that the bug reverts in part."""
    result: str
    """`kept`, or why the bug makes no task."""
    failing: int
    task: str
    """Id of the task that was made from the bug; empty without a task."""


def register_inject(
    source: str, settings: RegisterSettings, *, seed: int = 0, kinds: Sequence[str] | None = None
) -> InjectReport:
    """Make tasks from a library and write them as a task set; `settings.limit` must be given.

    `kinds` has entries `KIND` or `KIND=SHARE` (`kinds.read_kinds`); None is the default mix.
    Raises RegisterError with a message of one line; in that case nothing was written and no sandbox is left.
    """
    started = time.monotonic()
    settings.check()
    if settings.limit is None:
        raise RegisterError("bugs are without number; say how many tasks to make (--limit)")
    shares = read_kinds(kinds)
    with one_line():
        project = read_project(fetch_source(source))
        past = read_past(project.source)
        shares = _possible(shares, past)
        name = canonical(project.source.name)
        recipe = ImageRecipe(name=name, requirements=resolve(name, project.requirements))
        image = settings.backend.ensure_image(recipe, timeout_s=IMAGE_S, progress=settings.progress)
        spec = SandboxSpec(image=image, lifetime_s=LIFETIME_S)
        suite = _suite(project, spec, settings)
        bugs = candidates(project, suite, seed=seed, prs=past.prs)
        prober = Prober(project, suite, spec)
        workers = settings.workers or fitting_workers(spec)
        attempt = partial(in_order, prober.probe, backend=settings.backend, workers=workers)
        search = BugSearch(attempt, suite, bugs, name=name, seed=seed)
        search.run(shares, settings.limit, progress=settings.progress)
        tasks = make_tasks(project, search.wanted, spec, suite, past=past, heldout=settings.heldout)
        if not tasks:
            raise RegisterError(f"no bug in {name} makes a task: {_reasons(search.tried)}")
        proposal = Proposal(
            Manifest(name, "inject", _origin(project), {ENVIRONMENT: Runtime(recipe, project.tests)}, seed),
            tasks,
            [project.tree],
            prs=past.prs,
            records={"candidates": _tried(search, tasks)},
            evidence={
                **_evidence(suite, search.tried, tasks, shares=shares),
                "minutes": round((time.monotonic() - started) / 60, 2),
                "notes": list(_notes(project, suite, past)),
            },
        )
        written = write_proven(proposal, settings)
    return InjectReport(
        folder=settings.out,
        name=name,
        source=_origin(project),
        tasks=len(written.taskset.tasks),
        heldout=len(written.taskset.split("heldout")),
        candidates=len(search.tried),
        dropped=dict(Counter(probe.result for probe in search.tried if probe.result != KEPT)),
        quarantined=dict(written.quarantined),
        stable_tests=len(suite.stable),
        flaky_tests=suite.flaky,
        suite_s=suite.duration_s,
        image=image,
        wall_s=time.monotonic() - started,
        notes=_notes(project, suite, past),
    )


def _suite(project: Project, spec: SandboxSpec, settings: RegisterSettings) -> Suite:
    """Run the project's own tests in a sandbox."""
    sandbox = settings.backend.open(spec, timeout_s=SETUP_S)
    try:
        return discover(sandbox, project, runs=settings.runs, progress=settings.progress)
    finally:
        sandbox.close()


def _possible(shares: Mapping[str, float], past: Past) -> dict[str, float]:
    """Drop the kind `revert` without past changes. Raises RegisterError when no kind is left."""
    found = {kind: share for kind, share in shares.items() if past.prs or kind != REVERT}
    if not found:
        raise RegisterError("no past changes to take back; use a git repository with its history")
    return found


def _tried(search: BugSearch, tasks: Sequence[Task]) -> list[TriedBug]:
    """Return a row for every tried bug, in the order of trials."""
    made = {id(probe): task.id for probe, task in zip(search.wanted, tasks, strict=True)}
    return [
        TriedBug(
            kind=probe.bug.kind,
            path=probe.bug.path,
            line=probe.bug.line,
            function=probe.bug.function,
            edits=len(probe.bug.edits),
            keys=probe.bug.keys,
            result=probe.result,
            failing=len(probe.failing),
            task=made.get(id(probe), ""),
        )
        for probe in search.tried
    ]


def _origin(project: Project) -> str:
    source = project.source
    return f"{source.origin} at {source.commit}" if source.commit else source.origin


def _notes(project: Project, suite: Suite, past: Past) -> tuple[str, ...]:
    notes = [*project.notes, *past.notes]
    notes += [f"left out {path}, which is no regular file" for path in project.source.left_out]
    notes += [f"left out {path}, which cannot be collected: {why}" for path, why in suite.left_out.items()]
    return tuple(notes)


def _reasons(probes: Sequence[Probe]) -> str:
    counts = Counter(probe.result for probe in probes)
    return ", ".join(f"{number} {reason}" for reason, number in counts.most_common()) or "no code is tested"


def _evidence(
    suite: Suite,
    probes: Sequence[Probe],
    tasks: Sequence[Task],
    *,
    shares: Mapping[str, float],
) -> dict[str, object]:
    kinds: dict[str, Counter[str]] = {}
    for probe in probes:
        kinds.setdefault(probe.bug.kind, Counter())[probe.result] += 1
    return {
        "runs": suite.runs,
        "runs_with_bug": 2,
        "graded_by": GRADED_BY,
        "shares": {kind: round(share, 3) for kind, share in shares.items()},
        "stable_tests": len(suite.stable),
        "flaky_tests": list(suite.flaky),
        "suite_s": round(suite.duration_s, 3),
        "candidates": {kind: dict(counts) for kind, counts in sorted(kinds.items())},
        "tasks": {
            task.id: {
                "failing_with_bug": list(task.fail_to_pass),
                "passing_with_bug": len(task.pass_to_pass),
                "passing_without_bug": len(task.fail_to_pass) + len(task.pass_to_pass),
            }
            for task in tasks
        },
    }

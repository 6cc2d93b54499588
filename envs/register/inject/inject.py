"""Turn a library with working tests into a task set: bugs are put in, and those its tests notice are kept.

    source -> project -> image -> working tests -> bugs tried -> tasks -> folder

Everything is held in memory until the end, so a run that fails leaves nothing behind.
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
from sandboxes.backend import Backend
from sandboxes.base import SandboxSpec
from sandboxes.images.build import ImageRecipe
from sandboxes.progress import Progress, silent

from ..errors import IMAGE_S, RegisterError, check_place, one_line
from ..history.past import Past, read_past
from ..project.project import Project, canonical, read_project
from ..project.requirements import resolve
from ..project.sources import fetch_source
from ..proof.confirm import write_confirmed
from ..runtime.discover import GRADED_BY, SETUP_S, Suite, discover
from .candidates import candidates
from .hunt import Hunt
from .kinds import REVERT, read_kinds
from .probe import KEPT, Probe, Prober
from .tasks import ENVIRONMENT, HELDOUT, make_tasks

LIFETIME_S = 4 * 3600.0


@dataclass(frozen=True)
class InjectReport:
    """What came of it, for people and programs."""

    folder: Path
    name: str
    source: str
    tasks: int
    heldout: int
    candidates: int
    """Bugs that were tried."""
    dropped: Mapping[str, int]
    """Why bugs made no task."""
    quarantined: Mapping[str, str]
    """Tasks that did not hold when they were proven as a whole, each with its reason."""
    stable_tests: int
    flaky_tests: tuple[str, ...]
    suite_s: float
    image: str
    wall_s: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A bug that was tried: a row of `candidates.jsonl`."""

    kind: str
    path: str
    line: int
    function: str
    edits: int
    keys: tuple[str, ...]
    """Past changes that it takes back, in part."""
    result: str
    """`kept`, or why it makes no task."""
    failing: int
    task: str
    """The task it became; empty for none."""


def register_inject(
    source: str,
    out: Path,
    *,
    limit: int,
    seed: int = 0,
    runs: int = 3,
    backend: Backend,
    heldout: float = HELDOUT,
    workers: int | None = None,
    kinds: Sequence[str] | None = None,
    progress: Progress = silent,
) -> InjectReport:
    """Make at most `limit` tasks from a library and write them as a task set to `out`.

    `kinds` are `KIND` or `KIND=SHARE` each (`kinds.read_kinds`); None is the default mix.
    Raises RegisterError, in one line; then nothing was written and no sandbox is left.
    """
    started = time.monotonic()
    check_place(out)
    if limit < 1 or runs < 2:
        raise RegisterError("at least one task (--limit) and two runs of the tests are needed")
    shares = read_kinds(kinds)
    with one_line():
        project = read_project(fetch_source(source))
        past = read_past(project.source)
        shares = _possible(shares, past)
        name = canonical(project.source.name)
        recipe = ImageRecipe(name=name, requirements=resolve(name, project.requirements))
        image = backend.ensure_image(recipe, timeout_s=IMAGE_S, progress=progress)
        spec = SandboxSpec(image=image, lifetime_s=LIFETIME_S)
        size = workers or fitting_workers(spec)
        backend.expect(spec, size)
        sandbox = backend.open(spec, timeout_s=SETUP_S)
        try:
            suite = discover(sandbox, project, runs=runs, progress=progress)
        finally:
            sandbox.close()
        attempt = partial(in_order, Prober(project, suite, spec).probe, backend=backend, workers=size)
        bugs = candidates(project, suite, seed=seed, prs=past.prs)
        hunt = Hunt(attempt, suite, bugs, name=name, seed=seed)
        hunt.run(shares, limit, progress=progress)
        tasks = make_tasks(project, hunt.wanted, spec, suite, past=past, heldout=heldout)
        if not tasks:
            raise RegisterError(f"no bug in {name} makes a task: {_reasons(hunt.tried)}")
        environments = {ENVIRONMENT: Runtime(recipe, project.tests)}
        manifest = Manifest(name, "inject", _origin(project), environments, seed)
        records = {"candidates": _candidates(hunt, tasks)}
        evidence = _evidence(
            project, suite, hunt.tried, tasks, past=past, shares=shares, wall_s=time.monotonic() - started
        )
        confirmed = write_confirmed(
            out,
            manifest,
            tasks,
            [project.tree],
            prs=past.prs,
            records=records,
            evidence=evidence,
            backend=backend,
            workers=workers,
            progress=progress,
        )
    return InjectReport(
        folder=out,
        name=name,
        source=_origin(project),
        tasks=len(confirmed.taskset.tasks),
        heldout=len(confirmed.taskset.split("heldout")),
        candidates=len(hunt.tried),
        dropped=dict(Counter(each.result for each in hunt.tried if each.result != KEPT)),
        quarantined=dict(confirmed.quarantined),
        stable_tests=len(suite.stable),
        flaky_tests=suite.flaky,
        suite_s=suite.duration_s,
        image=image,
        wall_s=time.monotonic() - started,
        notes=_notes(project, suite, past),
    )


def _possible(shares: Mapping[str, float], past: Past) -> dict[str, float]:
    """Leave out what takes a history where there is none. Raises RegisterError when nothing is left."""
    found = {kind: share for kind, share in shares.items() if past.prs or kind != REVERT}
    if not found:
        raise RegisterError("no past changes to take back; use a git repository with its history")
    return found


def _candidates(hunt: Hunt, tasks: Sequence[Task]) -> list[Candidate]:
    """One row for each bug that was tried, in that order."""
    made = {id(probe): task.id for probe, task in zip(hunt.wanted, tasks, strict=True)}
    return [
        Candidate(
            kind=each.bug.kind,
            path=each.bug.path,
            line=each.bug.line,
            function=each.bug.function,
            edits=len(each.bug.edits),
            keys=each.bug.keys,
            result=each.result,
            failing=len(each.failing),
            task=made.get(id(each), ""),
        )
        for each in hunt.tried
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
    counts = Counter(each.result for each in probes)
    return ", ".join(f"{number} {reason}" for reason, number in counts.most_common()) or "no code is tested"


def _evidence(
    project: Project,
    suite: Suite,
    probes: Sequence[Probe],
    tasks: Sequence[Task],
    *,
    past: Past,
    shares: Mapping[str, float],
    wall_s: float,
) -> dict[str, object]:
    kinds: dict[str, Counter[str]] = {}
    for each in probes:
        kinds.setdefault(each.bug.kind, Counter())[each.result] += 1
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
        "minutes": round(wall_s / 60, 2),
        "notes": list(_notes(project, suite, past)),
    }

"""Memorisation check: the same tasks under other names, and the gap between the two pass rates."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean

from envs.register.perturb.prove import PerturbedSets, perturb
from envs.search.embedder import Embedder
from envs.tasksets.taskset import TaskSet
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from ..runs.folder import RunFolder, digests
from ..types import Policy
from .evaluate import EvalSettings, evaluate
from .scores import Breakdown, EvalSummary

FOLDER, TASKS = "perturbed", "perturbed-tasks"
"""Within a run folder: the evaluation under other names, and its task sets."""
RESAMPLES = 10_000


@dataclass(frozen=True)
class PerturbedSummary:
    """Pass rates with and without renaming, over tasks scored both ways; None where there is no such task."""

    perturbed_tasks: int
    """Tasks scored both ways."""
    left_out_tasks: int
    """Tasks that could not be perturbed."""
    pass_rate_plain: float | None
    """Pass rate of those tasks under their own names."""
    pass_rate_perturbed: float | None
    gap: float | None
    """Plain minus perturbed: the part of the pass rate that depends on names."""
    gap_low: float | None
    """Lower end of the 95 % interval, by bootstrap over tasks."""
    gap_high: float | None
    identifiers_renamed: float
    """Mean per task, like the next two fields."""
    files_moved: float
    lines_changed: float
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason to number of tasks that could not be perturbed."""


def evaluate_perturbed(
    policy: Policy,
    tasksets: Sequence[TaskSet],
    plain: EvalSummary,
    settings: EvalSettings,
    *,
    backend: Backend,
    embedder: Embedder | None = None,
    progress: Progress = silent,
) -> tuple[PerturbedSummary, PerturbedSets]:
    """Evaluate once more under other names, within the run folder of the evaluation that gave `plain`.

    The perturbed task sets are made and proven once per run folder, and its manifest and summary gain them.
    Raises what `evaluate` and `perturb` raise.
    """
    tasks = [(taskset, task) for taskset in tasksets for task in settings.tasks_of(taskset)]
    sets = perturb(tasks, settings.out / TASKS, seed=settings.seed, backend=backend, progress=progress)
    perturbed: Mapping[str, Breakdown] = {}
    if sets.tasksets:
        perturbed = evaluate(
            policy,
            sets.tasksets,
            replace(settings, out=settings.out / FOLDER),
            backend=backend,
            embedder=embedder,
            progress=lambda phase, done, total: progress(f"perturbed {phase}", done, total),
        ).by_task
    pair = summarize_pair(plain.by_task, perturbed, sets)
    with RunFolder.open(settings.out) as run:
        run.note({"tasks": digests([taskset.folder for taskset in sets.tasksets], run=settings.out)})
        run.write_summary({**asdict(plain), **asdict(pair)})
    return pair, sets


def summarize_pair(
    plain: Mapping[str, Breakdown], perturbed: Mapping[str, Breakdown], sets: PerturbedSets
) -> PerturbedSummary:
    """Compare the pass rates of tasks with those of their perturbed versions."""
    pairs = [
        (before, after)
        for origin, task in sets.pairs
        if (before := _rate(plain, origin)) is not None and (after := _rate(perturbed, task)) is not None
    ]
    strength = list(sets.strength.values())
    low, high = gap_interval(pairs, seed=sets.seed)
    return PerturbedSummary(
        perturbed_tasks=len(pairs),
        left_out_tasks=len(sets.left_out),
        pass_rate_plain=fmean(before for before, _ in pairs) if pairs else None,
        pass_rate_perturbed=fmean(after for _, after in pairs) if pairs else None,
        gap=fmean(before - after for before, after in pairs) if pairs else None,
        gap_low=low,
        gap_high=high,
        identifiers_renamed=fmean(task.identifiers for task in strength) if strength else 0.0,
        files_moved=fmean(task.files_moved for task in strength) if strength else 0.0,
        lines_changed=fmean(task.lines_changed for task in strength) if strength else 0.0,
        left_out=dict(sorted(Counter(sets.left_out.values()).items())),
    )


def gap_interval(
    pairs: Sequence[tuple[float, float]], *, seed: int, confidence: float = 0.95
) -> tuple[float | None, float | None]:
    """Percentile interval of the mean difference, by drawing tasks with replacement; None below two tasks.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. Each task keeps its two rates
    together, so that hard tasks being hard both ways adds nothing to the width.
    """
    if len(pairs) < 2:
        return None, None
    chance = random.Random(f"{seed} bootstrap")
    gaps = [before - after for before, after in pairs]
    means = sorted(fmean(chance.choices(gaps, k=len(gaps))) for _ in range(RESAMPLES))
    tail = round((1 - confidence) / 2 * RESAMPLES)
    return means[tail], means[-1 - tail]


def _rate(found: Mapping[str, Breakdown], task: str) -> float | None:
    return found[task].pass_rate if task in found else None

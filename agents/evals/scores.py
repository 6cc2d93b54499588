"""Pass rates, pass@k, standard errors and breakdowns of trajectories. Pure functions."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from envs.types import Task

from ..types import Trajectory

MAX_TRAIT_VALUES = 12


@dataclass(frozen=True)
class Breakdown:
    """Episodes that share a value of a trait."""

    tasks: int
    scored: int
    pass_rate: float | None


@dataclass(frozen=True)
class EvalSummary:
    """Result of an evaluation. Rates are None where no episode was scored."""

    policy: str
    split: str | None
    seed: int
    tasks: int
    samples: int
    """Requested episodes per task."""
    episodes: int
    scored: int
    unscored: int
    """Episodes whose sandbox or policy failed; they count in no rate."""
    resolved: int
    pass_rate: float | None
    """Resolved share of the scored episodes."""
    pass_rate_stderr: float | None
    """Standard error with episodes of one task as a cluster; None for fewer than two tasks."""
    pass_at: dict[str, float] = field(default_factory=dict)
    """k to pass@k, over tasks with at least k scored episodes, such as `{1: 0.31, 4: 0.52}`."""
    by_task: dict[str, Breakdown] = field(default_factory=dict)
    by_trait: dict[str, dict[str, Breakdown]] = field(default_factory=dict)
    """Trait to value to rate; traits of more than 12 values are left out."""
    stops: dict[str, int] = field(default_factory=dict)
    tampered: int = 0
    """Episodes whose policy changed tests or their configuration."""
    mean_turns: float = 0.0
    format_errors: int = 0
    prompt_tokens: int = 0
    """Tokens the environment added to conversations; 0 for policies without tokens."""
    sampled_tokens: int = 0
    episode_s: float = 0.0
    """Summed duration of all episodes in seconds."""
    wall_s: float = 0.0
    """Wall time in seconds of the process that wrote this summary."""


def summarize(
    trajectories: Sequence[Trajectory],
    tasks: Sequence[Task],
    *,
    policy: str,
    split: str | None,
    samples: int,
    seed: int,
    wall_s: float,
) -> EvalSummary:
    """Score trajectories of `tasks`."""
    outcomes = outcomes_by_task(trajectories)
    scored = [outcome for found in outcomes.values() for outcome in found]
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    ks = sorted({2**power for power in range(samples.bit_length()) if 2**power <= samples} | {samples})
    at = {k: pass_at_k(outcomes.values(), k) for k in ks}
    return EvalSummary(
        policy=policy,
        split=split,
        seed=seed,
        tasks=len(tasks),
        samples=samples,
        episodes=len(trajectories),
        scored=len(scored),
        unscored=len(trajectories) - len(scored),
        resolved=sum(scored),
        pass_rate=_rate(scored),
        pass_rate_stderr=clustered_stderr(outcomes.values()),
        pass_at={str(k): value for k, value in at.items() if value is not None},
        by_task={task.id: _breakdown([task], outcomes) for task in tasks},
        by_trait=_by_trait(tasks, outcomes),
        stops=dict(sorted(Counter(trajectory.stop.value for trajectory in trajectories).items())),
        tampered=sum(bool(t.verdict and t.verdict.tampered) for t in trajectories),
        mean_turns=fmean(len(t.turns) for t in trajectories) if trajectories else 0.0,
        format_errors=sum(bool(turn.action.error) for turn in turns),
        prompt_tokens=sum(len(turn.action.prompt_ids) for turn in turns),
        sampled_tokens=sum(len(turn.action.completion.token_ids) for turn in turns),
        episode_s=sum(trajectory.duration_s for trajectory in trajectories),
        wall_s=wall_s,
    )


def outcomes_by_task(trajectories: Iterable[Trajectory]) -> dict[str, list[bool]]:
    """Task id to whether each scored episode resolved it."""
    outcomes: defaultdict[str, list[bool]] = defaultdict(list)
    for trajectory in trajectories:
        if trajectory.reward is not None:
            outcomes[trajectory.task_id].append(trajectory.reward == 1.0)
    return dict(outcomes)


def pass_at_k(outcomes: Iterable[Sequence[bool]], k: int) -> float | None:
    """Unbiased estimate of solving a task in k attempts, 1 - C(n-c, k) / C(n, k), averaged over tasks.

    Chen et al. 2021, "Evaluating Large Language Models Trained on Code". Tasks with n < k are left out.
    """
    estimates = [
        1.0 - math.comb(len(found) - sum(found), k) / math.comb(len(found), k)
        for found in outcomes
        if len(found) >= k
    ]
    return fmean(estimates) if estimates else None


def clustered_stderr(outcomes: Iterable[Sequence[bool]]) -> float | None:
    """Standard error of the pooled pass rate when episodes of one task depend on each other.

    sqrt(T / (T-1) * sum over tasks of (sum of residuals)^2) / n, the cluster-robust estimate; with equally
    many episodes per task it is the standard error of the mean of the tasks' rates.
    """
    clusters = [found for found in outcomes if found]
    if len(clusters) < 2:
        return None
    count = sum(map(len, clusters))
    rate = sum(map(sum, clusters)) / count
    squares = sum((sum(found) - rate * len(found)) ** 2 for found in clusters)
    return math.sqrt(squares * len(clusters) / (len(clusters) - 1)) / count


def _rate(outcomes: Sequence[bool]) -> float | None:
    return sum(outcomes) / len(outcomes) if outcomes else None


def _breakdown(tasks: Sequence[Task], outcomes: Mapping[str, list[bool]]) -> Breakdown:
    found = [outcome for task in tasks for outcome in outcomes.get(task.id, [])]
    return Breakdown(len(tasks), len(found), _rate(found))


def _by_trait(tasks: Sequence[Task], outcomes: Mapping[str, list[bool]]) -> dict[str, dict[str, Breakdown]]:
    groups: defaultdict[str, defaultdict[str, list[Task]]] = defaultdict(lambda: defaultdict(list))
    for task in tasks:
        for trait, value in task.traits.items():
            groups[trait][str(value)].append(task)
    return {
        trait: {value: _breakdown(members, outcomes) for value, members in sorted(values.items())}
        for trait, values in sorted(groups.items())
        if len(values) <= MAX_TRAIT_VALUES
    }

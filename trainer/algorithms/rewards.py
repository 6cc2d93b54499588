"""Rewards of a step's episodes, made from their verdicts and trajectories.

The default reward is the outcome. Trajectories keep the graded outcome, metrics log the outcome beside any
other reward, and no built-in option gives a failed episode as much as a solved one. The other modes are
controls: they repeat a run with a reward that carries no information about the outcome (`random`, `shuffled`,
`constant`) or only about form (`format`). An improvement under a control is not due to rewarded work
("Spurious Rewards", arXiv 2506.10947).

A reward is a pure function of `RewardInputs`, so that a resumed run gets the same rewards:

    def short(inputs: RewardInputs) -> list[float]:
        return [outcome_of(t) / (1 + len(t.turns)) for t in inputs.trajectories]
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agents.types import Trajectory
from envs.types import StopReason, Verdict
from sandboxes.names import resolve

from ..config import Reward
from ..config_names import REWARDS


@dataclass(frozen=True)
class RewardInputs:
    """The scored episodes of one step."""

    trajectories: Sequence[Trajectory]
    settings: Reward
    """The table `[reward]`; values for a reward of your own are in its `settings`."""
    seed: int
    """Seed of the run."""
    step: int
    budget: int
    """Maximum tokens of an episode (`policy.context_tokens`)."""


RewardFunction = Callable[[RewardInputs], Sequence[float]]
"""One reward per trajectory, in their order."""

CONTROLS = {
    "random": "rewards were drawn by chance",
    "shuffled": "outcomes were dealt out anew among the episodes of each step",
    "constant": "every episode got the same reward",
    "format": "rewards were for well-formed actions, whatever they achieved",
}


def step_rewards(
    trajectories: Sequence[Trajectory],
    settings: Reward,
    *,
    seed: int,
    step: int,
    budget: int,
    reward: RewardFunction | None = None,
) -> dict[str, float]:
    """Reward the scored episodes of a step, by trajectory id; `reward` defaults to what `settings` names."""
    function: RewardFunction = reward or resolve(settings.mode, REWARDS, kind="reward")
    scored = [t for t in trajectories if t.reward is not None and t.verdict is not None]
    given = function(RewardInputs(scored, settings, seed, step, budget))
    return {t.id: value for t, value in zip(scored, given, strict=True)}


def by_outcome(inputs: RewardInputs) -> list[float]:
    """The outcome, and the terms that `[reward]` adds."""
    return [shaped(t, inputs.settings, budget=inputs.budget) for t in inputs.trajectories]


def by_chance(inputs: RewardInputs) -> list[float]:
    """Control: 1 with the probability `reward.chance`, else 0."""
    return [
        float(random.Random(f"{inputs.seed} reward {inputs.step} {name}").random() < inputs.settings.chance)
        for name in _names(inputs.trajectories)
    ]


def by_shuffled_outcome(inputs: RewardInputs) -> list[float]:
    """Control: the step's outcomes, dealt anew among the episodes."""
    dealt = [outcome_of(t) for t in inputs.trajectories]
    random.Random(f"{inputs.seed} shuffled rewards {inputs.step}").shuffle(dealt)
    return dealt


def by_constant(inputs: RewardInputs) -> list[float]:
    """Control: 1 for everything."""
    return [1.0] * len(inputs.trajectories)


def by_format(inputs: RewardInputs) -> list[float]:
    """Control: 1 for a well-formed episode, else 0."""
    return [float(is_well_formed(t)) for t in inputs.trajectories]


def outcome_of(trajectory: Trajectory) -> float:
    """1 when the verdict says resolved, else 0."""
    assert trajectory.verdict is not None, "an episode without a verdict has no outcome"
    return trajectory.verdict.reward


def shaped(trajectory: Trajectory, settings: Reward, *, budget: int) -> float:
    """Return the outcome plus the enabled terms of `[reward]`."""
    assert trajectory.verdict is not None, "an episode without a verdict has no reward"
    reward = trajectory.verdict.reward
    if settings.partial:
        reward += settings.partial * share_passed(trajectory.verdict)
    if settings.length and trajectory.verdict.resolved:
        # Failing briefly is no merit: a group that fails as a whole must not learn to be short.
        reward -= settings.length * min(1.0, sampled_tokens(trajectory) / budget)
    if settings.format:
        reward += settings.format * is_well_formed(trajectory)
    return reward


def share_passed(verdict: Verdict) -> float:
    """Share of the listed tests that passed, from 0 to 1; 0 for a tampered run."""
    listed = len(verdict.passed) + len(verdict.failed) + len(verdict.missing)
    return 0.0 if verdict.tampered or not listed else len(verdict.passed) / listed


def sampled_tokens(trajectory: Trajectory) -> int:
    """Number of sampled tokens in the episode."""
    return sum(len(turn.action.completion.token_ids) for turn in trajectory.turns)


def is_well_formed(trajectory: Trajectory) -> bool:
    """Whether the policy submitted, and every action was readable."""
    return trajectory.stop is StopReason.SUBMITTED and not any(t.action.error for t in trajectory.turns)


def outcome_correlation(trajectories: Sequence[Trajectory], rewards: Mapping[str, float]) -> float | None:
    """Pearson correlation of reward and outcome within groups; None where either does not vary within any.

    Both are centred on their group's mean first, as advantages are: what is left is what can be learned.
    """
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for trajectory in trajectories:
        if trajectory.id in rewards:
            groups[trajectory.group].append((rewards[trajectory.id], outcome_of(trajectory)))
    pairs = [pair for members in groups.values() for pair in _centred(members)]
    spread = math.fsum(x * x for x, _ in pairs) * math.fsum(y * y for _, y in pairs)
    return math.fsum(x * y for x, y in pairs) / math.sqrt(spread) if spread > 1e-18 else None


def banner(settings: Reward) -> str:
    """Return one line about a reward that is not the outcome; empty for the outcome."""
    if settings.mode in CONTROLS:
        return (
            f'Control run (reward.mode = "{settings.mode}"): {CONTROLS[settings.mode]}; '
            "what it learned, it did not learn from outcomes."
        )
    if settings.mode not in REWARDS:
        return f"Reward of its own: {settings.mode}, not the outcome alone."
    terms = [name for name in ("partial", "length", "format") if getattr(settings, name)]
    return f"Shaped reward: the outcome and a term for {', '.join(terms)}." if terms else ""


def _centred(pairs: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    rewards, outcomes = (math.fsum(side) / len(pairs) for side in zip(*pairs, strict=True))
    return ((reward - rewards, outcome - outcomes) for reward, outcome in pairs)


def _names(trajectories: Sequence[Trajectory]) -> Iterator[str]:
    """Name episodes by group and seed, which are the same when a run is resumed; ids are not."""
    seen: Counter[str] = Counter()
    for trajectory in trajectories:
        name = f"{trajectory.group} {trajectory.seed}"
        seen[name] += 1
        yield f"{name} {seen[name]}"

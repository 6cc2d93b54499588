"""What is trained on: rewards of a step's episodes, made from their verdicts and trajectories.

The outcome is the law. It stays in the trajectory as it was graded, is logged beside whatever is used here,
and no option lets a failed episode earn as much as a solved one. The other modes are controls that repeat a
run with a reward which carries no information about the outcome (`random`, `shuffled`, `constant`) or only
about form (`format`): what improves under them did not improve because work was rewarded ("Spurious
Rewards", arXiv 2506.10947).

Everything is a pure function of the settings, the run's seed, the step and the episodes, so that a resumed
run is rewarded as it would have been.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from agents.types import Trajectory
from envs.types import StopReason, Verdict

from ..config import Reward

CONTROLS = {
    "random": "rewards were drawn by chance",
    "shuffled": "outcomes were dealt out anew among the episodes of each step",
    "constant": "every episode got the same reward",
    "format": "rewards were for well-formed actions, whatever they achieved",
}


def step_rewards(
    trajectories: Sequence[Trajectory], settings: Reward, *, seed: int, step: int, budget: int
) -> dict[str, float]:
    """Reward the scored episodes of a step, by trajectory id. `budget`: tokens an episode may sample."""
    scored = [t for t in trajectories if t.reward is not None and t.verdict is not None]
    if settings.mode == "constant":
        return {t.id: 1.0 for t in scored}
    if settings.mode == "format":
        return {t.id: float(is_well_formed(t)) for t in scored}
    if settings.mode == "random":
        names = _names(scored)
        return {
            t.id: float(random.Random(f"{seed} reward {step} {name}").random() < settings.chance)
            for t, name in zip(scored, names, strict=True)
        }
    if settings.mode == "shuffled":
        dealt = [outcome_of(t) for t in scored]
        random.Random(f"{seed} shuffled rewards {step}").shuffle(dealt)
        return {t.id: reward for t, reward in zip(scored, dealt, strict=True)}
    return {t.id: shaped(t, settings, budget=budget) for t in scored}


def outcome_of(trajectory: Trajectory) -> float:
    """1 when the verdict says resolved, else 0."""
    assert trajectory.verdict is not None, "an episode without a verdict has no outcome"
    return trajectory.verdict.reward


def shaped(trajectory: Trajectory, settings: Reward, *, budget: int) -> float:
    """Return the outcome and what the options add to it; with all of them off, the outcome alone."""
    assert trajectory.verdict is not None, "an episode without a verdict has no reward"
    reward = trajectory.verdict.reward
    if settings.partial:
        reward += settings.partial * share_passed(trajectory.verdict)
    if settings.length:
        reward -= settings.length * min(1.0, sampled_tokens(trajectory) / budget)
    if settings.format:
        reward += settings.format * is_well_formed(trajectory)
    return reward


def share_passed(verdict: Verdict) -> float:
    """Part of the listed tests that passed, from 0 to 1; 0 for whoever tampered."""
    listed = len(verdict.passed) + len(verdict.failed) + len(verdict.missing)
    return 0.0 if verdict.tampered or not listed else len(verdict.passed) / listed


def sampled_tokens(trajectory: Trajectory) -> int:
    """Tokens the policy sampled in the episode."""
    return sum(len(turn.action.completion.token_ids) for turn in trajectory.turns)


def is_well_formed(trajectory: Trajectory) -> bool:
    """Whether the policy handed in, and every action of it could be read."""
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
    """Say, in one line, that a run was not trained on the outcome; empty when it was."""
    if settings.mode in CONTROLS:
        return (
            f'Control run (reward.mode = "{settings.mode}"): {CONTROLS[settings.mode]}; '
            "what it learned, it did not learn from outcomes."
        )
    terms = [name for name in ("partial", "length", "format") if getattr(settings, name)]
    return f"Shaped reward: the outcome and a term for {', '.join(terms)}." if terms else ""


def _centred(pairs: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    rewards, outcomes = (math.fsum(side) / len(pairs) for side in zip(*pairs, strict=True))
    return ((reward - rewards, outcome - outcomes) for reward, outcome in pairs)


def _names(trajectories: Sequence[Trajectory]) -> Iterator[str]:
    """Name episodes by what they were asked for, which is the same when a run is resumed; ids are not."""
    seen: Counter[str] = Counter()
    for trajectory in trajectories:
        name = f"{trajectory.group} {trajectory.seed}"
        seen[name] += 1
        yield f"{name} {seen[name]}"

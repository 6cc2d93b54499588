"""Metrics of one step: rewards, lengths, errors and stop reasons of its episodes, and seconds per phase."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from agents.types import Trajectory
from envs.types import StopReason

from .algorithms.advantages import Advantages
from .algorithms.rewards import outcome_correlation

Row = dict[str, float | int | str | None]


def episode_metrics(trajectories: Sequence[Trajectory], rewards: Mapping[str, float] | None = None) -> Row:
    """Summarise episodes as one metrics row. Rates are over scored episodes, and None without any.

    `rewards`, by trajectory id, are the training rewards when these differ from the outcome; `pass_rate`
    always counts outcomes.
    """
    outcomes = [t.reward for t in trajectories if t.reward is not None]
    trained = list(rewards.values()) if rewards is not None else outcomes
    verdicts = [t.verdict for t in trajectories if t.verdict is not None]
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    stops = Counter(trajectory.stop for trajectory in trajectories)
    count = max(1, len(trajectories))
    row: Row = {
        "episodes": len(trajectories),
        "unscored": len(trajectories) - len(outcomes),
        "gradings": sum(not verdict.remembered for verdict in verdicts),
        "graded_from_memory": sum(verdict.remembered for verdict in verdicts),
        "reward_mean": sum(trained) / len(trained) if trained else None,
        "pass_rate": sum(reward == 1.0 for reward in outcomes) / len(outcomes) if outcomes else None,
        "turns": len(turns) / count,
        "tool_calls": sum(len(turn.action.calls) for turn in turns) / count,
        "tool_errors": sum(o.is_error for turn in turns for o in turn.observations if turn.action.calls)
        / count,
        "format_errors": sum(bool(turn.action.error) for turn in turns) / count,
        "prompt_tokens": sum(len(turn.action.prompt_ids) for turn in turns) / count,
        "completion_tokens": sum(len(turn.action.completion.token_ids) for turn in turns) / count,
        "episode_s": sum(trajectory.duration_s for trajectory in trajectories) / count,
        "generate_s": sum(turn.generated_s for turn in turns) / count,
        "act_s": sum(turn.acted_s for turn in turns) / count,
    }
    if rewards is not None:
        row["reward_outcome_correlation"] = outcome_correlation(trajectories, rewards)
    row |= {f"stop_{reason.value}": stops.get(reason, 0) for reason in StopReason}
    return row


def group_metrics(advantages: Advantages) -> Row:
    """Count the live groups, the zero-variance groups and the groups with too few scored members."""
    return {
        "groups": advantages.groups,
        "live_groups": advantages.live,
        "mixed_groups": advantages.mixed,
        "groups_without_spread": advantages.no_spread,
        "groups_too_small": advantages.too_few,
    }


class Stopwatch:
    """Adds up the seconds of its blocks: `with stopwatch: ...`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._started


class Clock:
    """Measures wall-clock seconds per phase of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to the phase `name`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def row(self) -> Row:
        """Return seconds per phase and of the whole step: `{"sample_s": 9.1, "step_s": 12.3}`."""
        return {
            **{f"{name}_s": seconds for name, seconds in self.seconds.items()},
            "step_s": time.monotonic() - self._start,
        }

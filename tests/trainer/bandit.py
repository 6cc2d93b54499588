"""The smallest task there is, played through the real loop and the real learner, without engine or sandbox.

The policy sees one of a few signs and says one token; exactly one token is right for each sign. A learner
that cannot solve this in seconds is broken, and so is one that solves it when rewards are drawn by chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from envs.types import StopReason, Verdict
from sandboxes.progress import Progress, silent
from trainer.data.buffer import Group
from trainer.learning.learner import Learner

START, FIRST_SIGN, FIRST_ANSWER = 1, 2, 16


class BanditActors:
    """Plays with the learner's own model, and so from its newest weights. Implements `loop.RolloutSource`."""

    def __init__(
        self,
        learner: Learner,
        *,
        signs: int = 4,
        samples: int = 16,
        seed: int = 0,
        chance_reward: float | None = None,
        on_collect: Callable[[str], None] = lambda _: None,
    ) -> None:
        """With `chance_reward` every episode is rewarded with that probability, whatever it did: a control.

        `on_collect` is called with the name of every group before it is played.
        """
        self._learner = learner
        self._signs = signs
        self._samples = samples
        self._seed = seed
        self._chance_reward = chance_reward
        self._on_collect = on_collect
        self._started: list[tuple[str, str]] = []

    @property
    def task_ids(self) -> Sequence[str]:
        """One task per sign."""
        return [f"sign-{number}" for number in range(self._signs)]

    def start(self, groups: Sequence[tuple[str, str]]) -> None:
        """Remember which groups are due."""
        self._started += groups

    def ready(self, progress: Progress = silent) -> Iterator[Group]:
        """Say one token per episode."""
        del progress
        started, self._started = self._started, []
        for name, task in started:
            yield Group(name, tuple(self._group(name, task)))

    def publish(self) -> int:
        """The model is shared; its version is all there is to tell."""
        return self._learner.version

    def evaluate(self, step: int, progress: Progress = silent) -> float:
        """Probability of the right token, over all signs."""
        del step, progress
        right = [self._logprobs(sign)[FIRST_ANSWER + sign].exp().item() for sign in range(self._signs)]
        return sum(right) / len(right)

    def forget_after(self, step: int) -> None:
        """Nothing is stored."""

    def _group(self, name: str, task: str) -> list[Trajectory]:
        self._on_collect(name)
        sign = int(task.removeprefix("sign-"))
        logprobs_V = self._logprobs(sign)
        # Seeded by name, so that an episode depends on the weights and on nothing that came before it.
        chance = random.Random(f"{self._seed} {name}")
        said = chance.choices(range(len(logprobs_V)), logprobs_V.exp().tolist(), k=self._samples)
        episodes = []
        for number, token in enumerate(said):
            passed = token == FIRST_ANSWER + sign
            if self._chance_reward is not None:
                passed = chance.random() < self._chance_reward
            spans = (VersionSpan(self._learner.version, 0, 1),)
            completion = Completion((token,), (float(logprobs_V[token]),), spans)
            turn = Turn(Action((), "", (START, FIRST_SIGN + sign), completion), (), 0.0, 0.0)
            episodes.append(
                Trajectory(
                    id=f"{name}/{number}",
                    task_id=task,
                    task_hash="",
                    group=name,
                    policy="bandit",
                    seed=self._seed,
                    turns=(turn,),
                    stop=StopReason.SUBMITTED,
                    reward=float(passed),
                    verdict=Verdict(passed),
                )
            )
        return episodes

    def _logprobs(self, sign: int) -> torch.Tensor:
        ids_BT = torch.tensor([[START, FIRST_SIGN + sign]])
        with torch.no_grad():
            logits_V = self._learner.model(ids_BT).logits[0, -1].float()
        return torch.log_softmax(logits_V / self._learner.config.policy.temperature, dim=-1)


@dataclass(frozen=True)
class Bar:
    """What several seeds must reach, so that rounding, which differs between processors, decides nothing.

    A sign on which the policy settled before it met the right answer gives no more signal and is never
    learned: a run in four ends at .75. The bar lies between such runs and those that learn nothing.
    """

    mean: float = 0.6
    worst: float = 0.4

    def is_met(self, ends: Sequence[float]) -> bool:
        """Whether the ends of several runs (probability of the right token) are those of a learner."""
        return sum(ends) / len(ends) > self.mean and min(ends) > self.worst

"""A trajectory as one row of tokens to learn from. The only place that builds masks.

    ids   = prompt, sampled, observation, sampled, …      (what the policy saw and wrote, in order)
    mask  = true exactly on the sampled ids               (end-of-turn tokens included)

Ids are concatenated, never rendered again, so what is trained on is what was seen and sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.types import Trajectory

NOT_SAMPLED = -1


@dataclass(frozen=True)
class Sample:
    """One row. All four sequences have the same length."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    """True exactly on sampled ids."""
    logprobs: tuple[float, ...]
    """Of the sampling distribution (nats); 0 where nothing was sampled or nobody knows."""
    versions: tuple[int, ...]
    """Weight version that sampled each id; -1 where nothing was sampled or nobody knows."""
    advantage: float = 1.0
    trajectory: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.mask), len(self.logprobs), len(self.versions)}
        assert len(lengths) == 1, (
            f"sample {self.trajectory}: ids, mask, logprobs and versions differ in length"
        )
        assert not (self.mask and self.mask[0]), (
            f"sample {self.trajectory}: nothing comes before the first id, so it cannot have been sampled"
        )

    @property
    def sampled(self) -> int:
        """How many ids were sampled."""
        return sum(self.mask)

    @property
    def oldest_version(self) -> int | None:
        """Oldest weights any sampled id came from; None when unknown."""
        return min((v for v in self.versions if v != NOT_SAMPLED), default=None)


def from_trajectory(trajectory: Trajectory, advantage: float = 1.0) -> Sample | None:
    """Lay a token trajectory out as one row; None when it holds no sampled token."""
    ids: list[int] = []
    mask: list[bool] = []
    logprobs: list[float] = []
    versions: list[int] = []
    for turn in trajectory.turns:
        seen, said = turn.action.prompt_ids, turn.action.completion
        ids += (*seen, *said.token_ids)
        mask += [False] * len(seen) + [True] * len(said.token_ids)
        logprobs += (*[0.0] * len(seen), *said.logprobs)
        versions += [NOT_SAMPLED] * len(seen)
        versions += [span.version for span in said.versions for _ in range(span.start, span.end)]
    if not any(mask):
        return None
    # What was seen after the last sampled id predicts nothing that is learned from.
    end = len(mask) - mask[::-1].index(True)
    return Sample(
        tuple(ids[:end]),
        tuple(mask[:end]),
        tuple(logprobs[:end]),
        tuple(versions[:end]),
        advantage,
        trajectory.id,
        trajectory.group,
    )


def from_transcript(
    ids: Sequence[int], sampled: Sequence[bool], name: str = "", weight: float = 1.0
) -> Sample:
    """Make a row of an episode that was played without tokens and written down as tokens afterwards.

    `ids` and `sampled` come from `ChatCodec.transcribe`. Its log-probabilities are unknown, so it serves
    supervised learning only.
    """
    count = len(ids)
    return Sample(tuple(ids), tuple(sampled), (0.0,) * count, (NOT_SAMPLED,) * count, weight, name)


def shortened(sample: Sample, limit: int) -> Sample | None:
    """Keep the first `limit` ids of a row; None when no sampled id is left."""
    if len(sample.ids) <= limit:
        return sample
    if not any(sample.mask[:limit]):
        return None
    return replace(
        sample,
        ids=sample.ids[:limit],
        mask=sample.mask[:limit],
        logprobs=sample.logprobs[:limit],
        versions=sample.versions[:limit],
    )

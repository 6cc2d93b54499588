"""A trajectory as one row of training tokens. The only place that builds loss masks.

    ids   = prompt, sampled, observation, sampled, …      (what the policy saw and wrote, in order)
    mask  = true exactly on the sampled ids               (end-of-turn tokens included)

Ids are concatenated, never decoded and encoded again, so training uses the sampled tokens themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.types import Trajectory

NOT_SAMPLED = -1
"""Weight version of an id that was not sampled, or whose weights are unknown."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One row of T ids. Every array has the shape (T,).

    `Sample.of([1, 2, 3], [False, True, True])` fills the other arrays with their defaults.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    """True exactly on sampled ids."""
    logprobs: NDArray[np.float64]
    """Behaviour log-probabilities (nats); 0 where nothing was sampled or the value is unknown."""
    versions: NDArray[np.int64]
    """Weight version that sampled each id; -1 where nothing was sampled or the version is unknown."""
    advantages: NDArray[np.float64]
    """Advantage of each token; read on sampled ids only."""
    trajectory: str = ""
    group: str = ""
    parent: str | None = None
    """Id of the episode that this one branched from (`Trajectory.branch_of`)."""
    branch_at: int = 0
    """Number of leading ids shared with every other branch of the parent."""

    @classmethod
    def of(
        cls,
        ids: ArrayLike,
        mask: ArrayLike,
        logprobs: ArrayLike = 0.0,
        versions: ArrayLike = NOT_SAMPLED,
        advantages: ArrayLike = 1.0,
        *,
        trajectory: str = "",
        group: str = "",
    ) -> Sample:
        """Make a row from array-likes; a single number is repeated T times."""
        row = np.asarray(ids, dtype=np.int64)

        def full(values: ArrayLike, kind: type) -> NDArray:
            given = np.asarray(values, dtype=kind)
            return np.full(row.shape, given) if given.ndim == 0 else given

        return cls(
            row,
            full(mask, np.bool_),
            full(logprobs, np.float64),
            full(versions, np.int64),
            full(advantages, np.float64),
            trajectory,
            group,
        )

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.ids, self.mask, self.logprobs, self.versions, self.advantages)}
        assert len(shapes) == 1, f"sample {self.trajectory}: its arrays differ in length"
        assert not self.mask[:1].any(), (
            f"sample {self.trajectory}: nothing comes before the first id, so it cannot have been sampled"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sample):
            return NotImplemented
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    @property
    def sampled(self) -> int:
        """Number of sampled ids."""
        return int(self.mask.sum())

    @property
    def oldest_version(self) -> int | None:
        """Oldest weight version among the sampled ids; None when unknown."""
        known = self.versions[self.versions != NOT_SAMPLED]
        return int(known.min()) if known.size else None


def from_trajectory(trajectory: Trajectory, advantage: float = 1.0) -> Sample | None:
    """Lay a token trajectory out as one row; None when no token in it was sampled."""
    ids: list[int] = []
    mask: list[bool] = []
    logprobs: list[float] = []
    versions: list[int] = []
    branch_at = 0
    for number, turn in enumerate(trajectory.turns):
        prompt, completion = turn.action.prompt_ids, turn.action.completion
        if trajectory.branch_of is not None and number <= trajectory.branch_after:
            # The prompt of the first turn of its own shows what the last shared turn observed.
            branch_at = len(ids) + len(prompt)
        ids += (*prompt, *completion.token_ids)
        mask += [False] * len(prompt) + [True] * len(completion.token_ids)
        logprobs += (*[0.0] * len(prompt), *completion.logprobs)
        versions += [NOT_SAMPLED] * len(prompt)
        versions += [span.version for span in completion.versions for _ in range(span.start, span.end)]
    if not any(mask):
        return None
    # What was seen after the last sampled id predicts nothing that is learned from.
    end = len(mask) - mask[::-1].index(True)
    row = Sample.of(
        ids[:end],
        mask[:end],
        logprobs[:end],
        versions[:end],
        advantage,
        trajectory=trajectory.id,
        group=trajectory.group,
    )
    return replace(row, parent=trajectory.branch_of, branch_at=min(branch_at, end))


def from_transcript(ids: Sequence[int], sampled: Sequence[bool], name: str = "") -> Sample:
    """Make a row from an episode that was played without tokens and transcribed afterwards.

    `ids` and `sampled` come from `ChatCodec.transcribe`. The log-probabilities are unknown, so the row serves
    SFT only.
    """
    return Sample.of(ids, sampled, trajectory=name)


def shortened(sample: Sample, limit: int) -> Sample | None:
    """Keep the first `limit` ids of a row; None when no sampled id is left."""
    if len(sample.ids) <= limit:
        return sample
    if not sample.mask[:limit].any():
        return None
    return replace(
        sample,
        ids=sample.ids[:limit],
        mask=sample.mask[:limit],
        logprobs=sample.logprobs[:limit],
        versions=sample.versions[:limit],
        advantages=sample.advantages[:limit],
        branch_at=min(sample.branch_at, limit),
    )

"""Protocol of a generation engine: ids in, sampled ids with behaviour log-probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .types import Completion, VersionSpan


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters.

    Top-p, top-k and penalties are left out on purpose: they change the sampled distribution, and the
    log-probabilities of a truncated distribution bias every importance ratio.
    """

    temperature: float = 1.0
    max_tokens: int = 1024
    """Maximum tokens of one completion."""
    stop_ids: tuple[int, ...] = ()
    """Ids that end a completion; the completion includes the stop id."""

    def __post_init__(self) -> None:
        assert self.temperature >= 0, f"temperature must not be negative, got {self.temperature}"
        assert self.max_tokens > 0, f"max_tokens must be positive, got {self.max_tokens}"


class TokenEngine(Protocol):
    """Samples continuations of token ids. Called from many threads at once."""

    def generate(self, ids: Sequence[int], sampling: Sampling, *, seed: int, deadline: float) -> Completion:
        """Sample until a stop id, `max_tokens`, or `deadline` (a `time.monotonic()` value).

        At the deadline the completion comes back with `finish_reason` `abort`. Raises `PolicyError` when the
        engine itself fails.
        """
        ...


class ScriptedEngine:
    """An engine whose tokens come from a callable: for tests and dry runs."""

    def __init__(self, script: Callable[[tuple[int, ...]], Sequence[int]], *, version: int = 0) -> None:
        self._script = script
        self.version = version

    def generate(self, ids: Sequence[int], sampling: Sampling, *, seed: int, deadline: float) -> Completion:
        """Return the script's answer to `ids`, cut as a real engine would cut it; log-probabilities are 0."""
        del seed, deadline  # a script is deterministic and answers at once
        tokens: list[int] = []
        finish = "length"
        for token in self._script(tuple(ids)):
            if len(tokens) == sampling.max_tokens:
                break
            tokens.append(token)
            if token in sampling.stop_ids:
                finish = "stop"
                break
        spans = (VersionSpan(self.version, 0, len(tokens)),) if tokens else ()
        return Completion(tuple(tokens), (0.0,) * len(tokens), spans, finish)

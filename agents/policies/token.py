"""A policy that samples tokens; its conversation is one append-only list of ids."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace

from envs.tools.base import ToolSpec
from envs.types import Observation, StopReason, Task

from ..chat import ChatCodec
from ..dialects import FormatProblem
from ..engine import Sampling, TokenEngine
from ..types import Action, PolicyError


class TokenPolicy:
    """Works on tasks through a `TokenEngine`. Every session shares the engine and the codec."""

    def __init__(
        self,
        engine: TokenEngine,
        codec: ChatCodec,
        sampling: Sampling,
        *,
        max_context: int,
        name: str = "tokens",
    ) -> None:
        """`max_context` bounds the conversation in tokens, completions included."""
        self.name = name
        self.engine = engine
        self.codec = codec
        self.sampling = replace(sampling, stop_ids=sampling.stop_ids or codec.stop_ids)
        self.max_context = max_context

    def start(self, task: Task, tools: Sequence[ToolSpec], first: Observation, *, seed: int) -> TokenSession:
        """Encode system prompt, tools and task; sampling starts with `act`."""
        del task  # the policy knows of it what the environment shows
        return TokenSession(self, tools, self.codec.open(first.text, tools), seed)

    def close(self) -> None:
        """Do nothing: the caller owns the engine."""


class TokenSession:
    """One conversation. Ids are only ever appended to it."""

    def __init__(self, policy: TokenPolicy, tools: Sequence[ToolSpec], opening: tuple[int, ...], seed: int):
        self._policy = policy
        self._tools = tools
        self._seed = seed
        self._turn = 0
        self._pending = opening  # appended by the environment, not yet sent
        self._ids: list[int] = []  # everything the engine has been sent, and has sampled
        self._completion: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids of the conversation, prompt and sampled, in order."""
        return tuple(self._ids)

    def act(self, *, deadline: float) -> Action | StopReason:
        """Sample a completion and parse its calls; stop with MAX_TOKENS when the context is full."""
        policy, prompt_ids = self._policy, self._pending
        room = policy.max_context - len(self._ids) - len(prompt_ids)
        if room <= 0:
            return StopReason.MAX_TOKENS
        sampling = replace(policy.sampling, max_tokens=min(policy.sampling.max_tokens, room))
        # One seed per turn, far enough apart that neighbouring episodes never share one.
        seed = (self._seed + 1_000_003 * self._turn) % 2**31
        completion = policy.engine.generate([*self._ids, *prompt_ids], sampling, seed=seed, deadline=deadline)
        if completion.finish_reason == "abort":
            if time.monotonic() >= deadline:
                return StopReason.TIME
            raise PolicyError("the engine gave up on a completion before its deadline; is it shutting down?")
        self._ids += [*prompt_ids, *completion.token_ids]
        self._pending, self._completion = (), completion.token_ids
        self._turn += 1
        text, read = policy.codec.parse(completion.token_ids, self._tools)
        if isinstance(read, FormatProblem):
            cut = f"Your answer was cut off after {len(completion.token_ids)} tokens. "
            error = (cut if completion.finish_reason == "length" else "") + read.text
            return Action((), text, prompt_ids, completion, error)
        calls = tuple(replace(call, id=f"call_{self._turn}_{i}") for i, call in enumerate(read, 1))
        return Action(calls, text, prompt_ids, completion)

    def observe(self, observations: Sequence[Observation]) -> None:
        """Encode the observations of the last action, to be appended before the next completion."""
        assert not self._pending, "observe() comes after act(), once"
        self._pending = self._policy.codec.extend(observations, after=self._completion)

    def fork(self, *, seed: int) -> TokenSession:
        """Return a session with a copy of the ids and another seed."""
        other = copy.copy(self)
        other._seed, other._ids = seed, list(self._ids)
        return other

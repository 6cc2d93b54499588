"""Tokens per second of vLLM alone and of requests to the engine: batched, a Ray call per request, with seeds.

One engine serves all kinds of requests in turn, so that a slower phase of the machine affects all alike.
Every prompt is new. A stream is a thread, or a coroutine in the actor, that waits for each answer before the
next request.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trainer
from agents.engine import Sampling
from agents.types import Completion, PolicyError
from envs.tools.toolset import tool_specs
from sandboxes.progress import Progress, silent
from trainer.cluster import session as cluster
from trainer.cluster.calls import RemoteActor
from trainer.config import Engine, Tiny
from trainer.engine import actor
from trainer.engine.actor import EngineActor, EngineSpec
from trainer.engine.batching import CompletionRequest
from trainer.engine.client import EngineClient
from trainer.learning.tiny import make_tiny

PROMPT_TOKENS, CONTEXT_TOKENS = 256, 1024
SHAPES = ((1, 128, 1), (8, 128, 1), (64, 128, 1), (64, 16, 4))
"""Streams, tokens sampled for each request, and requests of a stream in one round."""
START_S, ANSWER_S = 300.0, 300.0
Row = dict[str, float]


class MeasuredActor(EngineActor):
    """An engine actor with two more methods: plain vLLM requests, and requests without batches."""

    async def alone(self, prompts: Sequence[Sequence[Sequence[int]]], sampled: int) -> int:
        """Run one stream per item of `prompts` with vLLM alone; return the number of sampled tokens."""
        engine, params = self._usable(), actor._sampling(Sampling(1.0, sampled), None)
        names = itertools.count()

        async def stream(own: Sequence[Sequence[int]]) -> int:
            tokens = 0
            for ids in own:
                output = await actor._last(engine, ids, params, f"alone-{next(names)}-{time.monotonic()}")
                tokens += len(output.outputs[0].token_ids) if output else 0
            return tokens

        return sum(await asyncio.gather(*map(stream, prompts)))

    async def generate(self, request: CompletionRequest) -> Completion:
        return await self._generate(request)

    async def use_seeds(self, on: bool) -> None:
        self._spec = replace(self._spec, options=self._spec.options.model_copy(update={"seeded": on}))


def measure(*, rounds: int = 5, progress: Progress = silent) -> dict[str, Row]:
    """Return a row per kind of request and shape: median tokens per second, and their share of vLLM alone."""
    progress("starting the engine", 0, 1)
    with _engine() as (remote, client, start_s):
        progress("starting the engine", 1, 1)
        rows: dict[str, Row] = {"engine start": {"seconds": start_s}}
        for shape in SHAPES:
            name = f"{shape[0]} at once, {shape[1]} sampled"
            rates = _rates(remote, client, shape, rounds=rounds, progress=progress)
            alone = statistics.median(rates["vLLM alone"])
            for way, values in rates.items():
                rate = statistics.median(values)
                rows[f"{name}: {way}"] = {"tokens_per_s": rate, "of_vllm_alone": rate / alone}
    return rows


def _rates(
    remote: RemoteActor, client: EngineClient, shape: tuple[int, int, int], *, rounds: int, progress: Progress
) -> dict[str, list[float]]:
    streams, sampled, turns = shape
    numbers = itertools.count(SHAPES.index(shape) * 100_000)

    def threads(ask: Callable[[Sequence[int], int], Completion]) -> int:
        def stream(own: Sequence[Sequence[int]]) -> int:
            return sum(len(ask(ids, next(numbers)).token_ids) for ids in own)

        with ThreadPoolExecutor(streams) as pool:
            return sum(pool.map(stream, prompts()))

    def prompts() -> list[list[list[int]]]:
        return [[_prompt(next(numbers)) for _ in range(turns)] for _ in range(streams)]

    def batched(ids: Sequence[int], seed: int) -> Completion:
        return client.generate(ids, Sampling(1.0, sampled), seed=seed, deadline=time.monotonic() + ANSWER_S)

    def a_call_each(ids: Sequence[int], seed: int) -> Completion:
        request = CompletionRequest(0, tuple(ids), Sampling(1.0, sampled), seed, ANSWER_S)
        return remote.call("generate", ANSWER_S, request)

    ways: dict[str, tuple[bool, Callable[[], int]]] = {
        "vLLM alone": (False, lambda: remote.call("alone", ANSWER_S, prompts(), sampled)),
        "batched": (False, lambda: threads(batched)),
        "a call each": (False, lambda: threads(a_call_each)),
        "batched, seeds": (True, lambda: threads(batched)),
        "a call each, seeds": (True, lambda: threads(a_call_each)),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, (seeds, work) in ways.items():
            progress(f"measuring {streams} streams", number, rounds + 1)
            remote.call("use_seeds", ANSWER_S, seeds)
            started = time.perf_counter()
            tokens = work()
            if number:  # the first round warms up
                rates[way].append(tokens / (time.perf_counter() - started))
    return rates


@contextmanager
def _engine() -> Iterator[tuple[RemoteActor, EngineClient, float]]:
    """Start an engine for a new tiny model; yield the actor, a client, and the seconds of the start."""
    with cluster.start() as ray:
        folder = ray.scratch() / "model"
        text = [
            path.read_text(encoding="utf-8") for path in sorted(Path(trainer.__file__).parent.rglob("*.py"))
        ]
        make_tiny(folder, Tiny(), text=text, tools=tool_specs(), context_tokens=CONTEXT_TOKENS, seed=0)
        started = time.perf_counter()
        spec = EngineSpec(str(folder), Engine(), CONTEXT_TOKENS)
        options: dict[str, Any] = {"num_cpus": 0}
        remote = RemoteActor.start(MeasuredActor, spec, options=options, what="the engine", error=PolicyError)
        client = EngineClient(remote, remote.call("start", START_S))
        try:
            yield remote, client, time.perf_counter() - started
        finally:
            client.close()


def _prompt(number: int) -> list[int]:
    """Return the token ids of a prompt that shares no cache block with other prompts."""
    first = [number % 200, number // 200 % 200, number // 40_000 % 200]
    return [
        300 + token for token in (*first, *((number * 31 + n * 7) % 200 for n in range(PROMPT_TOKENS - 3)))
    ]

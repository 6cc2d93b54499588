"""The engine's Ray actor, which owns vLLM's `AsyncLLM`. Callers use its client (`trainer.engine.client`)."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agents.engine import Sampling
from agents.types import Completion, PolicyError, VersionSpan

from ..cluster import reaping
from ..config import Engine
from .batching import Answers, CompletionRequest
from .weights import check_fit, shapes

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

ABORT_S = 5.0
"""Seconds to wait for the tokens that an aborted request has sampled."""
REASON_CHARS = 400
"""Characters of vLLM's reason for not starting."""
SETTLE_S = 0.001
"""Seconds between the first completion of an answer to `collect` and the answer."""


@dataclass
class Outbox:
    """Completions of one caller that no `collect` has fetched yet."""

    answers: dict[int, Completion | str] = field(default_factory=dict)
    filled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class EngineSpec:
    """Model and options of an engine."""

    model: str
    """A model folder, or a model's name on the hub."""
    options: Engine
    context_tokens: int
    version: int = 0
    """Version of the weights in `model`."""


class EngineActor:
    """Runs in a Ray actor. Its methods share one event loop; vLLM adds processes of its own."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: AsyncLLM | None = None
        self._broken = ""
        self._segments: set[Path] = set()
        self._numbers = itertools.count()
        self._outboxes: dict[str, Outbox] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._stats: dict[str, int] = dict.fromkeys(
            ("requests", "prompt_tokens", "cached_tokens", "sampled_tokens"), 0
        )

    async def start(self) -> int:
        """Build the engine; returns this process's id."""
        os.environ.update(_environment(self._spec))
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            self._engine = AsyncLLM.from_engine_args(_arguments(self._spec))
        except Exception as error:  # vLLM's own kinds of errors do not travel, and their texts fill a screen
            raise PolicyError(" ".join(str(error).split())[:REASON_CHARS]) from None
        self._segments = reaping.remember_shared_memory()
        await self._engine.update_weight_version(str(self._spec.version))
        return os.getpid()

    async def submit(self, caller: str, requests: Sequence[CompletionRequest]) -> None:
        """Begin to sample completions, which the caller fetches with `collect`."""
        for request in requests:
            task = asyncio.ensure_future(self._answer(caller, request))
            self._tasks.add(task)  # the event loop itself holds no strong reference
            task.add_done_callback(self._tasks.discard)

    async def collect(self, caller: str, seconds: float) -> Answers:
        """Wait until a completion of the caller has ended; return all that have, or none after `seconds`."""
        outbox = self._outboxes.setdefault(caller, Outbox())
        with suppress(TimeoutError):
            await asyncio.wait_for(outbox.filled.wait(), seconds)
            await asyncio.sleep(SETTLE_S)  # completions of one step of the engine end one after another
        self._outboxes.pop(caller, None)
        return outbox.answers

    async def _answer(self, caller: str, request: CompletionRequest) -> None:
        """Sample one completion and put it, or the reason why there is none, into the caller's outbox."""
        try:
            answer: Completion | str = await self._generate(request)
        except PolicyError as error:
            answer = str(error)
        except Exception as error:  # a defect; the caller must not wait for its deadline
            answer = f"the engine could not generate: {type(error).__name__}: {error}"
        outbox = self._outboxes.setdefault(caller, Outbox())
        outbox.answers[request.number] = answer
        outbox.filled.set()

    async def _generate(self, request: CompletionRequest) -> Completion:
        """Sample a continuation; after `request.seconds`, return the tokens sampled so far."""
        engine, ids = self._usable(), request.ids
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        name = str(next(self._numbers))
        seed = request.seed if self._spec.options.seeded else None
        work = asyncio.ensure_future(_last(engine, ids, _sampling(request.sampling, seed), name))
        try:
            await asyncio.wait({work}, timeout=request.seconds)
            if not work.done():
                await engine.abort(name)
                await asyncio.wait({work}, timeout=ABORT_S)
            if not work.done():
                work.cancel()
                raise PolicyError(f"the engine did not abort a request within {ABORT_S:.0f} s")
            output = work.result()
        except EngineDeadError:
            raise PolicyError(self._broken or "the engine's worker process died") from None
        except (VLLMClientError, ValueError) as error:  # vLLM refuses the request
            raise PolicyError(f"the engine refused {len(ids)} ids: {error}") from None
        if output is None:
            return Completion(finish_reason="abort")
        completion = _completion(output.outputs[0])
        self._stats["requests"] += 1
        self._stats["prompt_tokens"] += len(ids)
        self._stats["cached_tokens"] += output.num_cached_tokens or 0
        self._stats["sampled_tokens"] += len(completion.token_ids)
        return completion

    def stats(self) -> dict[str, int]:
        """Count since the start: requests, and prompt, cached and sampled tokens."""
        return dict(self._stats)

    async def score(self, ids: Sequence[int]) -> list[float]:
        """Log-probabilities of `ids[1:]` at temperature 1, under the present weights."""
        from vllm import SamplingParams

        engine = self._usable()
        params = SamplingParams(temperature=1.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        output = await _last(engine, ids, params, f"score-{next(self._numbers)}")
        if output is None or output.prompt_logprobs is None:
            raise PolicyError("the engine gave no log-probabilities for the ids to score")
        rows = list(output.prompt_logprobs)[1:]  # nothing predicts the first id
        return [row[i].logprob for row, i in zip(rows, list(ids)[1:], strict=True) if row is not None]

    async def update_weights_from(self, path: str, version: int) -> None:
        """Load a checkpoint file as `version`, between two tokens of the requests in flight.

        A file that does not fit is refused before any weight changes. A later failure leaves unknown weights:
        the engine then gives up, and every later request fails with the reason.
        """
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        engine = self._usable()
        if Path(self._spec.model).is_dir():
            check_fit(shapes(Path(path)), shapes(Path(self._spec.model)))
        # Requests are held where they are; cached keys and values are of the old weights, and forgotten.
        await engine.pause_generation(mode="keep", clear_cache=True)
        try:
            await engine.start_weight_update()
            await engine.update_weights(WeightTransferUpdateRequest({"path": path}))
            await engine.finish_weight_update(str(version))
        except Exception as error:
            self.give_up(f"the update to weights {version} failed half-way ({error}); start the engine anew")
            raise PolicyError(self._broken) from None
        await engine.resume_generation()

    async def version(self) -> int:
        """Version of the weights in use."""
        return int(await self._usable().get_weight_version())

    def give_up(self, why: str) -> None:
        """End vLLM; from now on every request fails with the sentence `why`."""
        self._broken = why
        self.stop()

    def stop(self) -> None:
        """End vLLM's processes."""
        engine, self._engine = self._engine, None
        self._broken = self._broken or "the engine was stopped"
        if engine is not None:
            engine.shutdown()
            for segment in self._segments:  # vLLM leaves some behind
                segment.unlink(missing_ok=True)

    def _usable(self) -> AsyncLLM:
        if self._engine is None or self._broken:
            raise PolicyError(self._broken or "the engine has not been started")
        return self._engine


async def _last(
    engine: AsyncLLM, ids: Sequence[int], params: SamplingParams, name: str
) -> RequestOutput | None:
    last = None
    async for output in engine.generate({"prompt_token_ids": list(ids)}, params, name):
        last = output
    return last


def _sampling(sampling: Sampling, seed: int | None) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        stop_token_ids=list(sampling.stop_ids),
        ignore_eos=True,  # only `stop_ids` end a completion
        seed=seed,
        logprobs=0,  # of the sampled token alone
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(output: CompletionOutput) -> Completion:
    ids = tuple(output.token_ids)
    rows = output.logprobs or ()
    return Completion(
        token_ids=ids,
        logprobs=tuple(row[token].logprob for row, token in zip(rows, ids, strict=True) if row is not None),
        versions=tuple(VersionSpan(int(s.version), s.start, s.end) for s in output.weight_versions or ()),
        finish_reason=output.finish_reason or "abort",
    )


def _arguments(spec: EngineSpec) -> AsyncEngineArgs:
    from vllm import AsyncEngineArgs
    from vllm.config import WeightTransferConfig
    from vllm.platforms import current_platform
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    options = spec.options
    on_cpu = current_platform.is_cpu()
    # On a CPU, vLLM starts a worker process in order to set OpenMP's variables, which are set here already;
    # that process and the engine's would wait for each other in busy loops, at every token.
    alone = UniProcExecutor if on_cpu and options.tensor_parallel == 1 else None
    return AsyncEngineArgs(
        model=spec.model,
        skip_tokenizer_init=True,
        dtype=options.dtype,
        max_model_len=spec.context_tokens,
        seed=0 if options.seeded else secrets.randbits(31),  # a resumed run must not draw the same again
        max_num_seqs=options.max_num_seqs,
        block_size=options.block_size,
        enable_prefix_caching=True,
        enforce_eager=options.enforce_eager,
        tensor_parallel_size=options.tensor_parallel,
        distributed_executor_backend=alone,
        gpu_memory_utilization=options.gpu_memory_utilization,
        kv_cache_memory_bytes=int(options.kv_cache_gib * 2**30) if on_cpu else None,
        # A prompt that vLLM splits kills it on a CPU: it then rewinds the request's seeded generator, and
        # those of a CPU cannot be rewound.
        enable_chunked_prefill=False if on_cpu else None,
        max_num_batched_tokens=max(spec.context_tokens, 4096) if on_cpu else None,
        logprobs_mode="processed_logprobs",  # of the distribution at the temperature that is sampled from
        generation_config="vllm",  # not the model's own top_p and top_k
        worker_extension_cls="trainer.engine.transfer.Extension",
        weight_transfer_config=WeightTransferConfig(backend="file"),
        disable_log_stats=True,
    )


def _environment(spec: EngineSpec) -> dict[str, str]:
    """Environment variables that vLLM reads when it is imported."""
    variables = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # bound threads and a learner's would fight for one core
        "OMP_NUM_THREADS": str(spec.options.cpu_threads),
    }
    if Path(spec.model).is_dir():
        variables["HF_HUB_OFFLINE"] = "1"  # a model that is here needs no look at the hub
    return variables

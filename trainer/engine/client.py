"""Generation with vLLM: ids in, sampled ids with log-probabilities and weight versions out.

`EngineClient` is what the rest of the system holds of an engine (`trainer.engine.actor`, a Ray actor).
`VLLMPolicy` is the policy that acts through one. Log-probabilities are those of the distribution that was
sampled from; each token carries the version of the weights it came from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.chat import ChatCodec
from agents.engine import Sampling
from agents.policies.token import TokenPolicy
from agents.types import Completion, PolicyError

from ..cluster import session as cluster
from ..cluster.session import Cluster, ClusterError
from ..config import Engine, Policy
from .actor import ABORT_S, EngineActor, EngineSpec
from .weights import WeightError, WeightProbe

_ANSWER_S = 15.0
"""What a message to the engine and back may take, on top of the work that was asked for."""
_TRANSFER_S = 300.0
"""One step of a weight transfer; vLLM's protocol has no deadlines of its own."""


class EngineClient:
    """An engine as others see it: blocking, thread-safe, picklable. Every wait has a deadline.

    Whatever goes wrong in the engine arrives as `PolicyError`; after its death, at once.
    """

    def __init__(self, actor: Any, pid: int) -> None:
        self._actor = actor
        self.pid = pid
        """Of the actor's process."""
        self._closed = False

    def generate(self, ids: Sequence[int], sampling: Sampling, *, seed: int, deadline: float) -> Completion:
        """Sample until a stop id, `max_tokens` or the deadline. See `agents.engine.TokenEngine`."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            return Completion(finish_reason="abort")
        call = self._actor.generate.remote(tuple(ids), sampling, seed, seconds)
        return self._answer(call, seconds + ABORT_S + _ANSWER_S)

    def score(self, ids: Sequence[int], *, timeout_s: float) -> list[float]:
        """Log-probabilities (nats) of `ids[1:]` at temperature 1, under the present weights."""
        return self._answer(self._actor.score.remote(tuple(ids)), timeout_s)

    def stats(self, *, timeout_s: float = _ANSWER_S) -> dict[str, int]:
        """Count since the start: requests, and prompt, cached and sampled tokens."""
        return self._answer(self._actor.stats.remote(), timeout_s)

    def version(self, *, timeout_s: float = _ANSWER_S) -> int:
        """The version of the weights that are in use."""
        return self._answer(self._actor.version.remote(), timeout_s)

    def update_weights_from(
        self, path: Path, version: int, *, timeout_s: float, canary: WeightProbe | None = None
    ) -> None:
        """Replace the weights by those in a checkpoint file; see `trainer.engine.weights.publish`.

        Raises `WeightError` when the file does not fit and the engine goes on as it was, `PolicyError` when
        the engine is lost or does not compute what `canary` says.
        """
        self._answer(self._actor.update_weights_from.remote(str(path), version), timeout_s)
        self._check(canary, version, timeout_s)

    def update_weights_with(
        self, send: Callable[[], None], version: int, *, timeout_s: float, canary: WeightProbe | None = None
    ) -> None:
        """Replace the weights by what `send` transfers through the four methods below."""
        self._answer(self._actor.pause.remote(), timeout_s)
        try:
            send()
            self._answer(self._actor.set_version.remote(version), timeout_s)
        except Exception as error:
            why = f"the update to weights {version} failed half-way ({error}); start the engine anew"
            self._answer(self._actor.give_up.remote(why), timeout_s)
            raise PolicyError(why) from error
        self._answer(self._actor.resume.remote(), timeout_s)
        self._check(canary, version, timeout_s)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Part of vLLM's `VLLMWeightSyncClient`, with the three below."""
        self._answer(self._actor.init_weight_transfer_engine.remote(init_info), _TRANSFER_S)

    def start_weight_update(self) -> None:
        """Make the model ready to take weights."""
        self._answer(self._actor.start_weight_update.remote(), _TRANSFER_S)

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Take weights, some or all."""
        self._answer(self._actor.update_weights.remote(update_info), _TRANSFER_S)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Put the new weights to use."""
        self._answer(self._actor.finish_weight_update.remote(weight_version), _TRANSFER_S)

    def close(self) -> None:
        """End the engine. Safe to call twice; never raises."""
        import ray

        if self._closed or not ray.is_initialized():
            return
        self._closed = True
        try:
            self._answer(self._actor.stop.remote(), _ANSWER_S)
        except PolicyError:
            pass  # it is gone, which was the point
        ray.kill(self._actor)

    def _check(self, canary: WeightProbe | None, version: int, timeout_s: float) -> None:
        if canary is None:
            return
        difference = canary.difference(self.score(canary.ids, timeout_s=timeout_s))
        if not difference <= canary.tolerance:
            why = (
                f"after the update to weights {version} the engine's log-probabilities differ from the "
                f"learner's by {difference:.3g} nats, more than {canary.tolerance:.3g}"
            )
            self._answer(self._actor.give_up.remote(why), timeout_s)
            raise PolicyError(why)

    def _answer(self, call: Any, timeout_s: float) -> Any:
        """Wait for the actor; the one place where Ray's errors are translated."""
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

        try:
            return ray.get(call, timeout=timeout_s)
        except GetTimeoutError:
            raise PolicyError(f"the engine did not answer within {timeout_s:.0f} s") from None
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, PolicyError | WeightError):
                raise type(cause)(str(cause)) from None
            raise PolicyError(f"the engine failed: {type(cause).__name__}: {cause}") from None
        except RayActorError:
            raise PolicyError("the engine's process died") from None
        except RayError as error:
            raise PolicyError(f"the engine cannot be reached: {error}") from None


class VLLMPolicy(TokenPolicy):
    """The policy that acts through a vLLM engine; it owns the engine, and the cluster if it started one."""

    def __init__(self, client: EngineClient, codec: ChatCodec, policy: Policy, *, name: str) -> None:
        sampling = Sampling(policy.temperature, policy.max_turn_tokens, codec.stop_ids)
        super().__init__(client, codec, sampling, max_context=policy.context_tokens, name=name)
        self.client = client
        self._cluster: Cluster | None = None

    @classmethod
    def open(cls, policy: Policy, engine: Engine | None = None) -> VLLMPolicy:
        """Start what is needed to act with the model at `policy.model`, a folder or a name on the hub.

        Uses the running Ray, or starts one that ends with the policy. Raises `PolicyError`.
        """
        import ray

        codec = ChatCodec(_tokenizer(policy.model), policy.dialect)
        try:
            started = None if ray.is_initialized() else cluster.start()
        except ClusterError as error:
            raise PolicyError(str(error)) from None
        try:
            client = start_engine(EngineSpec(policy.model, engine or Engine(), policy.context_tokens))
        except BaseException:
            if started is not None:
                started.close()
            raise
        opened = cls(client, codec, policy, name=f"vllm:{policy.model}")
        opened._cluster = started
        return opened

    def close(self) -> None:
        """End the engine, and the cluster that was started for it. Safe to call twice."""
        self.client.close()
        if self._cluster is not None:
            self._cluster.close()


def _tokenizer(model: str) -> Any:
    from transformers import AutoTokenizer

    if not Path(model).is_dir() and model.count("/") != 1:
        raise PolicyError(f"{model} is neither a model folder nor a name on the hub (owner/model)")
    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise PolicyError(f"no tokenizer can be loaded from {model}: {str(error).splitlines()[0]}") from None


def start_engine(spec: EngineSpec) -> EngineClient:
    """Start an engine in the running Ray cluster. Raises `PolicyError` within `options.start_s`."""
    import ray

    gpus = spec.options.tensor_parallel if ray.cluster_resources().get("GPU") else 0
    # No CPUs are asked for: vLLM's threads are its own matter, and two cores would not hold an engine and a
    # learner side by side.
    actor: Any = ray.remote(EngineActor).options(num_cpus=0, num_gpus=gpus).remote(spec)
    client = EngineClient(actor, 0)
    try:
        client.pid = client._answer(actor.start.remote(), spec.options.start_s)
    except PolicyError as error:
        ray.kill(actor)
        raise PolicyError(f"vLLM did not start for {spec.model}: {error}") from None
    except BaseException:
        ray.kill(actor)
        raise
    return client

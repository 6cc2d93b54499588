"""Generation with vLLM: ids in, sampled ids with log-probabilities and weight versions out.

`EngineClient` is the handle of an engine, which runs in a Ray actor (`trainer.engine.actor`). `VLLMPolicy`
acts through an engine. Log-probabilities belong to the sampled distribution (behaviour log-probs); each token
carries the version of the weights that sampled it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.chat import ChatCodec
from agents.engine import Sampling
from agents.policies.token import TokenPolicy
from agents.types import Completion, PolicyError

from ..cluster import session as cluster
from ..cluster.calls import RemoteActor
from ..cluster.session import Cluster, ClusterError
from ..config import Engine, Policy
from .actor import ABORT_S, EngineActor, EngineSpec
from .batching import ANSWER_S, Batcher
from .weights import WeightError, WeightProbe, publish

if TYPE_CHECKING:
    import torch


class EngineClient:
    """A handle of an engine: blocking, thread-safe, picklable. Every wait has a deadline.

    A failure of the engine arrives as `PolicyError`; after its death, at once.
    """

    def __init__(self, remote: RemoteActor, pid: int) -> None:
        self._remote = remote
        self.pid = pid
        """Process id of the actor."""
        self._batcher = Batcher(remote)

    def __reduce__(self) -> tuple[Any, ...]:
        return EngineClient, (self._remote, self.pid)  # each process gathers its own batches

    def generate(self, ids: Sequence[int], sampling: Sampling, *, seed: int, deadline: float) -> Completion:
        """Sample until a stop id, `max_tokens` or the deadline; returns the tokens sampled by then."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            return Completion(finish_reason="abort")
        longest_s = seconds + ABORT_S + ANSWER_S
        return self._batcher.generate(ids, sampling, seed, seconds, longest_s=longest_s)

    def score(self, ids: Sequence[int], *, timeout_s: float) -> list[float]:
        """Log-probabilities (nats) of `ids[1:]` at temperature 1, under the present weights."""
        return self._remote.call("score", timeout_s, tuple(ids))

    def stats(self, *, timeout_s: float = ANSWER_S) -> dict[str, int]:
        """Count since the start: requests, and prompt, cached and sampled tokens."""
        return self._remote.call("stats", timeout_s)

    def version(self, *, timeout_s: float = ANSWER_S) -> int:
        """Version of the weights in use."""
        return self._remote.call("version", timeout_s)

    def update_weights_from(
        self, path: Path, version: int, *, timeout_s: float, canary: WeightProbe | None = None
    ) -> None:
        """Replace the weights by those in a checkpoint file that `trainer.engine.weights.publish` wrote.

        Raises `WeightError` when the file does not fit and the engine goes on as it was, `PolicyError` when
        the engine is lost or does not compute the log-probabilities of `canary`.
        """
        self._remote.call("update_weights_from", timeout_s, str(path), version)
        if canary is None:
            return
        complaint = canary.complaint(self.score(canary.ids, timeout_s=timeout_s))
        if complaint:
            why = f"after the update to weights {version} {complaint}"
            self._remote.call("give_up", timeout_s, why)
            raise PolicyError(why)

    def close(self) -> None:
        """End the engine. Safe to call twice; never raises."""
        import ray

        if ray.is_initialized():
            with suppress(PolicyError):  # it is gone, or was closed before
                self._remote.call("stop", ANSWER_S)
        self._remote.kill()


class FileSender:
    """Transfers the learner's weights to the engine through a file. Runs in the learner's process."""

    def __init__(self, client: EngineClient, module: torch.nn.Module, folder: Path) -> None:
        self._client, self._module, self._folder = client, module, folder

    def send(self, version: int, *, timeout_s: float, canary: WeightProbe | None = None) -> None:
        """Transfer the weights and wait until the engine uses them. Raises `PolicyError` or `WeightError`."""
        path = publish(self._module.state_dict(), version, self._folder)
        try:
            self._client.update_weights_from(path, version, timeout_s=timeout_s, canary=canary)
        finally:
            path.unlink(missing_ok=True)


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

        Uses the running Ray, or starts one that ends with the policy. Without `engine`, an episode's seed
        decides what is sampled. Raises `PolicyError`.
        """
        import ray

        policy = policy.model_copy(update={"context_tokens": fitting_context(policy)})
        codec = ChatCodec(_tokenizer(policy.model), policy.dialect)
        try:
            started = None if ray.is_initialized() else cluster.start()
        except ClusterError as error:
            raise PolicyError(str(error)) from None
        try:
            client = start_engine(
                EngineSpec(policy.model, engine or Engine(seeded=True), policy.context_tokens)
            )
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


def fitting_context(policy: Policy) -> int:
    """Return `policy.context_tokens`, at most the length that the model in a folder was made for."""
    try:
        config = json.loads((Path(policy.model) / "config.json").read_text("utf-8"))
        longest = config.get("max_position_embeddings", policy.context_tokens)
        return min(policy.context_tokens, int(longest))
    except (OSError, ValueError, TypeError, AttributeError):
        return policy.context_tokens  # a name on the hub, or a model that states no length here


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
    remote = RemoteActor.start(
        EngineActor,
        spec,
        options={"num_cpus": 0, "num_gpus": gpus},
        what="the engine",
        error=PolicyError,
        passed=(PolicyError, WeightError),
    )
    try:
        return EngineClient(remote, remote.call("start", spec.options.start_s))
    except BaseException as error:
        remote.kill()
        if isinstance(error, PolicyError):
            raise PolicyError(f"vLLM did not start for {spec.model}: {error}") from None
        raise

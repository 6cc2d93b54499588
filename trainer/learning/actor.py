"""The learner as a Ray actor, and the proxy that speaks to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..algorithms.losses import Loss
from ..config import Config
from ..data.samples import Sample

if TYPE_CHECKING:
    from ..engine.client import EngineClient
from .learner import Learner, LearnerError, Metrics
from .phase import PhaseName


class _LearnerActor:
    """The inside of the Ray actor. The learner is made by a call, since Ray buries errors of `__init__`."""

    def __init__(self) -> None:
        self._learner: Learner | None = None

    def load(self, config: Config, folder: str) -> None:
        self._learner = Learner(config, folder)

    def call(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        return getattr(self._learner, name)(*args, **kwargs)


class RemoteLearner:
    """A `Learner` in a Ray actor. Calls block, and raise `LearnerError` at their deadline."""

    def __init__(self, config: Config, folder: str | Path, *, start_s: float, call_s: float) -> None:
        """Start the actor in the Ray cluster this process is connected to."""
        import ray

        self._call_s = call_s
        # The engine books its GPUs; the learner books one where one is left, and shares theirs otherwise.
        free = ray.cluster_resources().get("GPU", 0) - config.engine.tensor_parallel
        gpus = 1 if config.learner.device != "cpu" and free >= 1 else 0
        # Threads that spin while they wait ruin each other where cores are shared: with the engine and the
        # sandboxes on the same two cores an update took six times as long.
        variables = {"OMP_WAIT_POLICY": "PASSIVE"}
        options = {"num_cpus": 0, "num_gpus": gpus, "runtime_env": {"env_vars": variables}}
        self._actor: Any = ray.remote(_LearnerActor).options(**options).remote()
        try:
            self._wait(self._actor.load.remote(config, str(folder)), start_s, "start")
        except LearnerError:
            self.close()
            raise

    def start(self, phase: PhaseName) -> None:
        """See `Learner.start`."""
        self._call("start", phase)

    def step(
        self, samples: Sequence[Sample], loss: str | Loss = "policy_gradient", progress: float = 0.0
    ) -> Metrics:
        """See `Learner.step`."""
        return self._call("step", list(samples), loss, progress)

    def score(self, samples: Sequence[Sample]) -> list[list[float]]:
        """See `Learner.score`."""
        return self._call("score", list(samples))

    def connect(self, engine: EngineClient, scratch: str | Path) -> None:
        """See `Learner.connect`."""
        self._call("connect", engine, str(scratch))

    def publish(self, *, timeout_s: float) -> int:
        """See `Learner.publish`."""
        return self._call("publish", timeout_s=timeout_s)

    def save(self, folder: str | Path) -> None:
        """See `Learner.save`."""
        self._call("save", str(folder))

    def restore(self, folder: str | Path) -> None:
        """See `Learner.restore`."""
        self._call("restore", str(folder))

    def close(self) -> None:
        """End the actor. Safe to call twice."""
        import ray

        if self._actor is not None:
            ray.kill(self._actor, no_restart=True)
            self._actor = None

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self._actor is None:
            raise LearnerError("the learner was closed")
        return self._wait(self._actor.call.remote(name, args, kwargs), self._call_s, name)

    def _wait(self, reference: Any, seconds: float, what: str) -> Any:
        """The seam to Ray: its errors are translated here and nowhere else."""
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

        try:
            return ray.get(reference, timeout=seconds)
        except GetTimeoutError:
            raise LearnerError(f"the learner did not {what} within {seconds:.0f} s") from None
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise LearnerError(f"the learner could not {what}: {' '.join(str(cause).split())}") from error
        except RayActorError as error:
            raise LearnerError(f"the learner died ({' '.join(str(error).split())[:300]})") from None

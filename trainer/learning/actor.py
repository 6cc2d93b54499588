"""The learner as a Ray actor, and the proxy through which the driver calls its methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cluster.calls import RemoteActor
from ..config import Config
from .learner import Learner, LearnerError

if TYPE_CHECKING:
    _Methods = Learner
else:
    _Methods = object


class _LearnerActor:
    """The Ray actor. A method makes the learner, since Ray hides exceptions of `__init__`."""

    def __init__(self) -> None:
        self._learner: Learner | None = None

    def start(self, config: Config, folder: str) -> None:
        self._learner = Learner(config, folder)

    def call(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        return getattr(self._learner, name)(*args, **kwargs)


class RemoteLearner(_Methods):
    """Proxy of a learner in a Ray actor: every public method of `Learner`, and none of its attributes.

    Calls block. They raise `LearnerError` at their deadline, and when the learner fails or its process dies.
    """

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
        self._remote = RemoteActor.start(
            _LearnerActor, options=options, what="the learner", error=LearnerError
        )
        try:
            self._remote.call("start", start_s, config, str(folder))
        except BaseException:
            self.close()
            raise

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method of the learner that runs in the actor."""
        if name.startswith("_") or not callable(getattr(Learner, name, None)):
            raise AttributeError(f"a remote learner has no {name!r}")
        return partial(self._call, name)

    def close(self) -> None:
        """End the actor. Safe to call twice."""
        self._remote.kill()

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._remote.wait(self._remote.send("call", name, args, kwargs), self._call_s, name)

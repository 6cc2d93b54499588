"""The Ray actor that plays episodes on a node, and the environments it opens there."""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import select
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agents.executor import EpisodeRequest
from agents.rollout import TaskEnv, run_episode
from agents.types import Policy, Trajectory
from envs.grading.memory import VerdictMemory
from envs.search.embedder import Embedder
from envs.tasksets.taskset import TaskSet, folder_digest, load_taskset
from sandboxes import Backend, SandboxError, connect
from sandboxes.disks.layers import leave_no_layers
from sandboxes.names import resolve

from ..embedder import open_embedder
from . import reaping

MakeEnv = Callable[[], TaskEnv]


class EnvFactory(Protocol):
    """Makes an environment for one slot, such as `CodingEnv`; looked up by `sandbox.env`.

    With `sandbox.verdict_memory`, a factory that has a parameter `verdict_memory` gets the process's memory.
    """

    def __call__(
        self, tasksets: Sequence[TaskSet], /, *, backend: Backend, embedder: Embedder | None
    ) -> TaskEnv:
        """Return a new environment. Backend and embedder are shared by all environments of the process."""
        ...


ENVS = {"coding": "envs.coding:CodingEnv"}
"""Environment factories by their short names."""


@contextmanager
def open_envs(
    tasksets: Sequence[TaskSet], *, env: str, backend: str, embedder: str = "", verdict_memory: bool = False
) -> Iterator[MakeEnv]:
    """Connect to this machine's sandboxes; yields a function that makes environments. Callers close them.

    `env` is a name in `ENVS` or the `module:attribute` of an `EnvFactory`. With `verdict_memory` the
    environments grade equal submissions once. Raises `UnknownNameError`, `SandboxUnavailable`,
    `EmbedderError`.
    """
    factory: EnvFactory = resolve(env, ENVS, kind="environment")
    more: dict[str, Any] = {}
    if verdict_memory and _takes(factory, "verdict_memory"):
        more["verdict_memory"] = VerdictMemory()
    with ExitStack() as stack:
        connected = connect(backend)
        stack.callback(connected.close)
        loaded = stack.enter_context(open_embedder(embedder))
        yield lambda: factory(tasksets, backend=connected, embedder=loaded, **more)


def _takes(factory: EnvFactory, name: str) -> bool:
    """Whether a factory has a parameter of this name, or any keyword parameter."""
    parameters = inspect.signature(factory).parameters.values()
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


class EnvSpec(Protocol):
    """Description of a run's environments, sent to every node."""

    def missing(self) -> Sequence[str]:
        """Names of the task sets that this node does not have."""
        ...

    def ship(self, name: str) -> bytes:
        """Pack a task set for nodes that do not have it; called by the driver."""
        ...

    def open(self, shipped: Mapping[str, bytes]) -> AbstractContextManager[MakeEnv]:
        """Open the environments on this node, with the archives of the task sets that were missing."""
        ...


@dataclass(frozen=True)
class TasksetEnvSpec:
    """Task sets by folder and digest, and the names of environment, sandbox backend and embedder."""

    sets: tuple[tuple[str, str], ...]
    backend: str
    embedder: str = ""
    env: str = "coding"
    verdict_memory: bool = False
    """Whether the environments of a node grade equal submissions once."""

    @classmethod
    def of(
        cls,
        tasksets: Sequence[TaskSet],
        *,
        backend: str,
        embedder: str = "",
        env: str = "coding",
        verdict_memory: bool = False,
    ) -> TasksetEnvSpec:
        """Describe sets that are loaded here."""
        sets = tuple((str(taskset.folder.resolve()), taskset.digest) for taskset in tasksets)
        return cls(sets, backend, embedder, env, verdict_memory)

    def missing(self) -> tuple[str, ...]:
        """Folders that are absent here, or differ from the driver's."""
        return tuple(folder for folder, digest in self.sets if folder_digest(Path(folder)) != digest)

    def ship(self, name: str) -> bytes:
        """The files of a set's folder as a tar archive."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in sorted(Path(name).iterdir()):
                if path.is_file():
                    archive.add(path, path.name)
        return buffer.getvalue()

    @contextmanager
    def open(self, shipped: Mapping[str, bytes]) -> Iterator[MakeEnv]:
        """Load the sets and open their environments. Raises `TaskSetError`, and the errors of `open_envs`."""
        with ExitStack() as stack:
            unpacked = {name: stack.enter_context(_unpacked(data)) for name, data in shipped.items()}
            tasksets = [load_taskset(unpacked.get(folder, folder)) for folder, _ in self.sets]
            opened = open_envs(
                tasksets,
                env=self.env,
                backend=self.backend,
                embedder=self.embedder,
                verdict_memory=self.verdict_memory,
            )
            yield stack.enter_context(opened)


@contextmanager
def _unpacked(archive: bytes) -> Iterator[Path]:
    """A folder with the archive's files. One that outlives its process is removed by the next."""
    parent = Path(tempfile.gettempdir())
    reaping.reap_folders(parent)
    number = int(hashlib.sha256(archive).hexdigest()[:8], 16)
    folder = parent / reaping.folder_name(reaping.owner(number))
    folder.mkdir(mode=0o700)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        yield folder


def _end_with(parent: int) -> None:
    """End this process, and with it its sandboxes, when the node's Ray process ends.

    Ray does not: an actor whose raylet was killed finishes its calls, and stays.
    """
    if parent == 1:
        return  # in a container of its own, which ends with its first process
    try:
        descriptor = os.pidfd_open(parent)
        select.select([descriptor], [], [])
    except ProcessLookupError:
        pass  # gone already
    os._exit(1)


@dataclass(frozen=True)
class PolicyRef:
    """Reference to a policy: each node fetches the policy once, for all its episodes."""

    key: str
    reference: tuple[Any, ...]
    """Ray's reference to the policy, wrapped so that Ray does not fetch it with every call."""


class WorkerActor:
    """Runs in a Ray actor. Each call has a thread of its own."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._make_env: MakeEnv | None = None
        self._policy: tuple[str, Policy] | None = None
        self._envs: dict[str, TaskEnv] = {}
        threading.Thread(
            target=_end_with, args=(os.getppid(),), name="end with the node", daemon=True
        ).start()

    def missing(self, env_spec: EnvSpec) -> Sequence[str]:
        """Names of the task sets that have to be shipped here."""
        return env_spec.missing()

    def load(self, env_spec: EnvSpec, shipped: Mapping[str, tuple[Any, ...]]) -> int:
        """Open the environments; returns this process's id."""
        import ray

        archives: dict[str, Any] = {name: ray.get(wrapped[0]) for name, wrapped in shipped.items()}
        self._make_env = self._stack.enter_context(env_spec.open(archives))
        return os.getpid()

    def ping(self) -> None:
        """Answer a health check."""

    def play(
        self, key: str, request: EpisodeRequest, policy_ref: PolicyRef, max_format_errors: int
    ) -> Trajectory:
        """Play an episode, which `stop` knows by its key."""
        assert self._make_env is not None, "load comes first"
        env = self._envs[key] = self._make_env()
        try:
            return run_episode(
                env,
                self._fetched(policy_ref),
                task=request.task,
                seed=request.seed,
                group=request.group,
                max_format_errors=max_format_errors,
            )
        finally:
            del self._envs[key]
            with suppress(SandboxError):
                env.close()

    def stop(self, key: str) -> None:
        """Close an episode's sandbox, so that its call under way fails at once."""
        env = self._envs.get(key)
        if env is not None:
            with suppress(SandboxError):
                env.close()

    def close(self) -> None:
        """Release sandboxes and shipped task sets, before Ray kills the process without any clean-up."""
        self._stack.close()
        leave_no_layers()

    def _fetched(self, policy_ref: PolicyRef) -> Policy:
        import ray

        with self._lock:
            if self._policy is None or self._policy[0] != policy_ref.key:
                self._policy = (policy_ref.key, ray.get(policy_ref.reference[0]))
            return self._policy[1]

"""The inside of a player: a Ray actor with sandboxes of its node. Others use `trainer.cluster.executor`."""

from __future__ import annotations

import hashlib
import io
import os
import select
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agents.executor import EpisodeRequest
from agents.rollout import TaskEnv, run_episode
from agents.types import Policy, Trajectory
from envs.coding import CodingEnv
from envs.tasksets.taskset import TaskSet, folder_digest, load_taskset
from sandboxes import SandboxError, connect
from sandboxes.disks.layers import leave_no_layers

from ..embedder import open_embedder
from . import reaping

MakeEnv = Callable[[], TaskEnv]


class EnvFactory(Protocol):
    """What is opened on a node so that episodes can be played there. Travels to it."""

    def missing(self) -> Sequence[str]:
        """Names of what is not on this node and has to be shipped."""
        ...

    def ship(self, name: str) -> bytes:
        """What is sent to nodes where this is missing; asked where the run was started."""
        ...

    def open(self, shipped: Mapping[str, bytes]) -> Any:
        """A context manager around a `MakeEnv`."""
        ...


@dataclass(frozen=True)
class CodingEnvFactory:
    """Task sets by folder and digest, the name of a sandbox backend, and an embedder as in the settings."""

    sets: tuple[tuple[str, str], ...]
    backend: str
    embedder: str = ""

    @classmethod
    def of(cls, tasksets: Sequence[TaskSet], *, backend: str, embedder: str = "") -> CodingEnvFactory:
        """Describe sets that are loaded here."""
        return cls(tuple((str(one.folder.resolve()), one.digest) for one in tasksets), backend, embedder)

    def missing(self) -> tuple[str, ...]:
        """Folders that are not here, or hold something else than where the run was started."""
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
        """Connect to the node's sandboxes. Raises `SandboxUnavailable`, `TaskSetError`, `EmbedderError`."""
        with ExitStack() as stack:
            backend = connect(self.backend)
            stack.callback(backend.close)
            embedder = stack.enter_context(open_embedder(self.embedder))
            unpacked = {name: stack.enter_context(_unpacked(data)) for name, data in shipped.items()}
            tasksets = [load_taskset(unpacked.get(folder, folder)) for folder, _ in self.sets]
            yield lambda: CodingEnv(tasksets, backend=backend, embedder=embedder)


@contextmanager
def _unpacked(archive: bytes) -> Iterator[Path]:
    """A folder with the archive's files. One that outlives its process is removed by the next player's."""
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

    Ray does not: an actor whose raylet was killed finishes what it is at, and stays.
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
    """A policy on its way to players: fetched once by each of them, however many episodes it plays."""

    key: str
    reference: tuple[Any, ...]
    """Ray's reference to the policy, wrapped so that Ray does not fetch it with every call."""


class WorkerActor:
    """The inside of the Ray actor. Each call has a thread of its own."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._make_env: MakeEnv | None = None
        self._policy: tuple[str, Policy] | None = None
        self._envs: dict[str, TaskEnv] = {}
        threading.Thread(
            target=_end_with, args=(os.getppid(),), name="end with the node", daemon=True
        ).start()

    def missing(self, site: EnvFactory) -> Sequence[str]:
        """See `EnvFactory.missing`."""
        return site.missing()

    def load(self, site: EnvFactory, shipped: Mapping[str, tuple[Any, ...]]) -> int:
        """Open the site; returns this process's id."""
        import ray

        archives: dict[str, Any] = {name: ray.get(wrapped[0]) for name, wrapped in shipped.items()}
        self._make_env = self._stack.enter_context(site.open(archives))
        return os.getpid()

    def ping(self) -> None:
        """A sign of life."""

    def play(self, key: str, request: EpisodeRequest, lent: PolicyRef, max_format_errors: int) -> Trajectory:
        """Play an episode, which `stop` knows by its key."""
        assert self._make_env is not None, "load comes first"
        env = self._envs[key] = self._make_env()
        try:
            return run_episode(
                env,
                self._policy_of(lent),
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
        """Take an episode's sandbox away, so that what is under way in it fails now."""
        env = self._envs.get(key)
        if env is not None:
            with suppress(SandboxError):
                env.close()

    def close(self) -> None:
        """Let go of the sandboxes and of what was shipped; Ray kills the process before its own end."""
        self._stack.close()
        leave_no_layers()

    def _policy_of(self, lent: PolicyRef) -> Policy:
        import ray

        with self._lock:
            if self._policy is None or self._policy[0] != lent.key:
                self._policy = (lent.key, ray.get(lent.reference[0]))
            return self._policy[1]

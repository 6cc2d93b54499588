"""Executors: many concurrent episodes, one thread per slot.

An `Executor` plays episodes in environments of this process (`ThreadExecutor`) or on the nodes of a cluster
(`trainer.cluster.executor`). Python threads cannot be killed: a thread ends because every wait in it has a
deadline, and because closing its worker makes the episode under way fail.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from envs.types import StopReason, Task
from sandboxes.base import SandboxError
from sandboxes.progress import Progress, silent

from .rollout import TaskEnv, run_episode
from .types import Policy, Trajectory

LOOK_S = 1.0
"""Seconds between two looks for new slots while no episode ends."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeRequest:
    """A request to play one episode."""

    task: Task
    seed: int
    group: str = ""
    """Name shared by the episodes of one task whose rewards are compared."""


class Worker(Protocol):
    """Plays one episode at a time."""

    def play(self, request: EpisodeRequest) -> Trajectory:
        """Play an episode to its end; a sandbox or policy failure gives a trajectory with the stop INFRA.

        Raises `WorkerLost` when the episode was not started.
        """
        ...

    def close(self) -> None:
        """Release all resources and make the episode under way fail. Idempotent and thread-safe."""
        ...


def episode_seed(*name: str | int) -> int:
    """Return the sampling seed (31 bits) of the episode with this name, such as `(0, "wcwidth-17", 3)`.

    Two episodes must never share a seed: engines draw the same noise for the same seed, so episodes that
    share one are not independent, and a pass rate over them is worth a single episode.
    """
    return random.Random(" ".join(map(str, name))).getrandbits(31)


class WorkerLost(Exception):
    """A slot lost its worker for good. Takes one sentence."""


WorkerFactory = Callable[[threading.Event], Worker]
"""Creates a worker for one slot, in that slot's thread. Must return soon after the event is set.

Called again after each lost episode. Raises `WorkerLost`, which ends this slot only.
"""
NewSlots = Callable[[], Sequence[WorkerFactory]]
"""Returns a worker factory for each slot added since the last call. Its exceptions end the run."""


class Executor(ABC):
    """Plays episodes of any policy concurrently."""

    retries: int = 1
    """Maximum retries of an episode that ended with INFRA."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """Number of episodes that can be played concurrently at present."""

    @abstractmethod
    def new_slots(self, policy: Policy, max_format_errors: int) -> NewSlots:
        """Prepare the slots of one call of `play`."""

    def play(
        self,
        requests: Iterable[EpisodeRequest],
        policy: Policy,
        *,
        progress: Progress = silent,
        max_format_errors: int = 3,
    ) -> Generator[Trajectory, None, None]:
        """Play episodes and yield their trajectories as they complete.

        An episode ends with its `max_format_errors`-th unreadable action in a row. Requests, retries and
        shutdown follow `play_many`.
        """
        slots = self.new_slots(policy, max_format_errors)
        return play_many(requests, slots, progress=progress, retries=self.retries)


class ThreadExecutor(Executor):
    """Plays in threads of this process, each with its own environment from `make_env`."""

    def __init__(self, make_env: Callable[[], TaskEnv], slots: int, *, retries: int = 1) -> None:
        assert slots > 0, f"slots must be positive, got {slots}"
        self._make_env, self._slots, self.retries = make_env, slots, retries

    @property
    def slots(self) -> int:
        """Number of episodes that can be played concurrently."""
        return self._slots

    def new_slots(self, policy: Policy, max_format_errors: int) -> NewSlots:
        """Return a function that gives all slots at its first call and none later."""

        def make_worker(_stopping: threading.Event) -> Worker:
            return _EnvWorker(self._make_env, policy, max_format_errors)

        slots = iter([[make_worker] * self._slots])
        return lambda: next(slots, [])


def play_many(
    requests: Iterable[EpisodeRequest],
    new_slots: NewSlots,
    *,
    progress: Progress = silent,
    retries: int = 1,
    shutdown_s: float = 30.0,
) -> Generator[Trajectory, None, None]:
    """Play episodes and yield their trajectories as they complete.

    A request is taken from the iterable when a slot is free. An episode that ends with INFRA is retried in
    any free slot, at most `retries` times, and is then yielded unscored. Closing the iterator, or any error,
    ends all threads within `shutdown_s`.
    """
    source, total = iter(requests), len(requests) if isinstance(requests, Sized) else None
    threads = _WorkerThreads(retries)
    under_way = done = 0
    try:
        while done != total:
            threads.start(new_slots())
            under_way += threads.fill(source, under_way)
            if not under_way and threads.slots:
                return
            trajectory = threads.take(LOOK_S)
            # No `continue` here: CPython 3.11 passes over `finally` when a signal arrives at its jump.
            if trajectory is not None:
                done += 1
                progress("episodes", done, total or 0)
                under_way += threads.fill(source, under_way - 1) - 1
                yield trajectory
    finally:
        threads.stop(shutdown_s)


class _EnvWorker:
    """Plays in an environment of this process, which is made for the first episode."""

    def __init__(self, make_env: Callable[[], TaskEnv], policy: Policy, max_format_errors: int) -> None:
        self._make_env = make_env
        self._policy = policy
        self._max_format_errors = max_format_errors
        self._env: TaskEnv | None = None

    def play(self, request: EpisodeRequest) -> Trajectory:
        if self._env is None:
            self._env = self._make_env()
        return run_episode(
            self._env,
            self._policy,
            task=request.task,
            seed=request.seed,
            group=request.group,
            max_format_errors=self._max_format_errors,
        )

    def close(self) -> None:
        if self._env is not None:
            with suppress(SandboxError):
                self._env.close()


@dataclass(frozen=True)
class _Attempt:
    request: EpisodeRequest
    failed: int = 0
    """Number of attempts that ended with INFRA."""


class _WorkerThreads:
    """One thread per slot; each plays one episode at a time."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._inbox: queue.SimpleQueue[_Attempt | None] = queue.SimpleQueue()
        # None: nothing was played, but there may be more slots, or fewer.
        self._outbox: queue.SimpleQueue[Trajectory | BaseException | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._workers: dict[threading.Thread, Worker] = {}
        self._threads: list[threading.Thread] = []

    @property
    def slots(self) -> int:
        """Number of threads with a worker."""
        return len(self._workers)

    def start(self, factories: Sequence[WorkerFactory]) -> None:
        """Start one more thread for each factory."""
        for make_worker in factories:
            # Daemons, so that a thread that outlives `stop` cannot keep the program from ending.
            name = f"episode-{len(self._threads)}"
            thread = threading.Thread(target=self._work, args=(make_worker,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def fill(self, source: Iterator[EpisodeRequest], under_way: int) -> int:
        """Hand out requests until every slot has an episode; returns the number of requests."""
        given = 0
        while under_way + given < self.slots and (request := next(source, None)) is not None:
            self._inbox.put(_Attempt(request))
            given += 1
        return given

    def take(self, timeout_s: float) -> Trajectory | None:
        """Wait for the next trajectory; None after a timeout or when a slot ended.

        Re-raises an error of a thread that concerns the whole run.
        """
        try:
            result = self._outbox.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(result, BaseException):
            raise result
        return result

    def stop(self, timeout_s: float) -> None:
        """Close every worker and wait for the threads."""
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        for _ in self._threads:
            self._inbox.put(None)
        alive = self._threads
        while alive and time.monotonic() < deadline:
            # A tool call that is under way fails now, not at its deadline. Again and again, because an
            # episode that was being reset opens what it needs after it was closed.
            for worker in list(self._workers.values()):
                worker.close()
            alive[0].join(0.1)
            alive = [thread for thread in alive if thread.is_alive()]
        if alive:
            _log.warning("%d episodes did not end within %g s of being stopped", len(alive), timeout_s)

    def _work(self, make_worker: WorkerFactory) -> None:
        try:
            while not self._stopping.is_set():
                lost = self._play(make_worker(self._stopping))
                if lost is not None:
                    self._inbox.put(lost)
        except WorkerLost as gone:
            if not self._stopping.is_set():
                _log.info("%s", gone)
        except BaseException as error:
            self._outbox.put(error)
        finally:
            self._outbox.put(None)

    def _play(self, worker: Worker) -> _Attempt | None:
        """Play episodes with one worker until one is lost; return the lost one when it may be retried."""
        me = threading.current_thread()
        self._workers[me] = worker
        self._outbox.put(None)
        try:
            while (attempt := self._inbox.get()) is not None and not self._stopping.is_set():
                try:
                    trajectory = worker.play(attempt.request)
                except WorkerLost:
                    self._inbox.put(attempt)
                    raise
                if trajectory.stop is StopReason.INFRA:
                    return self._lost(attempt, trajectory)
                self._outbox.put(trajectory)
            return None
        finally:
            del self._workers[me]
            worker.close()

    def _lost(self, attempt: _Attempt, trajectory: Trajectory) -> _Attempt | None:
        failed = attempt.failed + 1
        _log.warning("attempt %d at %s failed: %s", failed, attempt.request.task.id, trajectory.error)
        if failed <= self._retries and not self._stopping.is_set():
            return replace(attempt, failed=failed)
        self._outbox.put(trajectory)
        return None

"""Many episodes at once, one thread each.

Threads cannot be stopped from outside. They end because every wait inside has a deadline, and because their
workers are closed under them. An `Executor` decides where episodes are played: in environments of this
process (`ThreadExecutor`), or by the actors of a cluster (`trainer.cluster.executor`).
"""

from __future__ import annotations

import logging
import queue
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
"""How often new slots are asked for while nothing else happens."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeRequest:
    """One episode that is wanted."""

    task: Task
    seed: int
    group: str = ""
    """Episodes of one task from one policy state share it."""


class Worker(Protocol):
    """Plays one episode at a time."""

    def play(self, request: EpisodeRequest) -> Trajectory:
        """Play an episode to its end. One that was lost for reasons not the policy's stops with INFRA.

        Raises `WorkerLost` where it is not begun at all.
        """
        ...

    def close(self) -> None:
        """Release everything; the episode under way fails soon. May be called often, from any thread."""
        ...


class WorkerLost(Exception):
    """A slot has no worker any more. Takes one sentence."""


WorkerFactory = Callable[[threading.Event], Worker]
"""Creates a worker for one slot, in that slot's thread. Must return soon after the event is set.

Called again after each episode that was lost. Raises `WorkerLost`, which ends the slot and nothing else.
"""
NewSlots = Callable[[], Sequence[WorkerFactory]]
"""Returns a factory for each slot that came since the last call. What it raises ends the run."""


class Executor(ABC):
    """Plays episodes of any policy, several at once."""

    retries: int = 1
    """How often an episode is begun anew that was lost for reasons not the policy's."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """Episodes that can be played at once, as things are."""

    @abstractmethod
    def new_slots(self, policy: Policy, max_format_errors: int) -> NewSlots:
        """Prepare one call of `play`: the slots that its episodes are played in."""

    def play(
        self,
        requests: Iterable[EpisodeRequest],
        policy: Policy,
        *,
        progress: Progress = silent,
        max_format_errors: int = 3,
    ) -> Generator[Trajectory, None, None]:
        """Play episodes and yield their trajectories as they complete.

        An episode ends with its `max_format_errors`-th unreadable action in a row. Requests, retries and the
        end are those of `play_many`.
        """
        slots = self.new_slots(policy, max_format_errors)
        return play_many(requests, slots, progress=progress, retries=self.retries)


class ThreadExecutor(Executor):
    """Plays in environments of this process, which `make_env` makes, one for each slot."""

    def __init__(self, make_env: Callable[[], TaskEnv], slots: int, *, retries: int = 1) -> None:
        assert slots > 0, f"slots must be positive, got {slots}"
        self._make_env, self._slots, self.retries = make_env, slots, retries

    @property
    def slots(self) -> int:
        """Episodes that can be played at once."""
        return self._slots

    def new_slots(self, policy: Policy, max_format_errors: int) -> NewSlots:
        """All slots at the first call, none later."""

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
    """Have episodes played and yield their trajectories as they complete.

    Requests are taken one by one, whenever a slot is free. An episode that fails for reasons that are not
    the policy's is begun anew wherever a slot is free, at most `retries` times; then it comes back unscored.
    Closing the iterator, or any error, ends everything within `shutdown_s`.
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
    """Plays in an environment of this process, made for the first episode."""

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
    """How often it was lost already."""


class _WorkerThreads:
    """Threads that each have one episode played at a time."""

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
        """How many threads have a worker."""
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
        """Hand requests over until every slot has one; returns how many that were."""
        given = 0
        while under_way + given < self.slots and (request := next(source, None)) is not None:
            self._inbox.put(_Attempt(request))
            given += 1
        return given

    def take(self, timeout_s: float) -> Trajectory | None:
        """Wait for the next trajectory; None when there is none yet, and slots may have changed.

        Raises an error that a thread ran into and that loses more than an episode.
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
        """Have a worker play episodes until it loses one; return that one if it may be tried again."""
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

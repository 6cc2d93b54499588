"""Many episodes at once, one thread each.

Threads cannot be stopped from outside. What ends them is that every wait inside has a deadline, and
that their players are closed under them. Who plays is not decided here: environments of this process, by
default, or whatever else is a `Worker`, such as the actors of a cluster (`trainer.cluster.executor`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
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
"""How often newcomers are asked for while nothing else happens."""
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
        """Release everything; what is being played fails soon. May be called often, from any thread."""
        ...


class WorkerLost(Exception):
    """Nobody will play at this place any more. Takes one sentence."""


WorkerFactory = Callable[[threading.Event], Worker]
"""Finds a player for one place, in the thread that will call it. May wait, but not once the event is set.

Asked again after each episode that was lost. Raises `WorkerLost`, which ends the place and nothing else.
"""
Newcomers = Callable[[], Sequence[WorkerFactory]]
"""Names the places that came since it was last called. What it raises ends the run."""


class Executor(Protocol):
    """Where episodes are played, by whatever policy."""

    @property
    def places(self) -> int:
        """Episodes that can be played at once, as things are."""
        ...

    def play(
        self,
        requests: Iterable[EpisodeRequest],
        policy: Policy,
        *,
        progress: Progress = silent,
        max_format_errors: int = 3,
    ) -> Generator[Trajectory, None, None]:
        """Play episodes and yield their trajectories as they complete; see `play_many`."""
        ...


@dataclass(frozen=True)
class ThreadExecutor:
    """A stage in this process: environments that `make_env` makes, each with a thread of its own."""

    make_env: Callable[[], TaskEnv]
    places: int

    def play(
        self,
        requests: Iterable[EpisodeRequest],
        policy: Policy,
        *,
        progress: Progress = silent,
        max_format_errors: int = 3,
    ) -> Generator[Trajectory, None, None]:
        """See `Executor.play`."""
        return run_many(
            requests,
            self.make_env,
            policy,
            concurrency=self.places,
            progress=progress,
            max_format_errors=max_format_errors,
        )


def run_many(
    requests: Iterable[EpisodeRequest],
    make_env: Callable[[], TaskEnv],
    policy: Policy,
    *,
    concurrency: int,
    progress: Progress = silent,
    retries: int = 1,
    max_format_errors: int = 3,
    shutdown_s: float = 30.0,
) -> Generator[Trajectory, None, None]:
    """`play_many` in this process. Each thread keeps its own environment."""
    assert concurrency > 0, f"concurrency must be positive, got {concurrency}"
    size = min(concurrency, len(requests)) if isinstance(requests, Sized) else concurrency

    def hire(_stopping: threading.Event) -> Worker:
        return _EnvWorker(make_env, policy, max_format_errors)

    places = iter([[hire] * size])
    return play_many(
        requests, lambda: next(places, []), progress=progress, retries=retries, shutdown_s=shutdown_s
    )


def play_many(
    requests: Iterable[EpisodeRequest],
    newcomers: Newcomers,
    *,
    progress: Progress = silent,
    retries: int = 1,
    shutdown_s: float = 30.0,
) -> Generator[Trajectory, None, None]:
    """Have episodes played and yield their trajectories as they complete.

    Requests are taken one by one, whenever a place is free. An episode that fails for reasons that are not
    the policy's is begun anew wherever a place is free, at most `retries` times; then it comes back unscored.
    Closing the iterator, or any error, ends everything within `shutdown_s`.
    """
    source, total = iter(requests), len(requests) if isinstance(requests, Sized) else None
    crew = _Crew(retries)
    under_way = done = 0
    try:
        while done != total:
            crew.hire(newcomers())
            under_way += crew.fill(source, under_way)
            if not under_way and crew.places:
                return
            trajectory = crew.take(LOOK_S)
            # No `continue` here: CPython 3.11 passes over `finally` when a signal arrives at its jump.
            if trajectory is not None:
                done += 1
                progress("episodes", done, total or 0)
                under_way += crew.fill(source, under_way - 1) - 1
                yield trajectory
    finally:
        crew.stop(shutdown_s)


class _EnvWorker:
    """Plays in an environment of this process, which is made when it is first needed."""

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


class _Crew:
    """Threads that each have one episode played at a time."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._inbox: queue.SimpleQueue[_Attempt | None] = queue.SimpleQueue()
        # None: nothing was played, but there may be more places, or fewer.
        self._outbox: queue.SimpleQueue[Trajectory | BaseException | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._players: dict[threading.Thread, Worker] = {}
        self._threads: list[threading.Thread] = []

    @property
    def places(self) -> int:
        """How many have a player."""
        return len(self._players)

    def hire(self, places: Sequence[WorkerFactory]) -> None:
        """Take on more threads, one for each place."""
        for place in places:
            # Daemons, so that a thread that outlives `stop` cannot keep the program from ending.
            name = f"episode-{len(self._threads)}"
            thread = threading.Thread(target=self._work, args=(place,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def fill(self, source: Iterator[EpisodeRequest], under_way: int) -> int:
        """Hand requests over until every place has one; returns how many that were."""
        given = 0
        while under_way + given < self.places and (request := next(source, None)) is not None:
            self._inbox.put(_Attempt(request))
            given += 1
        return given

    def take(self, timeout_s: float) -> Trajectory | None:
        """Wait for the next trajectory; None when there is none yet, and places may have changed.

        Raises what a thread ran into, if that was no ordinary failure.
        """
        try:
            result = self._outbox.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(result, BaseException):
            raise result
        return result

    def stop(self, timeout_s: float) -> None:
        """Close every player and wait for the threads."""
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        for _ in self._threads:
            self._inbox.put(None)
        alive = self._threads
        while alive and time.monotonic() < deadline:
            # A tool call that is under way fails now, not at its deadline. Again and again, because an
            # episode that was being reset opens what it needs after it was closed.
            for player in list(self._players.values()):
                player.close()
            alive[0].join(0.1)
            alive = [thread for thread in alive if thread.is_alive()]
        if alive:
            _log.warning("%d episodes did not end within %g s of being stopped", len(alive), timeout_s)

    def _work(self, hire: WorkerFactory) -> None:
        try:
            while not self._stopping.is_set():
                lost = self._play(hire(self._stopping))
                if lost is not None:
                    self._inbox.put(lost)
        except WorkerLost as gone:
            if not self._stopping.is_set():
                _log.info("%s", gone)
        except BaseException as error:
            self._outbox.put(error)
        finally:
            self._outbox.put(None)

    def _play(self, player: Worker) -> _Attempt | None:
        """Hand a player one episode after another until it loses one; returns it if it may be tried again."""
        me = threading.current_thread()
        self._players[me] = player
        self._outbox.put(None)
        try:
            while (attempt := self._inbox.get()) is not None and not self._stopping.is_set():
                try:
                    trajectory = player.play(attempt.request)
                except WorkerLost:
                    self._inbox.put(attempt)
                    raise
                if trajectory.stop is StopReason.INFRA:
                    return self._lost(attempt, trajectory)
                self._outbox.put(trajectory)
            return None
        finally:
            del self._players[me]
            player.close()

    def _lost(self, attempt: _Attempt, trajectory: Trajectory) -> _Attempt | None:
        failed = attempt.failed + 1
        _log.warning("attempt %d at %s failed: %s", failed, attempt.request.task.id, trajectory.error)
        if failed <= self._retries and not self._stopping.is_set():
            return replace(attempt, failed=failed)
        self._outbox.put(trajectory)
        return None

"""Many episodes at once, one thread each.

Threads cannot be stopped from outside. What ends them is that every wait inside has a deadline, and that
their environments are closed under them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from envs.types import StopReason, Task
from sandboxes.base import SandboxError
from sandboxes.progress import Progress, silent

from .rollout import TaskEnv, run_episode
from .types import Policy, Trajectory

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeRequest:
    """One episode that is wanted."""

    task: Task
    seed: int
    group: str = ""
    """Episodes of one task from one policy state share it."""


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
    """Run episodes and yield their trajectories as they complete.

    Requests are taken one by one, whenever a place is free. An episode that fails for reasons that are not
    the policy's is begun anew, at most `retries` times; then it comes back unscored. Each thread keeps its
    own environment. Closing the iterator, or any error, ends everything within `shutdown_s`.
    """
    assert concurrency > 0, f"concurrency must be positive, got {concurrency}"
    source, total = iter(requests), len(requests) if isinstance(requests, Sized) else 0
    size = min(concurrency, total) if isinstance(requests, Sized) else concurrency
    crew = _Crew(size, lambda env, request: _run(env, policy, request, max_format_errors), make_env, retries)
    done = 0
    try:
        under_way = sum(map(crew.give, islice(source, concurrency)))
        while under_way:
            trajectory = crew.take()
            done += 1
            progress("episodes", done, total)
            under_way += sum(map(crew.give, islice(source, 1))) - 1
            yield trajectory
    finally:
        crew.stop(shutdown_s)


def _run(env: TaskEnv, policy: Policy, request: EpisodeRequest, max_format_errors: int) -> Trajectory:
    return run_episode(
        env,
        policy,
        task=request.task,
        seed=request.seed,
        group=request.group,
        max_format_errors=max_format_errors,
    )


class _Crew:
    """Threads that each run one episode at a time."""

    def __init__(
        self,
        size: int,
        run: Callable[[TaskEnv, EpisodeRequest], Trajectory],
        make_env: Callable[[], TaskEnv],
        retries: int,
    ) -> None:
        self._run = run
        self._make_env = make_env
        self._retries = retries
        self._inbox: queue.SimpleQueue[EpisodeRequest | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Trajectory | BaseException] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._envs: dict[str, TaskEnv] = {}
        # Daemons, so that a thread that outlives `stop` cannot keep the program from ending.
        self._threads = [
            threading.Thread(target=self._work, name=f"episode-{n}", daemon=True) for n in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def give(self, request: EpisodeRequest) -> int:
        """Hand over a request; returns how many that is."""
        self._inbox.put(request)
        return 1

    def take(self) -> Trajectory:
        """Wait for the next trajectory. Raises what a thread ran into, if that was no ordinary failure."""
        while True:
            try:
                result = self._outbox.get(timeout=1.0)
            except queue.Empty:
                assert any(thread.is_alive() for thread in self._threads), "every episode thread is gone"
                continue
            if isinstance(result, BaseException):
                raise result
            return result

    def stop(self, timeout_s: float) -> None:
        """Close every environment and wait for the threads."""
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        for _ in self._threads:
            self._inbox.put(None)
        alive = self._threads
        while alive and time.monotonic() < deadline:
            # A tool call that is under way fails now, not at its deadline. Again and again, because an
            # episode that was being reset opens what it needs after it was closed.
            for env in list(self._envs.values()):
                with suppress(SandboxError):
                    env.close()
            alive[0].join(0.1)
            alive = [thread for thread in alive if thread.is_alive()]
        if alive:
            _log.warning("%d episodes did not end within %g s of being stopped", len(alive), timeout_s)

    def _work(self) -> None:
        try:
            while (request := self._inbox.get()) is not None and not self._stopping.is_set():
                self._outbox.put(self._attempt(request))
        except BaseException as error:
            self._outbox.put(error)
        finally:
            self._close()

    def _attempt(self, request: EpisodeRequest) -> Trajectory:
        """Run an episode, and again while it fails for reasons that are not the policy's."""
        attempts = 0
        while True:
            trajectory = self._run(self._env(), request)
            attempts += 1
            if trajectory.stop is not StopReason.INFRA:
                return trajectory
            _log.warning("attempt %d at %s failed: %s", attempts, request.task.id, trajectory.error)
            self._close()
            if attempts > self._retries or self._stopping.is_set():
                return trajectory

    def _env(self) -> TaskEnv:
        """This thread's environment, made when it is first needed."""
        name = threading.current_thread().name
        env = self._envs.get(name)
        if env is None:
            env = self._envs[name] = self._make_env()
        return env

    def _close(self) -> None:
        """Close this thread's environment; another thread may have closed it already."""
        env = self._envs.pop(threading.current_thread().name, None)
        if env is not None:
            with suppress(SandboxError):
                env.close()

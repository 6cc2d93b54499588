"""Episodes on the nodes of a cluster: one actor on each node that has the Ray resource `sandboxes`.

The amount of the resource is the number of slots of a node. The actor reserves all of it, so that two runs
never share a node. A sandbox lives on the node of its actor and ends with the actor. Episodes of a lost node
are retried in any free slot (`agents.executor`); slots of nodes that join are used within seconds.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from typing import Any

from agents.executor import EpisodeRequest, Executor, NewSlots, WorkerFactory, WorkerLost
from agents.types import Policy, Trajectory
from envs.types import StopReason, Task

from ..config import TrainError
from .calls import RemoteActor
from .worker import EnvSpec, PolicyRef, WorkerActor

RESOURCE = "sandboxes"
"""Ray resource whose amount is the number of slots of a node."""
LOOK_S = 1.0
"""Least time between two looks at the cluster."""
PING_S = 5.0
"""Least time between two health checks of an actor."""
STOP_S = 0.5
"""Least time between two requests to stop one episode."""
CLOSE_S = 10.0
LEEWAY_S = 600.0
"""Seconds added to a task's limits: sandbox start, transfer of trees, generation."""
REST_S = 30.0
"""Longest pause of a slot whose node loses successive episodes, and longest wait before a dead actor is
replaced. Without the pause one broken node would consume the retries of all episodes."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Node:
    """A live node with the resource."""

    id: str
    name: str
    slots: int


def playing_nodes() -> list[Node]:
    """List the live nodes with the resource, in the cluster of this process."""
    import ray

    return [
        Node(row["NodeID"], f"node {row['NodeManagerAddress']} ({row['NodeID'][:8]})", slots)
        for row in ray.nodes()
        if row["Alive"] and (slots := int(row["Resources"].get(RESOURCE, 0))) > 0
    ]


def somewhere_else() -> bool:
    """Whether a node other than this process's plays episodes."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return any(node.id != here for node in playing_nodes())


class RayExecutor(Executor):
    """Plays on every node that has the resource. Every wait has a deadline."""

    def __init__(
        self, env_spec: EnvSpec, *, start_s: float = 120.0, silent_s: float = 60.0, retries: int = 1
    ) -> None:
        """`start_s` bounds the start of a node, and the wait of the run for a first ready node.

        An actor without an answer for `silent_s` seconds is abandoned. Raises `TrainError`.
        """
        self._env_spec, self._start_s, self._silent_s, self.retries = env_spec, start_s, silent_s, retries
        self._lock = threading.RLock()
        self._nodes: dict[str, NodeWorkers] = {}
        self._losses: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._shipped: dict[str, tuple[Any, ...]] = {}
        self._policy: tuple[Policy, PolicyRef] | None = None
        self._ever_ready = False
        self._looked = self._alive_at = float("-inf")
        self._trouble = "no node has the Ray resource `sandboxes`"
        if not playing_nodes():
            raise TrainError(
                "no node of the cluster has the resource `sandboxes`; start Ray on those that shall play "
                """episodes with --resources='{"sandboxes": 8}', or set sandbox.placement = "driver\""""
            )

    @property
    def slots(self) -> int:
        """Number of slots at present."""
        with self._lock:
            return sum(workers.node.slots for workers in self._nodes.values() if workers.ready)

    def new_slots(self, policy: Policy, max_format_errors: int) -> NewSlots:
        """All slots there are at the first call, then those of nodes that joined.

        The calls raise `TrainError` when no node plays any more.
        """
        make = partial(
            _RemoteWorker,
            policy_ref=self._policy_ref(policy),
            policy=policy.name,
            max_format_errors=max_format_errors,
        )
        self._alive_at = time.monotonic()
        known: set[NodeWorkers] = set()

        def new_slots() -> Sequence[WorkerFactory]:
            with self._lock:
                self._look()
                fresh = [workers for workers in self._nodes.values() if workers not in known]
            known.update(fresh)
            rows = [[partial(workers.make_worker, make)] * workers.node.slots for workers in fresh]
            # One of each node in turn: fewer episodes than slots are spread over the nodes.
            return [factory for factory in chain.from_iterable(zip_longest(*rows)) if factory is not None]

        return new_slots

    def close(self) -> None:
        """End every actor, and with it its sandboxes. Safe to call twice."""
        with self._lock:
            nodes, self._nodes = list(self._nodes.values()), {}
        closing = [thread for workers in nodes if (thread := workers.close())]
        for thread in closing:
            thread.join(CLOSE_S)

    def _look(self) -> None:
        """Update the list of nodes and actors. Raises `TrainError` when no node is left."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        nodes = {node.id: node for node in playing_nodes()}
        for name, workers in list(self._nodes.items()):
            if name not in nodes:
                workers.lose(f"{workers.node.name} is gone")
            workers.ping(self._silent_s)
            if workers.gone:
                self._trouble = workers.gone
                del self._nodes[name]
                self._losses[name] = self._losses.get(name, 0) + (0 if workers.played else 1)
                self._not_before[name] = now + min(REST_S, 2.0 ** self._losses[name])
        for name in nodes.keys() - self._nodes.keys():
            if now >= self._not_before.get(name, now):
                self._nodes[name] = NodeWorkers(nodes[name], self._env_spec, self._archive_ref, self._start_s)
        if any(workers.ready for workers in self._nodes.values()):
            self._alive_at, self._ever_ready = now, True
        elif now - self._alive_at > self._start_s or not (self._ever_ready or self._nodes):
            raise TrainError(f"no node of the cluster plays episodes: {self._trouble}")

    def _policy_ref(self, policy: Policy) -> PolicyRef:
        """Put a policy into Ray's object store; the last policy is reused."""
        import ray

        with self._lock:
            if self._policy is None or self._policy[0] is not policy:
                self._policy = (policy, PolicyRef(uuid.uuid4().hex, (ray.put(policy),)))
            return self._policy[1]

    def _archive_ref(self, name: str) -> tuple[Any, ...]:
        """Put the archive of a missing task set into Ray's object store, once."""
        import ray

        with self._lock:
            if name not in self._shipped:
                self._shipped[name] = (ray.put(self._env_spec.ship(name)),)
            return self._shipped[name]


class NodeWorkers:
    """The workers of one node: one actor, and one worker per slot."""

    def __init__(
        self, node: Node, env_spec: EnvSpec, archive_ref: Callable[[str], tuple[Any, ...]], start_s: float
    ) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.node = node
        self.gone = ""
        """Reason for the loss of this actor; empty while it is in use."""
        self.ready = False
        self.played = False
        """Whether any episode of this node completed."""
        self._closing = False
        self._failures = 0  # episodes lost since the last that was not
        self._decided = threading.Event()  # ready or gone
        self._ping: tuple[float, Any] | None = None
        self._pinged = time.monotonic()
        options = {
            "num_cpus": 0,
            "resources": {RESOURCE: node.slots},
            "max_concurrency": node.slots + 4,  # beside the episodes: ping, stop, close
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
        }
        self.actor = RemoteActor.start(
            WorkerActor, options=options, what="its worker", error=WorkerLost, passed=(Exception,)
        )
        starting = (env_spec, archive_ref, time.monotonic() + start_s)
        threading.Thread(target=self._start, args=starting, name=f"worker {node.id[:8]}", daemon=True).start()

    def _start(
        self, env_spec: EnvSpec, archive_ref: Callable[[str], tuple[Any, ...]], deadline: float
    ) -> None:
        try:
            missing = self.actor.call("missing", deadline - time.monotonic(), env_spec)
            shipped: Mapping[str, tuple[Any, ...]] = {name: archive_ref(name) for name in missing}
            self.actor.call("load", deadline - time.monotonic(), env_spec, shipped)
            self.ready = not self.gone
        except Exception as error:  # the actor is lost, or could not open its environments
            self.lose(f"{self.node.name} cannot play: {' '.join(str(error).split())}")
        finally:
            self._decided.set()

    def make_worker(
        self, make: Callable[[NodeWorkers], _RemoteWorker], stopping: threading.Event
    ) -> _RemoteWorker:
        """Wait until the actor is ready, and rested. Raises `WorkerLost`."""
        while not self._decided.wait(0.1) and not stopping.is_set():
            pass
        if self._failures:
            stopping.wait(min(REST_S, 0.1 * 2.0 ** min(self._failures, 10)))
        if self.gone or stopping.is_set():
            raise WorkerLost(self.gone or "the run is over")
        return make(self)

    def note(self, *, lost: bool) -> None:
        """Record a lost or completed episode."""
        self._failures = self._failures + 1 if lost else 0
        self.played = self.played or not lost

    def ping(self, silent_s: float) -> None:
        """Send health checks; abandon the actor when the last check stays unanswered."""
        import ray

        now = time.monotonic()
        if not self.ready or self.gone:
            return
        try:
            if self._ping is None:
                if now - self._pinged > min(PING_S, silent_s):
                    self._ping, self._pinged = (now, self.actor.send("ping")), now
                return
            asked, call = self._ping
            if ray.wait([call], timeout=0)[0]:
                self._ping = None
                self.actor.wait(call, 1.0)
            elif now - asked > silent_s:
                self.lose(f"{self.node.name} did not answer for {silent_s:.0f} s")
        except WorkerLost as error:
            self.lose(f"{self.node.name}: {error}")

    def lose(self, why: str) -> None:
        """Abandon this actor; every pending call to it fails at once. The first reason is kept."""
        if not self.gone and not self._closing:
            _log.warning("%s", why)
        self.ready = False
        self.gone = self.gone or why
        self._decided.set()
        self.actor.kill()

    def close(self) -> threading.Thread | None:
        """Start the actor's shutdown, sandboxes included; returns a thread to join."""
        import ray

        if not ray.is_initialized():
            return None
        self._closing = True

        def end() -> None:
            with suppress(WorkerLost):  # the actor is gone already
                self.actor.call("close", CLOSE_S / 2)
            self.lose("the run is over")

        thread = threading.Thread(target=end, name="closing a worker", daemon=True)
        thread.start()
        return thread


class _RemoteWorker:
    """One slot of a node, as a worker of `agents.executor`."""

    def __init__(
        self, node_workers: NodeWorkers, *, policy_ref: PolicyRef, policy: str, max_format_errors: int
    ) -> None:
        self._node_workers, self._policy_ref, self._policy = node_workers, policy_ref, policy
        self._max_format_errors = max_format_errors
        self._key = ""
        self._stopped = float("-inf")

    def play(self, request: EpisodeRequest) -> Trajectory:
        """Play on the actor; a lost episode is unscored, and an exception in the actor's code is raised."""
        workers = self._node_workers
        if workers.gone:  # another slot found out meanwhile: no second episode is lost for that
            raise WorkerLost(workers.gone)
        started = time.monotonic()
        self._key = uuid.uuid4().hex
        timeout_s, job = longest_s(request.task), (self._key, request, self._policy_ref)
        try:
            trajectory = workers.actor.call("play", timeout_s, *job, self._max_format_errors)
        except WorkerLost as error:
            # An actor that is out of time, or out of reach, may hold its slots for ever.
            workers.lose(f"{workers.node.name} lost its episodes: {error}")
            trajectory = _lost(request, self._policy, workers.gone, time.monotonic() - started)
        finally:
            self._key = ""
        workers.note(lost=trajectory.stop is StopReason.INFRA)
        return trajectory

    def close(self) -> None:
        """Stop the episode under way."""
        now, key = time.monotonic(), self._key
        if key and now - self._stopped > STOP_S:
            self._stopped = now
            with suppress(WorkerLost):  # the actor is gone, and the episode with it
                self._node_workers.actor.send("stop", key)


def longest_s(task: Task) -> float:
    """Upper bound in seconds on an episode, image build, grading and all waits included."""
    return 2 * task.limits.episode_s + 3 * task.limits.test_s + LEEWAY_S


def _lost(request: EpisodeRequest, policy: str, error: str, duration_s: float) -> Trajectory:
    """Return the unscored trajectory of a lost episode."""
    return Trajectory(
        id=uuid.uuid4().hex,
        task_id=request.task.id,
        task_hash=request.task.hash,
        group=request.group,
        policy=policy,
        seed=request.seed,
        turns=(),
        stop=StopReason.INFRA,
        reward=None,
        error=error,
        duration_s=duration_s,
    )

"""Episodes on the nodes of a cluster: one actor on each node that has the Ray resource `sandboxes`.

The resource says how many episodes a node plays at once; the actor takes all of it, so that two runs do not
share a node. A sandbox lives on the node of the actor that uses it, and ends with it. Episodes of a node that
is lost are begun anew wherever a place is free (`agents.executor` hands them out, as it does in one process);
nodes that join are used within seconds.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from typing import Any

from agents.executor import EpisodeRequest, Newcomers, WorkerFactory, WorkerLost, play_many
from agents.types import Policy, Trajectory
from envs.types import StopReason, Task
from sandboxes.progress import Progress, silent

from ..config import TrainError
from .worker import EnvFactory, PolicyRef, WorkerActor

RESOURCE = "sandboxes"
"""Ray's name for how many episodes a node plays at once."""
LOOK_S = 1.0
"""Least time between two looks at the cluster."""
PING_S = 5.0
"""Least time between two questions after an actor's health."""
STOP_S = 0.5
"""Least time between two requests to stop one episode."""
CLOSE_S = 10.0
LEEWAY_S = 600.0
"""What an episode may take beyond its task's limits: sandboxes that start, trees, the engine's answers."""
REST_S = 30.0
"""Longest pause of a place whose node loses one episode after another, and the first of a node whose actor
died; without it one broken node would swallow what others could play."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Node:
    """A live node that plays episodes."""

    id: str
    name: str
    places: int


def playing_nodes() -> list[Node]:
    """The live nodes of the cluster this process is connected to that have the resource."""
    import ray

    return [
        Node(row["NodeID"], f"node {row['NodeManagerAddress']} ({row['NodeID'][:8]})", places)
        for row in ray.nodes()
        if row["Alive"] and (places := int(row["Resources"].get(RESOURCE, 0))) > 0
    ]


def somewhere_else() -> bool:
    """Whether a node other than this process's plays episodes."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return any(node.id != here for node in playing_nodes())


class RayExecutor:
    """A stage (`agents.executor.Stage`) that is as large as the cluster. Every wait has a deadline."""

    def __init__(
        self, site: EnvFactory, *, start_s: float = 120.0, silent_s: float = 60.0, retries: int = 1
    ) -> None:
        """`start_s`: how long a node may take to be ready, and how long a run waits while none is.

        An actor that says nothing for `silent_s` is given up.
        """
        self._site, self._start_s, self._silent_s, self._retries = site, start_s, silent_s, retries
        self._lock = threading.RLock()
        self._posts: dict[str, NodeWorkers] = {}
        self._losses: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._shipped: dict[str, tuple[Any, ...]] = {}
        self._lent: tuple[Policy, PolicyRef] | None = None
        self._ever_ready = False
        self._looked = self._alive_at = float("-inf")
        self._trouble = "no node has the Ray resource `sandboxes`"
        if not playing_nodes():
            raise TrainError(
                "no node of the cluster has the resource `sandboxes`; start Ray on those that shall play "
                """episodes with --resources='{"sandboxes": 8}', or set sandbox.placement = "driver\""""
            )

    @property
    def places(self) -> int:
        """Episodes that can be played at once, as things are."""
        with self._lock:
            return sum(post.node.places for post in self._posts.values() if post.ready)

    def play(
        self,
        requests: Iterable[EpisodeRequest],
        policy: Policy,
        *,
        progress: Progress = silent,
        max_format_errors: int = 3,
    ) -> Generator[Trajectory, None, None]:
        """See `agents.executor.play_many`. Raises `TrainError` when no node plays any more."""
        lent = self._lend(policy)
        make = partial(_RemoteWorker, lent=lent, name=policy.name, max_format_errors=max_format_errors)
        self._alive_at = time.monotonic()
        return play_many(requests, self._newcomers(make), progress=progress, retries=self._retries)

    def close(self) -> None:
        """End every actor, and with it its sandboxes. Safe to call twice."""
        with self._lock:
            posts, self._posts = list(self._posts.values()), {}
        closing = [thread for post in posts if (thread := post.close())]
        for thread in closing:
            thread.join(CLOSE_S)

    def _newcomers(self, make: Callable[[NodeWorkers], _RemoteWorker]) -> Newcomers:
        """Places for one crew: all there are at first, then those that come."""
        known: set[NodeWorkers] = set()

        def newcomers() -> Sequence[WorkerFactory]:
            with self._lock:
                self._look()
                fresh = [post for post in self._posts.values() if post not in known]
            known.update(fresh)
            rows = [[partial(post.hire, make)] * post.node.places for post in fresh]
            # One of each node in turn: fewer episodes than places are spread over the nodes.
            return [hire for hire in chain.from_iterable(zip_longest(*rows)) if hire is not None]

        return newcomers

    def _look(self) -> None:
        """Notice nodes that came and went, and actors that died. Raises `TrainError` when nobody is left."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        nodes = {node.id: node for node in playing_nodes()}
        for name, post in list(self._posts.items()):
            if name not in nodes:
                post.lose(f"{post.node.name} is gone")
            post.ping(self._silent_s)
            if post.gone:
                self._trouble = post.gone
                del self._posts[name]
                self._losses[name] = self._losses.get(name, 0) + (0 if post.played else 1)
                self._not_before[name] = now + min(REST_S, 2.0 ** self._losses[name])
        for name in nodes.keys() - self._posts.keys():
            if now >= self._not_before.get(name, now):
                self._posts[name] = NodeWorkers(nodes[name], self._site, self._reference, self._start_s)
        if any(post.ready for post in self._posts.values()):
            self._alive_at, self._ever_ready = now, True
        elif now - self._alive_at > self._start_s or not (self._ever_ready or self._posts):
            raise TrainError(f"no node of the cluster plays episodes: {self._trouble}")

    def _lend(self, policy: Policy) -> PolicyRef:
        """Put a policy where every node can fetch it; the one of last time is there already."""
        import ray

        with self._lock:
            if self._lent is None or self._lent[0] is not policy:
                self._lent = (policy, PolicyRef(uuid.uuid4().hex, (ray.put(policy),)))
            return self._lent[1]

    def _reference(self, name: str) -> tuple[Any, ...]:
        """What has to be shipped, put once where every node can fetch it."""
        import ray

        with self._lock:
            if name not in self._shipped:
                self._shipped[name] = (ray.put(self._site.ship(name)),)
            return self._shipped[name]


class NodeWorkers:
    """One node's actor, from its start to its end."""

    def __init__(
        self, node: Node, site: EnvFactory, reference: Callable[[str], tuple[Any, ...]], start_s: float
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.node = node
        self.gone = ""
        """Why nobody plays here any more."""
        self.ready = False
        self.played = False
        """Whether an episode came back from here."""
        self._closing = False
        self._failures = 0  # episodes lost since the last that was not
        self._decided = threading.Event()  # ready or gone
        self._ping: tuple[float, Any] | None = None
        self._pinged = time.monotonic()
        options = {
            "num_cpus": 0,
            "resources": {RESOURCE: node.places},
            "max_concurrency": node.places + 4,  # beside the episodes: ping, stop, close
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
        }
        self.actor: Any = ray.remote(WorkerActor).options(**options).remote()
        starting = (site, reference, time.monotonic() + start_s)
        threading.Thread(target=self._start, args=starting, name=f"player {node.id[:8]}", daemon=True).start()

    def _start(self, site: EnvFactory, reference: Callable[[str], tuple[Any, ...]], deadline: float) -> None:
        def ask(call: Any) -> Any:
            return _answer(call, deadline - time.monotonic())

        try:
            shipped: Mapping[str, tuple[Any, ...]] = {
                name: reference(name) for name in ask(self.actor.missing.remote(site))
            }
            ask(self.actor.load.remote(site, shipped))
            self.ready = not self.gone
        except WorkerLost as error:
            self.lose(f"{self.node.name} cannot play: {error}")
        except Exception as error:  # what the site could not open there
            self.lose(f"{self.node.name} cannot play: {' '.join(str(error).split())}")
        finally:
            self._decided.set()

    def hire(self, make: Callable[[NodeWorkers], _RemoteWorker], stopping: threading.Event) -> _RemoteWorker:
        """Wait until the actor is ready, and rested. Raises `WorkerLost`."""
        while not self._decided.wait(0.1) and not stopping.is_set():
            pass
        if self._failures:
            stopping.wait(min(REST_S, 0.1 * 2.0 ** min(self._failures, 10)))
        if self.gone or stopping.is_set():
            raise WorkerLost(self.gone or "the run is over")
        return make(self)

    def note(self, *, lost: bool) -> None:
        """Learn how an episode went."""
        self._failures = self._failures + 1 if lost else 0
        self.played = self.played or not lost

    def ping(self, silent_s: float) -> None:
        """Give the actor up when the last question after its health stays unanswered."""
        import ray

        now = time.monotonic()
        if not self.ready or self.gone:
            return
        if self._ping is None:
            if now - self._pinged > min(PING_S, silent_s):
                self._ping, self._pinged = (now, self.actor.ping.remote()), now
            return
        asked, call = self._ping
        if ray.wait([call], timeout=0)[0]:
            self._ping = None
            try:
                _answer(call, 1.0)
            except WorkerLost as error:
                self.lose(f"{self.node.name}: {error}")
        elif now - asked > silent_s:
            self.lose(f"{self.node.name} did not answer for {silent_s:.0f} s")

    def lose(self, why: str) -> None:
        """Give this actor up; whoever waits for it learns at once. Keeps the first reason."""
        import ray

        if not self.gone and not self._closing:
            _log.warning("%s", why)
        self.ready = False
        self.gone = self.gone or why
        self._decided.set()
        if ray.is_initialized():
            ray.kill(self.actor)

    def close(self) -> threading.Thread | None:
        """Begin to end the actor, letting it close its sandboxes; a thread that ends when it has."""
        import ray

        if not ray.is_initialized():
            return None
        self._closing = True

        def end() -> None:
            try:
                _answer(self.actor.close.remote(), CLOSE_S / 2)
            except WorkerLost:
                pass  # it is gone, which was the point
            self.lose("the run is over")

        thread = threading.Thread(target=end, name="closing a player", daemon=True)
        thread.start()
        return thread


class _RemoteWorker:
    """One place of a post, as `agents.executor` knows players."""

    def __init__(self, post: NodeWorkers, *, lent: PolicyRef, name: str, max_format_errors: int) -> None:
        self._post, self._lent, self._name = post, lent, name
        self._max_format_errors = max_format_errors
        self._key = ""
        self._stopped = float("-inf")

    def play(self, request: EpisodeRequest) -> Trajectory:
        """Have the actor play; an episode that does not come back is unscored. A defect there is raised."""
        if self._post.gone:  # another place learned it meanwhile: nobody is to lose an episode for that
            raise WorkerLost(self._post.gone)
        started = time.monotonic()
        self._key = uuid.uuid4().hex
        call = self._post.actor.play.remote(self._key, request, self._lent, self._max_format_errors)
        try:
            trajectory = _answer(call, longest_s(request.task))
        except WorkerLost as error:
            # An actor that is out of time, or out of reach, may hold its places for ever.
            self._post.lose(f"{self._post.node.name} lost its episodes: {error}")
            trajectory = _lost(request, self._name, str(self._post.gone), time.monotonic() - started)
        finally:
            self._key = ""
        self._post.note(lost=trajectory.stop is StopReason.INFRA)
        return trajectory

    def close(self) -> None:
        """Have the episode that is under way stopped."""
        now, key = time.monotonic(), self._key
        if key and now - self._stopped > STOP_S:
            self._stopped = now
            self._post.actor.stop.remote(key)


def longest_s(task: Task) -> float:
    """Seconds after which an episode must be over, its image, its grading and all waits inside included."""
    return 2 * task.limits.episode_s + 3 * task.limits.test_s + LEEWAY_S


def _lost(request: EpisodeRequest, policy: str, error: str, duration_s: float) -> Trajectory:
    """What is left of an episode of which nothing came back."""
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


def _answer(call: Any, timeout_s: float) -> Any:
    """Wait for an actor; the one place where Ray's errors are translated.

    Raises `WorkerLost` when the actor cannot answer, and what its own code raised.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

    try:
        return ray.get(call, timeout=max(0.0, timeout_s))
    except GetTimeoutError:
        raise WorkerLost(f"no answer within {timeout_s:.0f} s") from None
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except RayActorError:
        raise WorkerLost("its player died") from None
    except RayError as error:
        raise WorkerLost(f"it cannot be reached ({' '.join(str(error).split())[:200]})") from None

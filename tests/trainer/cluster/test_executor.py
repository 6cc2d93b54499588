"""Episodes on the nodes of a real Ray cluster, several raylets on this machine, in real sandboxes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from ray import cloudpickle
from ray.cluster_utils import Cluster

from agents.executor import EpisodeRequest, ThreadExecutor
from agents.policies.scripted import OraclePolicy, ScriptedPolicy
from envs.coding import CodingEnv
from envs.tasksets.taskset import Manifest, Runtime, TaskSet, load_taskset, write_taskset
from envs.tasksets.trees import TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Limits, Task, ToolCall
from sandboxes import Backend, ImageRecipe
from trainer.cluster import reaping
from trainer.cluster import session as cluster
from trainer.cluster.executor import RayExecutor
from trainer.cluster.worker import TasksetEnvSpec
from trainer.config import TrainError, parse
from trainer.setup import open_executor

pytestmark = [pytest.mark.train, pytest.mark.slow]
# This module is on no path of the actors: what it defines travels whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

TESTS = """import unittest
from double import double


class Doubling(unittest.TestCase):
    def test_double(self):
        self.assertEqual(double(3), 6)
"""
SLEEP = ScriptedPolicy([ToolCall("", "shell", {"command": "sleep 1"})])
LONG_SLEEP = ScriptedPolicy([ToolCall("", "shell", {"command": "sleep 3"})])
SOON = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def taskset(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    """One task that needs nothing but the base image."""
    solved = {
        "double.py": TreeFile(b"def double(n):\n    return n + n\n"),
        "tests/test_double.py": TreeFile(TESTS.encode()),
    }
    base = solved | {"double.py": TreeFile(b"def double(n):\n    return n * n\n")}
    task = Task(
        id="double-1",
        set="double",
        split="train",
        environment="default",
        workdir="/workspace",
        instruction="double(3) gives 9. Mend it.",
        source_digest=digest(base),
        base_patch="",
        reference_patch=diff_trees(base, solved),
        base_digest=digest(base),
        tests_digest=digest(base),
        fail_to_pass=("tests/test_double.py::Doubling::test_double",),
        pass_to_pass=(),
        test_files=("tests/test_double.py",),
        limits=Limits(max_turns=8, command_s=20, test_s=30, episode_s=60),
    )
    environment = Runtime(ImageRecipe("base-test"), RunnerSetup("unittest"))
    manifest = Manifest("double", "inject", "path:double", {"default": environment})
    return write_taskset(tmp_path_factory.mktemp("sets") / "double", manifest, [task], [base])


@pytest.fixture(scope="module")
def raylets() -> Iterator[Cluster]:
    """A cluster whose first node, the driver's, plays nothing."""
    variables = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        started = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "_system_config": SOON, "include_dashboard": False},
        )
        yield started
        started.shutdown()


@pytest.fixture
def connected(raylets: Cluster) -> Iterator[Cluster]:
    """This process is a driver of the cluster."""
    with cluster.start(address=raylets.address):
        yield raylets


@pytest.fixture(scope="module")
def nodes(raylets: Cluster) -> tuple[Any, Any]:
    """Two nodes that play, one and two episodes at once."""
    return raylets.add_node(resources={"sandboxes": 1}), raylets.add_node(resources={"sandboxes": 2})


@dataclass(frozen=True)
class Watched:
    """Environments that note, on every node, when an episode begins and ends, and by which process."""

    inner: TasksetEnvSpec
    log: str
    missing_where: int = 0
    """On nodes with this many slots the task sets count as missing."""

    def missing(self) -> Sequence[str]:
        here = next(node for node in ray.nodes() if node["NodeID"] == this_node())
        all_of_them = [folder for folder, _ in self.inner.sets]
        return all_of_them if here["Resources"]["sandboxes"] == self.missing_where else self.inner.missing()

    def ship(self, name: str) -> bytes:
        return self.inner.ship(name)

    @contextmanager
    def open(self, shipped: Mapping[str, bytes]) -> Iterator[Any]:
        self.note("shipped" if shipped else "shared")
        with self.inner.open(shipped) as make_env:
            yield lambda: WatchedEnv(make_env(), self)

    def note(self, what: str) -> None:
        with Path(self.log).open("a") as file:
            file.write(f"{what} {this_node()} {os.getpid()}\n")

    def read(self) -> list[list[str]]:
        path = Path(self.log)
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def playing(self, node: str) -> dict[int, int]:
        """Episodes that each process of a node has begun and not graded."""
        steps: Counter[int] = Counter()
        for what, where, pid in self.read():
            if where == node:
                steps[int(pid)] += {"begin": 1, "graded": -1}.get(what, 0)
        return +steps


def this_node() -> str:
    return ray.get_runtime_context().get_node_id()


class WatchedEnv:
    def __init__(self, env: CodingEnv, watched: Watched) -> None:
        self.env, self.watched, self.tools = env, watched, env.tools

    def reset(self, **options: Any) -> Any:
        self.watched.note("begin")
        return self.env.reset(**options)

    def step(self, action: ToolCall) -> Any:
        result = self.env.step(action)
        if result[2] or result[3]:
            self.watched.note("graded")
        return result

    def finish(self, reason: Any) -> Any:
        graded = self.env.finish(reason)
        self.watched.note("graded")
        return graded

    def close(self) -> None:
        self.env.close()
        self.watched.note("end")


@pytest.fixture
def watched(taskset: TaskSet, tmp_path: Path) -> Watched:
    return Watched(TasksetEnvSpec.of([taskset], backend="bubblewrap"), str(tmp_path / "log"))


def requests(taskset: TaskSet, count: int) -> list[EpisodeRequest]:
    return [EpisodeRequest(taskset.tasks[0], seed, "g") for seed in range(count)]


def requests_until(taskset: TaskSet, enough: Callable[[], bool]) -> Iterator[EpisodeRequest]:
    """Ten requests, and more as long as it is not enough."""
    for request in requests(taskset, 400):
        if request.seed >= 10 and enough():
            return
        yield request


def most_at_once(rows: list[list[str]], node: str) -> int:
    steps = [{"begin": 1, "end": -1}.get(what, 0) for what, where, _ in rows if where == node]
    return max(accumulate(steps))


@pytest.mark.bubblewrap
def test_a_cluster_of_one_is_played_in_this_process_unless_told_otherwise(
    taskset: TaskSet, bubblewrap_image: str
) -> None:
    def executor(placement: str, stack: ExitStack, env: str = "envs.coding:CodingEnv") -> Any:
        settings = {"backend": "bubblewrap", "concurrency": 3, "placement": placement, "env": env}
        return open_executor(
            parse({"tasks": {"sets": [str(taskset.folder)]}, "sandbox": settings}), [taskset], stack
        )

    with cluster.start(cpus=1, sandboxes=2), ExitStack() as stack:
        with pytest.raises(TrainError, match=r"sandbox\.env: there is no environment 'codin'"):
            executor("driver", stack, env="codin")
        here, there = executor("auto", stack), executor("cluster", stack)
        assert (type(here), here.slots) == (ThreadExecutor, 3)
        (played,) = there.play(requests(taskset, 1), OraclePolicy())
        assert (type(there), there.slots, played.reward) == (RayExecutor, 2, 1.0)


def test_a_cluster_on_which_nobody_can_play_says_why_in_one_line(
    connected: Cluster, taskset: TaskSet, watched: Watched, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(TrainError, match="no node of the cluster has the resource `sandboxes`"):
        RayExecutor(watched)
    request.getfixturevalue("nodes")
    executor = RayExecutor(replace(watched, inner=replace(watched.inner, backend="none")))
    started = time.monotonic()
    with pytest.raises(TrainError, match=r"cannot play: there is no sandbox backend 'none'") as caught:
        list(executor.play(requests(taskset, 2), OraclePolicy()))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 30
    executor.close()


@pytest.mark.bubblewrap
def test_nodes_with_the_resource_play_as_many_as_it_says_and_newcomers_join(
    connected: Cluster, nodes: tuple[Any, Any], taskset: TaskSet, watched: Watched, bubblewrap_image: str
) -> None:
    watched = replace(watched, missing_where=2)
    one, two = nodes
    executor = RayExecutor(watched)
    late: list[Any] = []

    def all_play() -> bool:
        begun = {where for what, where, _ in watched.read() if what == "begin"}
        return bool(late) and {one.node_id, two.node_id, late[0].node_id} <= begun

    episodes = executor.play(requests_until(taskset, all_play), OraclePolicy())
    played = [next(episodes)]
    late.append(connected.add_node(resources={"sandboxes": 1}))
    played += episodes
    executor.close()
    assert [t.reward for t in played] == [1.0] * len(played)
    assert sorted(t.seed for t in played) == list(range(len(played)))
    rows = watched.read()
    assert [most_at_once(rows, node.node_id) for node in (one, two, *late)] == [1, 2, 1]
    assert {where for what, where, _ in rows if what == "shipped"} == {two.node_id}
    assert executor.slots == 0


@pytest.mark.bubblewrap
def test_a_worker_that_is_frozen_is_given_up(
    connected: Cluster, nodes: tuple[Any, Any], taskset: TaskSet, watched: Watched, bubblewrap_image: str
) -> None:
    frozen: list[int] = []

    def freeze(what: str, done: int, total: int) -> None:
        for pid in watched.playing(nodes[1].node_id) if not frozen else ():
            os.kill(pid, signal.SIGSTOP)
            if pid in watched.playing(nodes[1].node_id):  # it did not end its last episode meanwhile
                frozen.append(pid)
                return
            os.kill(pid, signal.SIGCONT)

    executor = RayExecutor(watched, silent_s=2)
    try:
        played = list(executor.play(requests_until(taskset, lambda: bool(frozen)), SLEEP, progress=freeze))
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    executor.close()
    assert [t.reward for t in played] == [0.0] * len(played), [t.error for t in played]
    assert len([row for row in watched.read() if row[0] == "begin"]) > len(played)


@pytest.mark.docker
def test_a_node_that_is_killed_loses_its_episodes_and_not_the_run(
    connected: Cluster,
    nodes: tuple[Any, Any],
    taskset: TaskSet,
    watched: Watched,
    docker_backend: Backend,
    docker_image: str,
) -> None:
    import docker

    engine = docker.APIClient(timeout=30)

    def containers(pid: int) -> list[str]:
        labels = [row["Labels"] for row in engine.containers(filters={"label": "daythree.owner"})]
        return [owner for row in labels if (owner := row["daythree.owner"]).split(".")[1] == str(pid)]

    watched = replace(watched, inner=replace(watched.inner, backend="docker"))
    doomed = connected.add_node(resources={"sandboxes": 2})
    executor = RayExecutor(watched)
    pid = 0

    def kill(what: str, done: int, total: int) -> None:
        nonlocal pid
        workers_there = watched.playing(doomed.node_id)
        if workers_there and not pid:
            pid = next(iter(workers_there))
            wait_for(lambda: containers(pid), 20)
            os.kill(doomed.all_processes["raylet"][0].process.pid, signal.SIGKILL)
            wait_for(lambda: reaping.start_of(pid) is None and not containers(pid), 15)

    played = list(executor.play(requests_until(taskset, lambda: pid > 0), LONG_SLEEP, progress=kill))
    executor.close()
    engine.close()
    assert pid
    assert [t.reward for t in played] == [0.0] * len(played), [t.error for t in played]
    assert sorted(t.seed for t in played) == list(range(len(played)))
    begun = [where for what, where, _ in watched.read() if what == "begin"]
    lost = watched.playing(doomed.node_id).get(pid, 0)
    assert len(begun) == len(played) + lost, "what the dead node played was begun anew"


def wait_for(holds: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def test_a_task_set_that_travels_is_the_same_and_leaves_nothing(taskset: TaskSet) -> None:
    spec = TasksetEnvSpec.of([taskset], backend="bubblewrap")
    assert spec.missing() == ()
    elsewhere = replace(spec, sets=((str(taskset.folder / "gone"), taskset.digest),))
    assert elsewhere.missing() == (str(taskset.folder / "gone"),)
    with elsewhere.open({elsewhere.missing()[0]: spec.ship(str(taskset.folder))}) as make_env:
        ((loaded, _),) = make_env()._tasks.values()
        assert loaded.digest == taskset.digest
        assert load_taskset(loaded.folder).tasks == taskset.tasks
    assert not loaded.folder.exists()

"""Play many small episodes while containers are killed and the engine is restarted; then look what is left.

    python -m benchmarks.soak --episodes 10000 --kills 0.01 --restarts 2

Half of the episodes solve their task and half do not, so the right verdict of every episode is known. The
exit code is 0 when no scored episode has a wrong verdict, no container, folder, mount or process remains, and
memory is flat. With `--restarts` the program starts a Docker engine of its own (as root, without a network);
restarts do not disturb other users of Docker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agents.executor import EpisodeRequest, ThreadExecutor
from agents.policies.scripted import ScriptedPolicy, ScriptedSession, playing
from envs.coding import CodingEnv
from envs.types import Observation, Task
from sandboxes import connect
from sandboxes.images.build import cache_folder

from .task import bench_taskset, ten_steps

ENGINE_S = 60.0
SETTLE_S = 30.0
GROWTH_MB = 48.0
"""Largest allowed growth of this process from the second tenth of the run to the last tenth."""


@dataclass
class Report:
    """Result of a soak run."""

    episodes: int = 0
    scored: int = 0
    unscored: int = 0
    wrong_verdicts: int = 0
    killed: int = 0
    engine_restarts: int = 0
    seconds: float = 0.0
    memory_mb: list[float] = field(default_factory=list[float])
    """Resident size of this process, sampled about a hundred times."""
    descriptors: list[int] = field(default_factory=list[int])
    left_behind: list[str] = field(default_factory=list[str])
    pool: dict[str, Any] = field(default_factory=dict[str, Any])
    why_unscored: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def growth_mb(self) -> float:
        tenth = max(1, len(self.memory_mb) // 10)
        early, late = self.memory_mb[tenth : 2 * tenth], self.memory_mb[-tenth:]
        return statistics.median(late) - statistics.median(early or late)

    def good(self) -> bool:
        return (
            not (self.wrong_verdicts or self.left_behind) and self.growth_mb < GROWTH_MB and self.scored > 0
        )


class KnowingPolicy(ScriptedPolicy):
    """Solves the task for odd seeds, and submits other changes for even seeds."""

    def __init__(self) -> None:
        super().__init__([], name="knowing")

    def start(self, task: Task, tools: Any, first: Observation, *, seed: int) -> ScriptedSession:
        del tools
        return ScriptedSession(playing(tuple(ten_steps(seed, mend=seed % 2 == 1))), task, first)


class OwnEngine:
    """A Docker engine in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = (folder / "docker.sock").as_uri().replace("file", "unix", 1)

    def start(self) -> None:
        folder = self.folder
        options = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--host={self.socket}"]
        options += [f"--pidfile={folder}/pid", "--bridge=none", "--iptables=false"]
        (folder / "pid").unlink(missing_ok=True)
        with (folder / "log").open("ab") as log:
            # In a network namespace of its own: an engine without a bridge takes away the machine's.
            command = ["unshare", "--net", "dockerd", *options]
            subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + ENGINE_S
        while subprocess.run(
            ["docker", "-H", self.socket, "version"], capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < until, f"the engine did not start; see {folder}/log"
            time.sleep(0.2)

    def stop(self) -> None:
        """End the engine in the process that started the engine."""
        with contextlib.suppress(OSError, ValueError):  # it has ended already
            pid = int((self.folder / "pid").read_text())
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + ENGINE_S
            while Path(f"/proc/{pid}/root").exists() and time.monotonic() < until:
                time.sleep(0.1)


def soak(episodes: int, kills: float, restarts: int, concurrency: int, engine: OwnEngine | None) -> Report:
    """Play episodes, kill a container after a share `kills` of them, and restart the engine."""
    report, chance = Report(), random.Random(0)
    restarting = threading.Thread()
    restarting.start()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="daythree-soak-") as scratch:
        taskset = bench_taskset(Path(scratch) / "set")
        task = taskset.tasks[0]
        backend = connect("docker")
        backend.ensure_image(taskset.runtime(task).image, timeout_s=900)
        requests = [EpisodeRequest(task, seed) for seed in range(episodes)]
        restart_at = {episodes * (n + 1) // (restarts + 1) for n in range(restarts)}
        executor = ThreadExecutor(lambda: CodingEnv([taskset], backend=backend), concurrency, retries=3)
        for trajectory in executor.play(requests, KnowingPolicy()):
            report.episodes += 1
            if trajectory.reward is None:
                report.unscored += 1
                report.why_unscored = dict(Counter(report.why_unscored) + Counter([trajectory.error[:80]]))
            else:
                report.scored += 1
                report.wrong_verdicts += trajectory.reward != trajectory.seed % 2
            if chance.random() < kills:
                report.killed += kill_one(chance)
            if report.episodes in restart_at and engine is not None:
                restarting = threading.Thread(target=lambda: (engine.stop(), engine.start()))
                restarting.start()
                report.engine_restarts += 1
            if report.episodes % max(1, episodes // 100) == 0:
                observe(report)
        restarting.join()
        report.seconds = time.monotonic() - started
        stats = getattr(backend, "stats", None)
        report.pool = asdict(stats()) if stats else {}
        backend.close()
    return report


def kill_one(chance: random.Random) -> int:
    """Kill a random container of this run, busy or idle; return the number killed, 0 or 1."""
    found = containers(os.getpid())
    if found:
        docker("kill", chance.choice(found))
    return int(bool(found))


def docker(*arguments: str) -> str:
    command = ["docker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_S, check=False).stdout


def containers(owner: int) -> list[str]:
    """Return the ids of the containers that a process started."""
    rows = docker("ps", "-a", "--format", '{{.ID}} {{.Label "daythree.owner"}}').splitlines()
    return [row.split()[0] for row in rows if f".{owner}." in row]


def observe(report: Report) -> None:
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    report.memory_mb.append(int(rows["VmRSS"].split()[0]) / 1024)
    report.descriptors.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    print(
        f"{report.episodes} episodes, {report.scored} scored, {report.wrong_verdicts} wrong, "
        f"{report.killed} killed, {report.memory_mb[-1]:.0f} MB, {report.descriptors[-1]} descriptors",
        file=sys.stderr,
    )


def left_behind(owner: int) -> list[str]:
    """Return what remains of an ended process: containers, folders, mounts, processes.

    The engine's clean-up may take up to `SETTLE_S`.
    """
    until = time.monotonic() + SETTLE_S
    while (found := traces(owner)) and time.monotonic() < until:
        time.sleep(0.5)
    return found


def traces(owner: int) -> list[str]:
    found = [f"container {name}" for name in containers(owner)]
    found += [f"folder {path}" for path in cache_folder().glob(f"layers/*.{owner}.*")]
    return found + remains_of(owner)


def remains_of(owner: int) -> list[str]:
    """Return the mounts and processes of a process's sandboxes."""
    found: list[str] = []
    mounts = Path("/proc/self/mounts").read_text()
    found += [f"mount {line}" for line in mounts.splitlines() if "daythree" in line and "/layers/" in line]
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if f".{owner}.".encode() in entry.read_bytes():
                found.append(f"process {entry.parent.name}")
    return found


@contextlib.contextmanager
def engine_for(restarts: int) -> Iterator[OwnEngine | None]:
    if not restarts:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="daythree-engine-"))
    engine = OwnEngine(folder)
    try:
        engine.start()
        os.environ["DOCKER_HOST"] = engine.socket
        yield engine
    finally:
        engine.stop()
        unmount = ["umount", "--lazy", str(folder / "data")]  # the engine mounts it on itself
        subprocess.run(unmount, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument(
        "--kills", type=float, default=0.01, help="share of episodes after which one is killed"
    )
    parser.add_argument("--restarts", type=int, default=2, help="of the engine")
    parser.add_argument("--concurrency", type=int, default=6)
    parser.add_argument("--run-with", nargs=2, metavar=("REPORT", "ENGINE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run_with:
        result, folder = map(Path, arguments.run_with)
        options = {name: value for name, value in vars(arguments).items() if name != "run_with"}
        result.write_bytes(pickle.dumps(soak(**options, engine=OwnEngine(folder))))
        return 0
    with engine_for(arguments.restarts) as engine, tempfile.TemporaryDirectory() as folder:
        # The run is a process of its own, so that what is left when it has ended can be looked for.
        result = Path(folder) / "report.pickle"
        home = engine.folder if engine else folder
        again = [sys.executable, "-m", "benchmarks.soak", *sys.argv[1:]]
        run = subprocess.Popen([*again, "--run-with", str(result), str(home)])
        assert run.wait() == 0, "the run itself failed, see above"
        report: Report = pickle.loads(result.read_bytes())
        report.left_behind = left_behind(run.pid)
    shown = asdict(report) | {"growth_mb": round(report.growth_mb, 1), "good": report.good()}
    shown["memory_mb"] = [round(value) for value in report.memory_mb[:: max(1, len(report.memory_mb) // 10)]]
    shown["descriptors"] = report.descriptors[:: max(1, len(report.descriptors) // 10)]
    print(json.dumps(shown, indent=2))
    return 0 if report.good() else 1


if __name__ == "__main__":
    raise SystemExit(main())

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from trainer.cluster import reaping
from trainer.cluster import session as cluster

pytestmark = [pytest.mark.train, pytest.mark.slow]
pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parents[3]

DRIVER = """
import sys, time
from pathlib import Path
from trainer.cluster import session as cluster

{before}
ray_cluster = cluster.start(cpus=1)
(ray_cluster.scratch() / "weights").write_bytes(bytes(1000))
{work}
print(ray_cluster.name, flush=True)
{end}
"""

ENGINE = """
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from trainer.config import Engine
from trainer.engine.client import EngineSpec, start_engine
Qwen3ForCausalLM(Qwen3Config(vocab_size=128, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
    num_attention_heads=1, num_key_value_heads=1, head_dim=32, max_position_embeddings=64)
).save_pretrained(sys.argv[1])
client = start_engine(EngineSpec(sys.argv[1], Engine(kv_cache_gib=0.1), 64))
"""

MEMORY = """
import mmap, os
import ray
from trainer.cluster import reaping

@ray.remote(num_cpus=0)
class Holder:
    # vLLM's workers on several GPUs talk through such a file, and nobody removes it after kill -9.
    def hold(self):
        self.file = open(f"/dev/shm/psm_{os.getpid()}", "w+b")
        self.file.truncate(4096)
        self.memory = mmap.mmap(self.file.fileno(), 4096)
        reaping.remember_shared_memory()

holder = Holder.remote()
ray.get(holder.hold.remote())
"""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator["Driver"]:
    started = Driver(tmp_path)
    yield started
    started.process.kill()
    started.process.wait(timeout=10)


class Driver:
    """A process that starts a cluster, says its name, and then ends in one way or another."""

    process: subprocess.Popen[str]
    family: dict[int, int | None]

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, *, end: str, work: str = "", before: str = "") -> str:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                DRIVER.format(before=before, work=work, end=end),
                str(self._folder / "model"),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        name = self.process.stdout.readline().strip()
        assert name, "the driver ended before its cluster was up"
        assert len(reaping.labelled(name)) >= 4
        family = reaping.descendants(self.process.pid)
        self.family = {pid: reaping.start_of(pid) for pid in family if reaping.start_of(pid) is not None}
        return name

    def left(self, name: str) -> list[str]:
        """What of a driver is still here."""
        labelled = {*reaping.labelled(name), *self._alive()}
        processes = [f"process {pid}" for pid in labelled]
        folders = [str(p) for parent in reaping.folder_parents() for p in parent.glob(f"daythree-{name}")]
        return processes + folders

    def _alive(self) -> list[int]:
        """Whoever it started, whatever those call themselves now; the watchdog ends by itself."""
        return [pid for pid, when in self.family.items() if reaping.start_of(pid) == when]

    def wait_until_clean(self, name: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.left(name) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.left(name) == []


def test_a_cluster_that_is_closed_leaves_nothing(driver: Driver) -> None:
    name = driver.start(end="ray_cluster.close()")
    assert driver.process.wait(timeout=30) == 0
    assert driver.left(name) == []


def test_an_exception_leaves_nothing(driver: Driver) -> None:
    name = driver.start(end="raise RuntimeError")
    assert driver.process.wait(timeout=30) == 1
    assert driver.left(name) == []


def test_sigterm_leaves_nothing(driver: Driver) -> None:
    name = driver.start(end="time.sleep(60)")
    driver.process.send_signal(signal.SIGTERM)
    driver.process.wait(timeout=30)
    driver.wait_until_clean(name, 15)


def test_the_handlers_of_signals_stay_ours(driver: Driver) -> None:
    mine = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    name = driver.start(before=mine, end="time.sleep(60)")
    driver.process.send_signal(signal.SIGTERM)
    assert driver.process.wait(timeout=30) == 7
    driver.wait_until_clean(name, 15)


def commands_of(name: str) -> list[bytes]:
    """The command lines of a cluster's processes; one that ends meanwhile is left out."""
    found = []
    for pid in reaping.labelled(name):
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def test_kill_9_leaves_no_ray_no_vllm_and_no_memory(driver: Driver) -> None:
    name = driver.start(work=ENGINE + MEMORY, end="time.sleep(60)")
    deadline = time.monotonic() + 20
    while not any(b"VLLM::" in command for command in commands_of(name)):
        assert time.monotonic() < deadline, commands_of(name)
        time.sleep(0.1)  # a process that is just rewriting its title shows none
    segments = {segment for pid in reaping.labelled(name) for segment in reaping.shared_memory_of(pid)}
    assert any(segment.name.startswith("psm_") for segment in segments)
    driver.process.send_signal(signal.SIGKILL)
    driver.wait_until_clean(name, 15)
    assert [segment for segment in segments if segment.exists()] == []


def test_what_a_driver_left_whose_watchdog_died_too_is_reaped_at_the_next_start(driver: Driver) -> None:
    name = driver.start(end="time.sleep(60)")
    watchdogs = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if name.encode() in (command := path.read_bytes()) and b"reaping.py" in command
    ]
    assert len(watchdogs) == 1
    os.kill(watchdogs[0], signal.SIGKILL)
    driver.process.send_signal(signal.SIGKILL)
    driver.process.wait(timeout=10)
    time.sleep(1.0)
    assert any("/dev/shm/" in place for place in driver.left(name))
    reaping.reap()
    assert driver.left(name) == []


def test_reaping_leaves_the_living_alone() -> None:
    name = reaping.owner(99)
    folder = Path("/tmp") / reaping.folder_name(name)
    folder.mkdir()
    try:
        reaping.reap()
        assert folder.is_dir()
    finally:
        shutil.rmtree(folder)


def test_reaping_leaves_alone_what_a_driver_on_another_machine_owns() -> None:
    gone = "1-1-0"
    others = subprocess.Popen(
        ["sleep", "60"],
        env={reaping.LABEL: gone, reaping.HOST_LABEL: "elsewhere", "PATH": os.environ["PATH"]},
    )
    ours = subprocess.Popen(["sleep", "60"], env={reaping.LABEL: gone, "PATH": os.environ["PATH"]})
    try:
        reaping.reap()
        assert ours.wait(timeout=10) == -signal.SIGKILL
        assert others.poll() is None
    finally:
        for process in (others, ours):
            process.kill()
            process.wait(timeout=10)


def test_a_reused_process_id_is_not_taken_for_the_owner() -> None:
    pid, started, number = reaping.owner(0).split("-")
    assert reaping.is_alive(f"{pid}-{started}-{number}")
    assert not reaping.is_alive(f"{pid}-{int(started) - 1}-{number}")


def test_scratch_space_that_does_not_exist_is_a_sentence() -> None:
    with cluster.start(cpus=1) as running:
        with pytest.raises(cluster.ClusterError, match="running in this process already"):
            cluster.start()
        with pytest.raises(cluster.ClusterError, match=r"set engine\.weight_folder"):
            running.scratch(2**60)


def test_an_address_nobody_answers_at_is_one_line() -> None:
    with pytest.raises(cluster.ClusterError, match=r"cannot reach Ray at 127\.0\.0\.1:1") as caught:
        cluster.start(address="127.0.0.1:1")
    assert "\n" not in str(caught.value)

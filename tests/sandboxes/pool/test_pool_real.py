"""The pool in front of real backends: what is warm, what is left, and an engine's bad days."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from sandboxes import SandboxLost, SandboxSpec, connect
from sandboxes.backend import Owner, fork
from sandboxes.docker.containers import OWNER_LABEL
from sandboxes.pool.pool import Pool

SOON_S = 60.0


def containers() -> set[str]:
    """Those of this process."""
    engine = docker.APIClient(timeout=30)
    try:
        rows = engine.containers(filters={"label": OWNER_LABEL})
    finally:
        engine.close()
    return {row["Id"] for row in rows if Owner.parse(row["Labels"][OWNER_LABEL]).pid == os.getpid()}


def namespaces() -> set[str]:
    """The bubblewrap processes that this one started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # gone meanwhile
        if name == "bwrap" and rest.split()[1] == str(os.getpid()) and rest.split()[0] not in "ZX":
            found.add(stat.parent.name)
    return found


@dataclass
class Case:
    pool: Pool
    spec: SandboxSpec
    alive: Callable[[], set[str]]
    """The pool's sandboxes, as the engine or the kernel knows them."""


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ]
)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    image = request.getfixturevalue(f"{request.param}_image")
    listed = containers if request.param == "docker" else namespaces
    others = listed()
    pool = connect(request.param, ready=3)
    yield Case(pool, SandboxSpec(image), lambda: listed() - others)
    pool.close()
    assert not listed() - others, "closing the pool left something"


def test_the_second_of_a_spec_is_warm_and_blank(case: Case) -> None:
    first = case.pool.open(case.spec, timeout_s=SOON_S)
    first.write("mine", b"secret", timeout_s=20)
    first.exec("sleep 600 & echo $$ > /tmp/left", timeout_s=20)
    first.close()
    assert case.pool.settle(timeout_s=SOON_S)
    second = case.pool.open(case.spec, timeout_s=SOON_S)
    assert case.pool.stats().warm == 1
    assert second.listdir(".", timeout_s=20) == []
    assert "sleep" not in second.exec("cat /proc/[0-9]*/comm; cat /tmp/left", timeout_s=20).stdout
    with pytest.raises(SandboxLost):
        first.listdir(".", timeout_s=20)


def test_as_many_exist_as_the_counts_say(case: Case) -> None:
    def episode(number: int) -> str:
        sandbox = case.pool.open(case.spec, timeout_s=SOON_S)
        before = sandbox.listdir(".", timeout_s=20)
        sandbox.write("mine", b"x", timeout_s=20)
        sandbox.close()
        return "".join(before)

    with ThreadPoolExecutor(3) as threads:
        assert not "".join(threads.map(episode, range(30)))
    assert case.pool.settle(timeout_s=SOON_S)
    stats = case.pool.stats()
    assert stats.handed_out == 30 and stats.in_use == 0 and stats.failed == 0
    assert stats.idle == stats.started - stats.thrown_away == len(case.alive()) <= 3


def test_forks_come_out_of_the_pool(case: Case) -> None:
    first = case.pool.open(case.spec, timeout_s=SOON_S)
    first.write("mine", b"x", timeout_s=20)
    assert case.pool.settle(timeout_s=SOON_S) and case.pool.stats().idle == 1
    (second,) = fork(case.pool, first, 1, timeout_s=SOON_S)
    assert case.pool.stats().warm == 1
    first.write("mine", b"y", timeout_s=20)
    assert second.read("mine", timeout_s=20) == b"x"
    second.close()
    assert case.pool.settle(timeout_s=SOON_S)
    third = case.pool.open(case.spec, timeout_s=SOON_S)
    assert third.listdir(".", timeout_s=20) == []


def test_dead_ones_that_waited_are_replaced_without_anybody_hearing_of_it(case: Case) -> None:
    case.pool.expect(case.spec, 2)
    assert case.pool.settle(timeout_s=SOON_S)
    held = [case.pool.open(case.spec, timeout_s=SOON_S) for _ in range(2)]
    assert case.pool.stats().warm == 2
    held[0].close()
    assert case.pool.settle(timeout_s=SOON_S)
    kill(case)
    time.sleep(1.1)
    assert case.pool.open(case.spec, timeout_s=SOON_S).exec("echo here", timeout_s=20).stdout == "here\n"
    with pytest.raises(SandboxLost):
        held[1].exec("true", timeout_s=20)


def kill(case: Case) -> None:
    """End all from outside, as an engine's restart does."""
    if case.pool.name == "bubblewrap":
        for number in case.alive():
            for inside in Path(f"/proc/{number}/task/{number}/children").read_text().split():
                os.kill(int(inside), 9)
        return
    engine = docker.APIClient(timeout=30)
    for container in case.alive():
        engine.kill(container)
    engine.close()


@pytest.mark.bubblewrap
def test_recycling_can_be_turned_off_by_the_environment(
    bubblewrap_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYTHREE_RECYCLE", "0")
    with closing(connect("bubblewrap")) as pool:
        for _ in range(2):
            pool.open(SandboxSpec(bubblewrap_image), timeout_s=60).close()
        assert pool.settle(timeout_s=30)
        assert pool.stats().recycled == 0 and pool.stats().started >= 2

"""Random hostile episodes end rightly, and an episode that does not is told with what plays it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import sandboxes
from benchmarks.fuzz import Played, fuzz, fuzz_taskset, play, remains
from benchmarks.grammar import FIX, Planned, plan
from envs.coding import CodingEnv
from envs.types import ToolCall
from sandboxes import Backend, SandboxUnavailable
from sandboxes.fake import FakeBackend


@pytest.fixture
def backend() -> Iterator[Backend]:
    try:
        backend = sandboxes.connect("bubblewrap")
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()


def test_an_episode_follows_from_its_seed_and_number() -> None:
    assert [repr(plan(3, number)) for number in range(50)] == [repr(plan(3, number)) for number in range(50)]
    assert len({repr(plan(seed, number)) for seed in range(2) for number in range(50)}) == 100
    drawn = [plan(0, number) for number in range(200)]
    assert {(FIX in planned.calls, planned.spoils) for planned in drawn} == {
        (mends, spoils) for mends in (True, False) for spoils in (True, False)
    }


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_forty_random_episodes_end_rightly_and_leave_nothing(backend: Backend, tmp_path: Path) -> None:
    played = fuzz(backend, fuzz_taskset(tmp_path / "set"), seed=40, numbers=range(40))
    assert [f"{ended.number}: {ended.finding}" for ended in played if ended.finding] == []
    assert all(ended.reward is not None for ended in played)
    assert 5 < sum(bool(ended.reward) for ended in played) < 35
    backend.close()
    assert remains() == []


@pytest.mark.bubblewrap
def test_an_end_that_is_wrong_is_a_finding(backend: Backend, tmp_path: Path) -> None:
    taskset = fuzz_taskset(tmp_path / "set")
    undone = ToolCall("c", "shell", {"command": "git checkout -q ."})
    with CodingEnv([taskset], backend=backend) as env:
        earned = play(env, Planned((FIX,), spoils=False), 0)
        lost = play(env, Planned((FIX, undone), spoils=False), 1)
        spoilt = play(env, Planned((FIX, undone), spoils=True), 2)
    assert (earned.reward, earned.finding) == (1.0, "")
    assert lost.finding == "it mended the bug, left the code alone and has no reward"
    assert (spoilt.reward, spoilt.finding) == (0.0, "")


def test_whatever_leaves_an_episode_is_a_finding(tmp_path: Path) -> None:
    broken = FakeBackend(fail_at=0)
    with CodingEnv([fuzz_taskset(tmp_path / "set")], backend=broken) as env:
        ended = play(env, plan(0, 0), 7)
    assert isinstance(ended, Played) and ended.reward is None
    assert ended.number == 7 and "SandboxLost" in ended.finding

"""What dead runs left is found and removed; what lives is left alone."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from sandboxes import Backend, SandboxSpec, gc
from sandboxes.backend import OWNER_VARIABLE, Owner
from sandboxes.docker.backend import OWNER_LABEL
from sandboxes.images.build import building
from sandboxes.leftovers import reap_cache, reap_scratch, sweep


def dead() -> Owner:
    here = Owner.current(3600)
    return Owner(here.host, here.pid, here.started - 1, here.expires)


def test_processes_of_dead_owners_are_killed_and_no_others(
    undisturbed: Callable[[Callable[[], None]], None],
) -> None:
    def check() -> None:
        def sleeper(owner: Owner) -> subprocess.Popen[bytes]:
            return subprocess.Popen(["sleep", "60"], env={**os.environ, OWNER_VARIABLE: str(owner)})

        left, mine = sleeper(dead()), sleeper(Owner.current(3600))
        removed = sweep(timeout_s=5).removed
        assert f"process {left.pid}" in removed and f"process {mine.pid}" not in removed
        assert left.wait(10) == -signal.SIGKILL and mine.poll() is None
        mine.kill()
        mine.wait(10)

    undisturbed(check)


def test_scratch_folders_are_removed_once_nobody_can_work_in_them(tmp_path: Path) -> None:
    names = [f"daythree-{kind}-x" for kind in ("diff", "patch", "git", "history", "other")]
    for name in (*names, "daythree-diff-fresh"):
        (tmp_path / name / "a").mkdir(parents=True)
        if "fresh" not in name:
            os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    assert list(reap_scratch(tmp_path)) == [f"scratch folder {tmp_path / name}" for name in names[:3]]
    assert {path.name for path in tmp_path.iterdir()} == {*names[3:], "daythree-diff-fresh"}


def test_unfinished_builds_are_removed_unless_somebody_works_on_them(tmp_path: Path) -> None:
    abandoned = tmp_path / "bases" / "abc.building-x1"
    (abandoned / "usr").mkdir(parents=True)
    finished = tmp_path / "bases" / "def"
    finished.mkdir()
    record = tmp_path / "images" / ".abc.json.1-1.part"
    record.parent.mkdir()
    record.write_text("{")
    fresh = tmp_path / "images" / ".def.json.1-1.part"
    fresh.write_text("{")
    os.utime(record, (time.time() - 7200,) * 2)
    with building(tmp_path / "bases" / "ghi", time.monotonic() + 5) as folder:
        assert folder is not None
        removed = list(reap_cache(tmp_path))
        assert folder.exists()
    assert removed == [f"unfinished build {abandoned}", f"unfinished record {record}"]
    assert finished.exists() and fresh.exists() and not abandoned.exists() and not record.exists()


def test_an_engine_that_does_not_answer_is_named_and_the_rest_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    left = subprocess.Popen(["sleep", "60"], env={**os.environ, OWNER_VARIABLE: str(dead())})
    swept = gc(timeout_s=5)
    assert left.wait(10) == -signal.SIGKILL
    assert len(swept.failed) == 1 and "no Docker engine answers" in swept.failed[0]


@pytest.mark.docker
def test_containers_of_dead_owners_are_removed(
    docker_backend: Backend, docker_image: str, undisturbed: Callable[[Callable[[], None]], None]
) -> None:
    def check() -> None:
        engine = docker.APIClient(timeout=30)
        left = engine.create_container(docker_image, "true", labels={OWNER_LABEL: str(dead())})["Id"]
        mine = docker_backend.open(SandboxSpec(docker_image), timeout_s=60)
        swept = gc(timeout_s=20)
        assert f"container {left[:12]}" in swept.removed and swept.failed == ()
        assert mine.exec("true", timeout_s=20).exit_code == 0
        mine.close()
        engine.close()

    undisturbed(check)

"""Disks are swapped from outside, whole, and look as the backend made them."""

import os
import threading
from collections.abc import Iterator

import pytest

from sandboxes import Backend, Sandbox
from sandboxes.conformance.commands import SOON_S, small_spec
from sandboxes.conformance.forking import tree
from sandboxes.disks.disks import Disks
from sandboxes.disks.namespaces import find_place, outside
from sandboxes.remote.sandbox import RemoteSandbox

REAL = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]
LOOK = """
for disk in /workspace /tmp /dev/shm; do
    stat -c '%n %a %u %g' $disk; stat -f -c '%b %S' $disk; mount=$(grep " $disk " /proc/self/mounts | tail -1)
    echo "$mount" | cut -d' ' -f2,3; echo "$mount" | grep -o 'nosuid\\|nodev\\|noexec'
done
stat -c '%n %a %u %g' /tmp/home; ls -A /workspace /tmp /dev/shm
"""


@pytest.fixture(params=REAL)
def swapped(request: pytest.FixtureRequest) -> Iterator[tuple[Sandbox, Disks]]:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    sandbox = backend.open(small_spec(request.getfixturevalue(f"{request.param}_image")), timeout_s=30)
    assert isinstance(sandbox, RemoteSandbox)
    if sandbox.disks is None:
        pytest.skip("disks cannot be swapped here: not root, or the engine is elsewhere")
    yield sandbox, sandbox.disks
    sandbox.close()


def output(sandbox: Sandbox, command: str) -> str:
    done = sandbox.exec(command, timeout_s=SOON_S)
    assert done.exit_code == 0, done
    return done.stdout


def test_swapped_disks_are_empty_and_like_the_first(swapped: tuple[Sandbox, Disks]) -> None:
    sandbox, disks = swapped
    first = output(sandbox, LOOK)
    output(sandbox, "echo x > x; echo x > /tmp/x; echo x > /dev/shm/x; echo x > ~/x")
    disks.swap(None)
    assert output(sandbox, LOOK) == first
    assert sandbox.exec("cat x", timeout_s=SOON_S).exit_code != 0
    sandbox.write("x", b"again", timeout_s=SOON_S)
    assert output(sandbox, "cat x") == "again"


def test_swapped_disks_have_their_bounds(swapped: tuple[Sandbox, Disks]) -> None:
    sandbox, disks = swapped
    disks.swap(None)
    for folder in ("/workspace", "/tmp", "/dev/shm"):
        done = sandbox.exec(f"head -c 300000000 /dev/zero > {folder}/big", timeout_s=SOON_S)
        assert done.exit_code != 0 and done.limit == "disk", done
        output(sandbox, f"rm {folder}/big")


def test_a_swap_runs_in_a_thread_of_its_own(swapped: tuple[Sandbox, Disks]) -> None:
    sandbox, disks = swapped
    failures = []

    def swap() -> None:
        try:
            disks.swap(None)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=swap) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert not failures
    mounted = output(sandbox, "cut -d' ' -f2 /proc/self/mounts | grep -cx -e /workspace -e /tmp -e /dev/shm")
    assert int(mounted) in (3, 4), "old disks are gone; bubblewrap has its folder under the first"


def test_content_ends_with_its_episode_and_a_snapshot_does_not(swapped: tuple[Sandbox, Disks]) -> None:
    sandbox, _ = swapped
    sandbox.lay(tree("episode"), timeout_s=SOON_S)
    sandbox.write("made", b"made", timeout_s=SOON_S)
    content = sandbox.snapshot(timeout_s=SOON_S)
    blank = sandbox.recycled(timeout_s=SOON_S)
    assert blank is not None
    try:
        assert (
            output(blank, "ls -A /workspace /tmp /tmp/home") == "/tmp:\nhome\n\n/tmp/home:\n\n/workspace:\n"
        )
        assert "overlay /workspace" not in output(blank, "cat /proc/self/mounts")
        blank.lay(content, timeout_s=SOON_S)
        assert output(blank, "cat made keep.txt /tmp/notes/n") == "madekept\nscratch"
    finally:
        blank.close()


def test_numbers_outside_follow_the_map() -> None:
    rows = [(0, 0, 1), (1000, 1_900_001_000, 1)]
    assert outside(0, rows) == 0 and outside(1000, rows) == 1_900_001_000 and outside(1, rows) is None


def test_a_process_that_is_not_a_sandbox_s_first_is_left_alone() -> None:
    assert find_place(os.getpid(), "") is None and find_place(1, "") is None and find_place(2**22, "") is None

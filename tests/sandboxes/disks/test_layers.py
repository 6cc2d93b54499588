"""Contents are unpacked once, safely, kept while they are meant, and gone afterwards."""

import gc
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandboxes import Backend, Content, fork
from sandboxes.conformance.commands import SOON_S, small_spec, tar
from sandboxes.disks.layers import Store, reap_layers, unpack
from sandboxes.disks.mounts import Mounter, mounter
from sandboxes.images.build import cache_folder

ME = (os.getuid(), os.getgid())
ELSEWHERE = """
import sys, time
from sandboxes import Content, SandboxSpec, fork
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.conformance.commands import tar
backend = BubblewrapBackend()
sandbox = backend.open(
    SandboxSpec(sys.argv[1]), timeout_s=60, content=Content("there", lambda: tar({"x": (b"x", 0o644)}))
)
sandbox.write("y", b"y", timeout_s=20)
forks = fork(backend, sandbox, 2, timeout_s=60)
print("ready" if sandbox.disks else "not here", flush=True)
time.sleep(60)
"""


def mounts() -> Mounter:
    found = mounter()
    if found is None:
        pytest.skip("this process may not mount")
    return found


def in_the_room(found: Mounter) -> set[str]:
    return found.run(lambda: {path.name for path in Path().iterdir()}, timeout_s=SOON_S)


def own_folders() -> set[Path]:
    return set(cache_folder().glob(f"layers/*.{os.getpid()}.*/*"))


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + SOON_S
    while not holds() and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    return holds()


def content(key: str, asked: list[str], size: int = 10) -> Content:
    def archive() -> bytes:
        asked.append(key)
        return tar({f"{key}.txt": (b"x" * size, 0o644)})

    return Content(key, archive)


def test_what_many_ask_for_is_unpacked_once_and_goes_with_the_last_who_means_it() -> None:
    store, asked = Store(mounts()), list[str]()
    room, folders = in_the_room(mounts()), own_folders()
    same = [content("a", asked) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        held = list(threads.map(lambda layer: store.take(layer, *ME, timeout_s=SOON_S), same))
    assert asked == ["a"] and len({stacks.work for stacks in held}) == 1
    for stacks in held[1:]:
        store.let_go(stacks.work)
    same.clear()
    time.sleep(0.2)
    assert len(own_folders() - folders) == 1, "somebody lies over it"
    store.let_go(held[0].work)
    assert eventually(lambda: own_folders() <= folders and in_the_room(mounts()) <= room)


def test_what_was_not_used_for_longest_makes_room_and_is_unpacked_again() -> None:
    store, asked = Store(mounts(), disk_bytes=50_000), list[str]()
    folders = own_folders()
    contents = [content(key, asked, size=30_000) for key in "abc"]
    for layer in contents:
        store.let_go(store.take(layer, *ME, timeout_s=SOON_S).work)
    assert eventually(lambda: len(own_folders() - folders) == 1)
    held = [store.take(layer, *ME, timeout_s=SOON_S) for layer in reversed(contents)]
    assert asked == ["a", "b", "c", "b", "a"]
    time.sleep(0.2)
    assert len(own_folders() - folders) == 3, "what is used stays, however much there is"
    for stacks in held:
        store.let_go(stacks.work)
    layer = None
    contents.clear()
    assert eventually(lambda: own_folders() <= folders)


def test_an_archive_that_cannot_be_had_fails_everybody_and_is_asked_for_again() -> None:
    store = Store(mounts())
    answers = [tar({"../x": (b"", 0o644)}), tar({})]
    one = Content("late", lambda: answers.pop(0))
    with pytest.raises(ValueError, match="outside"):
        store.take(one, *ME, timeout_s=SOON_S)
    store.let_go(store.take(one, *ME, timeout_s=SOON_S).work)


def linked(*members: tuple[str, str | None, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, target, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.REGTYPE, "")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        linked(("../out", None, b"x")),
        linked(("/tmp/out", None, b"x")),
        linked(("link", "..", b""), ("link/out", None, b"x")),
        linked(("a/link", "../..", b""), ("a/link/out", None, b"x")),
    ],
)
def test_nothing_is_unpacked_outside_of_its_folder(tmp_path: Path, archive: bytes) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises((ValueError, PermissionError)):
        unpack(archive, folder, *ME)
    assert {path.name for path in tmp_path.iterdir()} == {"inner"}


def test_a_file_replaces_a_link_and_leaves_its_target_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("as it was")
    folder = tmp_path / "inner"
    folder.mkdir()
    unpack(linked(("file", str(target), b""), ("file", None, b"new")), folder, *ME)
    assert (folder / "file").read_text() == "new" and target.read_text() == "as it was"


@pytest.mark.bubblewrap
def test_nothing_is_left_when_all_are_closed(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    room, folders, asked = in_the_room(mounts()), own_folders(), list[str]()
    one = content("closing", asked)
    sandbox = bubblewrap_backend.open(small_spec(bubblewrap_image), timeout_s=30, content=one)
    sandbox.write("more", b"more", timeout_s=SOON_S)
    opened = [sandbox, *fork(bubblewrap_backend, sandbox, 3, timeout_s=30)]
    opened += fork(bubblewrap_backend, opened[-1], 1, timeout_s=30)
    assert asked == ["closing"] and in_the_room(mounts()) > room and own_folders() > folders
    for handle in opened:
        handle.close()
    del one
    assert eventually(lambda: in_the_room(mounts()) == room and own_folders() == folders)
    rows = Path("/proc/self/mountinfo").read_text()
    assert "daythree/layers" not in rows and "upperdir=m" not in rows


@pytest.mark.bubblewrap
def test_what_a_killed_owner_left_is_removed(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    command = [sys.executable, "-c", ELSEWHERE, bubblewrap_image]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        mounts()  # or this process may not
        assert process.stdout.readline() == "ready\n"
        [folder] = cache_folder().glob(f"layers/*.{process.pid}.*")
        assert [path.name for path in folder.glob("*/x")] == ["x"]
        assert not reap_layers(cache_folder()) and folder.exists(), "its owner lives"
        process.send_signal(signal.SIGKILL)
        process.wait(SOON_S)
    assert f"layers {folder}" in bubblewrap_backend.reap()
    assert not folder.exists() and "daythree/layers" not in Path("/proc/self/mountinfo").read_text()

"""Checks of snapshots and forks, and that files over layers behave as in any folder.

Each gets a backend and a fresh sandbox of `small_spec`, and closes its forks. Checks of `FORKING` hold for
every backend, those of `OVERLAID` for backends that run commands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..backend import Backend, fork
from ..base import Content, Sandbox
from .commands import SOON_S, refuses, sha, tar

ForkCheck = Callable[[Backend, Sandbox], None]
OPEN_S = 60.0

TREE = {
    "keep.txt": (b"kept\n", 0o644),
    "run.sh": (b"#!/bin/sh\necho ran\n", 0o755),
    "old/a.py": (b"a = 1\n", 0o644),
    "old/deep/b.py": (b"b = 2\n", 0o644),
    "gone/c.py": (b"c = 3\n", 0o644),
    "naïve-файл.txt": ("ü".encode(), 0o644),
}


def tree(key: str = "forking") -> Content:
    return Content(key, lambda: tar(TREE), lambda: tar({"notes/n": (b"scratch", 0o644)}))


def known() -> dict[str, str]:
    return {name: sha(data) for name, (data, _) in TREE.items()}


@contextmanager
def forked(backend: Backend, sandbox: Sandbox, count: int = 1) -> Iterator[list[Sandbox]]:
    forks = fork(backend, sandbox, count, timeout_s=OPEN_S)
    try:
        yield forks
    finally:
        for child in forks:
            child.close()


def done(sandbox: Sandbox, command: str) -> str:
    """Run a command that must succeed; return its output."""
    result = sandbox.exec(command, timeout_s=SOON_S)
    assert result.exit_code == 0, f"{command}: {result}"
    return result.stdout


# Any backend


def a_fork_has_what_was_there(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.lay(tree(), timeout_s=SOON_S)
    sandbox.write("new/made.txt", b"made", timeout_s=SOON_S)
    sandbox.write("keep.txt", b"changed", timeout_s=SOON_S)
    sandbox.write("/tmp/later", b"in scratch", timeout_s=SOON_S)
    before = sandbox.changes(".", known(), timeout_s=SOON_S)
    assert dict(before.written) == {"new/made.txt": b"made", "keep.txt": b"changed"}, before
    with forked(backend, sandbox, 2) as forks:
        for handle in (sandbox, *forks):
            assert handle.read("new/made.txt", timeout_s=SOON_S) == b"made"
            assert handle.read("/tmp/later", timeout_s=SOON_S) == b"in scratch"
            assert handle.read("/tmp/notes/n", timeout_s=SOON_S) == b"scratch"
            assert handle.read("naïve-файл.txt", timeout_s=SOON_S) == "ü".encode()
            assert handle.changes(".", known(), timeout_s=SOON_S) == before


def forks_go_their_own_ways(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.lay(tree(), timeout_s=SOON_S)
    with forked(backend, sandbox, 2) as (child, other):
        sandbox.write("who", b"original", timeout_s=SOON_S)
        child.write("who", b"one", timeout_s=SOON_S)
        child.write("keep.txt", b"one", timeout_s=SOON_S)
        assert sandbox.read("who", timeout_s=SOON_S) == b"original"
        assert sandbox.read("keep.txt", timeout_s=SOON_S) == b"kept\n"
        assert child.read("keep.txt", timeout_s=SOON_S) == b"one"
        assert other.read("keep.txt", timeout_s=SOON_S) == b"kept\n"
        refuses(FileNotFoundError, lambda: other.read("who", timeout_s=SOON_S))


def forks_of_forks_remember_everything(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.lay(tree(), timeout_s=SOON_S)
    opened = [sandbox]
    try:
        for generation in range(4):
            opened[-1].write(f"generation{generation}", b"here", timeout_s=SOON_S)
            opened += fork(backend, opened[-1], 1, timeout_s=OPEN_S)
        names = opened[-1].listdir(".", timeout_s=SOON_S)
        assert {f"generation{number}" for number in range(4)} < set(names), names
        assert "generation1" not in sandbox.listdir(".", timeout_s=SOON_S)
    finally:
        for child in opened[1:]:
            child.close()


def a_snapshot_outlives_its_sandbox(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.write("x", b"remembered", timeout_s=SOON_S)
    content = sandbox.snapshot(timeout_s=SOON_S)
    sandbox.write("x", b"forgotten", timeout_s=SOON_S)
    sandbox.close()
    later = backend.open(sandbox.spec, timeout_s=OPEN_S, content=content)
    try:
        assert later.read("x", timeout_s=SOON_S) == b"remembered"
    finally:
        later.close()


def a_snapshot_travels_as_archives_as_well(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.lay(tree(), timeout_s=SOON_S)
    sandbox.write("new", b"new", timeout_s=SOON_S)
    content = sandbox.snapshot(timeout_s=SOON_S)
    assert content.scratch is not None
    elsewhere = backend.open(sandbox.spec, timeout_s=OPEN_S)
    try:
        elsewhere.unpack(content.archive(), ".", timeout_s=SOON_S)
        elsewhere.unpack(content.scratch(), "/tmp", timeout_s=SOON_S)
        assert elsewhere.read("new", timeout_s=SOON_S) == b"new"
        assert elsewhere.read("/tmp/notes/n", timeout_s=SOON_S) == b"scratch"
        assert elsewhere.changes(".", known(), timeout_s=SOON_S).removed == ()
    finally:
        elsewhere.close()


# Those that run commands


def what_was_changed_stays_so_in_a_fork(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.lay(tree(), timeout_s=SOON_S)
    done(
        sandbox,
        "rm -r gone keep.txt; mv old new; ln -s new/a.py link; ln -s nowhere dangling; chmod +x new/a.py",
    )
    done(
        sandbox,
        "mkdir gone; echo again > gone/d.py; mkdir empty; chmod 600 run.sh; touch -d @1000000000 new/a.py",
    )
    before = sandbox.changes(".", known(), timeout_s=SOON_S)
    assert set(before.removed) == {"gone/c.py", "keep.txt", "old/a.py", "old/deep/b.py"}, before
    assert before.executable == {"new/a.py"} and set(before.skipped) == {"link", "dangling"}, before
    look = "find . /tmp -printf '%p %y %m %l\\n' | sort; cat link gone/* new/deep/b.py; stat -c %Y new/a.py"
    with forked(backend, sandbox) as [child]:
        assert done(child, look) == done(sandbox, look)
        assert child.changes(".", known(), timeout_s=SOON_S) == before
        done(child, "rm -r new gone && mkdir old && echo x > old/a.py && test ! -e old/deep && mv old older")
        assert done(sandbox, "cat new/deep/b.py") == "b = 2\n"


def limits_hold_in_a_fork(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.lay(tree(), timeout_s=SOON_S)
    done(sandbox, "head -c 60000000 /dev/zero > big; head -c 60000000 /dev/zero > /tmp/big")
    with forked(backend, sandbox) as [child]:
        for folder in ("/workspace", "/tmp"):
            done(child, f"head -c 60000000 /dev/zero > {folder}/more")
            full = child.exec(f"head -c 60000000 /dev/zero > {folder}/most", timeout_s=SOON_S)
            assert full.exit_code != 0 and full.limit == "disk", full
        assert done(child, "rm more && echo fits > more && cat more") == "fits\n"


def what_runs_goes_on_and_does_not_reach_a_fork(backend: Backend, sandbox: Sandbox) -> None:
    loop = "sh -c 'while :; do echo x >> log; sleep 0.01; done' > /dev/null 2>&1 &"
    done(sandbox, f"{loop} until test -s log; do sleep 0.01; done")
    with forked(backend, sandbox) as [child]:
        assert child.exec("true", timeout_s=SOON_S).background == ()
        before = [int(done(handle, "wc -c < log")) for handle in (child, sandbox)]
        done(sandbox, f"until test $(wc -c < log) -gt {before[1]}; do sleep 0.01; done")
        assert int(done(child, "wc -c < log")) == before[0]


def calls_meanwhile_are_whole(backend: Backend, sandbox: Sandbox) -> None:
    """A snapshot lies between calls: it holds all writes of a call, or none."""
    from concurrent.futures import ThreadPoolExecutor

    pair = "echo {0} > a{0}; sleep 0.02; echo {0} > b{0}"
    with ThreadPoolExecutor(4) as threads:
        writing = [
            threads.submit(sandbox.exec, pair.format(number), timeout_s=SOON_S) for number in range(24)
        ]
        contents = [sandbox.snapshot(timeout_s=SOON_S) for _ in range(3)]
        assert all(call.result(SOON_S).exit_code == 0 for call in writing)
    for content in contents:
        opened = backend.open(sandbox.spec, timeout_s=OPEN_S, content=content)
        names = set(opened.listdir(".", timeout_s=SOON_S))
        opened.close()
        assert {name[1:] for name in names if name[0] == "a"} == {
            name[1:] for name in names if name[0] == "b"
        }
    assert len(sandbox.listdir(".", timeout_s=SOON_S)) == 48


GIT = """
git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm one && git status --porcelain
git mv old moved && rm -r gone && echo x >> keep.txt && git status --porcelain
git stash -q && git status --porcelain && git stash pop -q && git gc -q && git fsck --strict
"""
ODDITIES = """
import json, mmap, os
told = {}
def check(name, holds): told[name] = bool(holds)
with open('keep.txt') as reading:  # from now on a file below
    with open('new', 'w') as file: file.write('x')
    check('device', os.stat('.').st_dev == os.stat('keep.txt').st_dev == os.stat('new').st_dev)
    check('scan', all(e.inode() == e.stat(follow_symlinks=False).st_ino for e in os.scandir('.')))
    number = os.stat('keep.txt').st_ino
    os.chmod('keep.txt', 0o600)
    check('mode', os.stat('keep.txt').st_mode & 0o777 == 0o600)
    check('number', os.stat('keep.txt').st_ino == number)
    check('open', reading.read() == 'kept\\n')
os.link('run.sh', 'hard')
with open('hard', 'a') as file: file.write('# more')
check('links', os.stat('run.sh').st_nlink == 2 and open('run.sh').read().endswith('# more'))
os.rename('old', 'moved'); os.mkdir('old')
check('opaque', os.listdir('old') == [] and sorted(os.listdir('moved')) == ['a.py', 'deep'])
os.rename('moved/deep', 'old/deep')
check('moved', open('old/deep/b.py').read() == 'b = 2\\n' and os.listdir('moved') == ['a.py'])
os.replace('new', 'keep.txt'); check('replaced', open('keep.txt').read() == 'x')
with open('run.sh', 'r+b') as file, mmap.mmap(file.fileno(), 0) as view: view[0:2] = b'%!'
check('mapped', open('run.sh', 'rb').read(2) == b'%!')
os.remove('gone/c.py'); os.rmdir('gone'); os.symlink('old', 'gone')
check('link over folder', os.listdir('gone') == ['deep'])
os.truncate('moved/a.py', 3); check('cut', open('moved/a.py').read() == 'a =')
print(json.dumps([name for name, holds in told.items() if not holds]))
"""


def tools_find_an_ordinary_folder(backend: Backend, sandbox: Sandbox) -> None:
    """Files over a layer have one device, stable inodes and hard links; folders can be renamed."""
    del backend
    sandbox.lay(tree(), timeout_s=SOON_S)
    failed = json.loads(done(sandbox, f"python3 - <<'END'\n{ODDITIES}\nEND"))
    assert failed == [], failed


def git_works_over_a_layer(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.lay(tree(), timeout_s=SOON_S)
    first = done(sandbox, f"set -e; export HOME=/tmp; {GIT}")
    assert "R  old/a.py -> moved/a.py" in first and " M keep.txt" in first, first
    with forked(backend, sandbox) as [child]:
        assert done(child, "git status --porcelain") == done(sandbox, "git status --porcelain") != ""


def mounts_say_nothing_of_this_machine(backend: Backend, sandbox: Sandbox) -> None:
    sandbox.lay(tree(), timeout_s=SOON_S)
    with forked(backend, sandbox) as [child]:
        for handle in (sandbox, child):
            for row in done(handle, "cat /proc/self/mounts").splitlines():
                _, place, kind, options, *_ = row.split()
                if place in (handle.spec.workdir, "/tmp") and kind == "overlay":
                    shown = [word.partition("=") for word in options.split(",")]
                    paths = [
                        value for key, _, value in shown if key.startswith(("lowerdir", "upper", "work"))
                    ]
                    assert paths and not any(path.startswith("/") for path in paths), row


FORKING: tuple[ForkCheck, ...] = (
    a_fork_has_what_was_there,
    forks_go_their_own_ways,
    forks_of_forks_remember_everything,
    a_snapshot_outlives_its_sandbox,
    a_snapshot_travels_as_archives_as_well,
)
OVERLAID: tuple[ForkCheck, ...] = (
    what_was_changed_stays_so_in_a_fork,
    limits_hold_in_a_fork,
    what_runs_goes_on_and_does_not_reach_a_fork,
    calls_meanwhile_are_whole,
    tools_find_an_ordinary_folder,
    git_works_over_a_layer,
    mounts_say_nothing_of_this_machine,
)

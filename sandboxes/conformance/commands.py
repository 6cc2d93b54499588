"""Checks that every `Sandbox` must pass, as plain functions that raise AssertionError.

Every check gets a sandbox of `SPEC_LIMITS` and works in its own folder. Checks of `FILES` and `COMMANDS`
may share a sandbox; each of `ISOLATION` and `ENDING` (`sandboxes.conformance.isolation`) gets a fresh one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..base import Match, Sandbox, SandboxSpec

Check = Callable[[Sandbox], None]
SOON_S = 20.0
SPEC_LIMITS: dict[str, Any] = {"memory_mb": 128, "disk_mb": 160, "pids": 64}
"""Small enough that bombs hit them fast; the rest of a `SandboxSpec` is its default."""


def small_spec(image: str) -> SandboxSpec:
    """Return the spec that the checks assume."""
    return SandboxSpec(image, **SPEC_LIMITS)


def refuses(kind: type[Exception], call: Callable[[], object]) -> None:
    """Assert that a call raises exactly this type of error."""
    raised: Exception | None = None
    try:
        call()
    except Exception as error:
        raised = error
    assert raised is not None, f"expected {kind.__name__}, nothing was raised"
    assert isinstance(raised, kind), f"expected {kind.__name__}, got {type(raised).__name__}: {raised}"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    """Pack an archive of path to (content, mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (data, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# Files


def bytes_come_back_as_they_were_written(sandbox: Sandbox) -> None:
    every = bytes(range(256)) * 3
    for name in ("bytes/plain", "bytes/with space", "bytes/größe ✓.txt", "bytes/-dash"):
        sandbox.write(name, every, timeout_s=SOON_S)
        assert sandbox.read(name, timeout_s=SOON_S) == every, name
    sandbox.write("bytes/plain", b"", timeout_s=SOON_S)
    assert sandbox.read("bytes/plain", timeout_s=SOON_S) == b"", "writing replaces"


def fifty_megabytes_come_back(sandbox: Sandbox) -> None:
    big = os.urandom(1 << 20) * 50
    sandbox.write("big/file", big, timeout_s=SOON_S)
    assert sha(sandbox.read("big/file", timeout_s=SOON_S)) == sha(big)
    sandbox.write("big/file", b"", timeout_s=SOON_S)


def a_part_of_a_file_can_be_read(sandbox: Sandbox) -> None:
    sandbox.write("part", b"0123456789", timeout_s=SOON_S)
    assert sandbox.read("part", timeout_s=SOON_S, offset=3, limit=4) == b"3456"
    assert sandbox.read("part", timeout_s=SOON_S, offset=8) == b"89"
    assert sandbox.read("part", timeout_s=SOON_S, offset=99) == b""


def wrong_paths_are_named_errors(sandbox: Sandbox) -> None:
    sandbox.write("wrong/file", b"x", timeout_s=SOON_S)
    refuses(FileNotFoundError, lambda: sandbox.read("wrong/none", timeout_s=SOON_S))
    refuses(FileNotFoundError, lambda: sandbox.read("wrong/\0", timeout_s=SOON_S))
    refuses(IsADirectoryError, lambda: sandbox.read("wrong", timeout_s=SOON_S))
    refuses(IsADirectoryError, lambda: sandbox.write("wrong", b"", timeout_s=SOON_S))
    refuses(NotADirectoryError, lambda: sandbox.write("wrong/file/below", b"", timeout_s=SOON_S))
    refuses(FileNotFoundError, lambda: sandbox.listdir("wrong/none", timeout_s=SOON_S))
    refuses(NotADirectoryError, lambda: sandbox.listdir("wrong/file", timeout_s=SOON_S))
    refuses(FileNotFoundError, lambda: sandbox.search("x", path="wrong/none", timeout_s=SOON_S))


def directories_are_listed_in_order(sandbox: Sandbox) -> None:
    for name in ("list/b.py", "list/a/deep/x", "list/.hidden"):
        sandbox.write(name, b"", timeout_s=SOON_S)
    assert sandbox.listdir("list", timeout_s=SOON_S) == [".hidden", "a/", "b.py"]
    assert sandbox.listdir(f"{sandbox.spec.workdir}/list/a", timeout_s=SOON_S) == ["deep/"]


def archives_are_laid_over_directories(sandbox: Sandbox) -> None:
    sandbox.write("laid/old", b"stays", timeout_s=SOON_S)
    sandbox.write("laid/sub/both", b"old", timeout_s=SOON_S)
    archive = tar({"sub/both": (b"new", 0o644), "run.sh": (b"#!/bin/sh\n", 0o755)})
    sandbox.unpack(archive, "laid", timeout_s=SOON_S)
    assert sandbox.read("laid/old", timeout_s=SOON_S) == b"stays"
    assert sandbox.read("laid/sub/both", timeout_s=SOON_S) == b"new"
    assert sandbox.changes("laid", {}, timeout_s=SOON_S).executable == {"run.sh"}
    refuses(ValueError, lambda: sandbox.unpack(tar({"../out": (b"", 0o644)}), "laid", timeout_s=SOON_S))
    refuses(ValueError, lambda: sandbox.unpack(tar({"/etc/out": (b"", 0o644)}), "laid", timeout_s=SOON_S))


def changes_are_found(sandbox: Sandbox) -> None:
    for name in ("same", "other", "new/file", ".git/index", "a/__pycache__/x.pyc", "large", "large same"):
        sandbox.write(f"changed/{name}", name.encode() * (2 if name == "large" else 1), timeout_s=SOON_S)
    for name in ("script", "same script"):
        sandbox.write(f"changed/{name}", b"#!", executable=True, timeout_s=SOON_S)
    known = {
        "same script": sha(b"#!"),
        "same": sha(b"same"),
        "large same": sha(b"large same"),
        "other": sha(b"before"),
        "gone": sha(b""),
        "script": sha(b""),
    }
    changes = sandbox.changes("changed", known, file_limit=9, timeout_s=SOON_S)
    assert changes.written == {"other": b"other", "new/file": b"new/file", "script": b"#!"}, changes
    assert changes.executable == {"script", "same script"}, changes
    assert changes.removed == ("gone",), changes
    assert changes.skipped == {"large": "too large"}, changes


def only_so_many_changes_travel(sandbox: Sandbox) -> None:
    files = {f"{number:04}": (b"x", 0o644) for number in range(1_003)}
    sandbox.unpack(tar(files), "many", timeout_s=SOON_S)
    changes = sandbox.changes("many", {}, timeout_s=SOON_S)
    assert len(changes.written) == 1_000
    assert changes.skipped == dict.fromkeys(("1000", "1001", "1002"), "too many"), changes.skipped


def text_is_found_in_order(sandbox: Sandbox) -> None:
    sandbox.write("found/b.py", "nothing\nüber needle(1)\n".encode(), timeout_s=SOON_S)
    sandbox.write("found/a/z.txt", b"needle(2)\r\nneedle(3)", timeout_s=SOON_S)
    sandbox.write("found/a-b", b"needle(4)\n", timeout_s=SOON_S)
    for name in (".git/x", "__pycache__/x"):
        sandbox.write(f"found/{name}", b"needle(5)\n", timeout_s=SOON_S)
    sandbox.write("found/binary", b"\0needle(6)\n", timeout_s=SOON_S)
    inside = [Match("a/z.txt", 1, "needle(2)"), Match("a/z.txt", 2, "needle(3)")]
    every = [*inside, Match("a-b", 1, "needle(4)"), Match("b.py", 2, "über needle(1)")]
    for pattern, regex in (("needle(", False), (r"needle\(\d\)", True)):

        def found(pattern: str = pattern, regex: bool = regex, **options: Any) -> list[Match]:
            options = {"path": "found", **options}
            return sandbox.search(pattern, regex=regex, timeout_s=SOON_S, **options)

        assert found() == every, found()
        assert found(limit=1) == every[:1]
        assert found(glob="*.py") == every[3:]
        assert found(glob="a/*") == inside, found(glob="a/*")
        assert found(path="found/b.py") == every[3:]


def a_bad_regular_expression_is_a_value_error(sandbox: Sandbox) -> None:
    sandbox.write("bad/file", b"(", timeout_s=SOON_S)
    refuses(ValueError, lambda: sandbox.search("(", regex=True, path="bad", timeout_s=SOON_S))
    assert sandbox.search("(", path="bad", timeout_s=SOON_S) == [Match("file", 1, "(")]


def many_requests_may_be_in_flight(sandbox: Sandbox) -> None:
    def one(number: int) -> bool:
        data = str(number).encode() * (number * 37)
        sandbox.write(f"flight/{number}", data, timeout_s=SOON_S)
        return sandbox.read(f"flight/{number}", timeout_s=SOON_S) == data

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(one, range(200)))


# Commands


def commands_say_how_they_ended(sandbox: Sandbox) -> None:
    done = sandbox.exec("echo out; echo err >&2; exit 7", timeout_s=SOON_S)
    assert (done.exit_code, done.stdout, done.stderr) == (7, "out\n", "err\n"), done
    assert not done.timed_out and not done.truncated, done
    assert sandbox.exec("kill -TERM $$", timeout_s=SOON_S).exit_code == 128 + 15
    quoted = sandbox.exec(["printf", "%s|", "a b", "$HOME", "ü"], timeout_s=SOON_S)
    assert quoted.stdout == "a b|$HOME|ü|", quoted


def what_cannot_be_started_is_a_result(sandbox: Sandbox) -> None:
    sandbox.write("start/plain", b"no program", timeout_s=SOON_S)
    assert sandbox.exec(["no-such-program"], timeout_s=SOON_S).exit_code == 127
    assert sandbox.exec("no-such-program", timeout_s=SOON_S).exit_code == 127
    assert sandbox.exec(["./start/plain"], timeout_s=SOON_S).exit_code == 126
    assert sandbox.exec("true", cwd="start/none", timeout_s=SOON_S).exit_code == 127
    assert sandbox.exec(["true", "a\0b"], timeout_s=SOON_S).exit_code == 126
    assert sandbox.exec("true", cwd="\0", timeout_s=SOON_S).exit_code == 126
    assert sandbox.exec("#" + "x" * 300_000, timeout_s=SOON_S).exit_code == 126, (
        "longer than an argument may be"
    )


def directory_environment_and_input_are_given(sandbox: Sandbox) -> None:
    sandbox.write("given/x", b"", timeout_s=SOON_S)
    there = sandbox.exec("pwd; echo $A; cat", cwd="given", env={"A": "é b"}, stdin=b"in", timeout_s=SOON_S)
    assert there.stdout == f"{sandbox.spec.workdir}/given\né b\nin", there
    assert sandbox.exec("pwd", timeout_s=SOON_S).stdout.strip() == sandbox.spec.workdir
    assert sandbox.exec("cat", timeout_s=SOON_S).exit_code == 0, "without input there is an end of input"
    large = sandbox.exec("sha256sum", stdin=b"x" * 3_000_000, timeout_s=SOON_S)
    assert large.stdout.split()[0] == sha(b"x" * 3_000_000)
    assert sandbox.exec("true", stdin=b"x" * 3_000_000, timeout_s=SOON_S).exit_code == 0, (
        "input may be ignored"
    )
    home = sandbox.exec("touch $HOME/x && cd $HOME && pwd", timeout_s=SOON_S)
    assert home.exit_code == 0, home


def output_that_is_not_text_is_replaced(sandbox: Sandbox) -> None:
    done = sandbox.exec(r"printf 'a\377\000b \303\274'", timeout_s=SOON_S)
    assert done.stdout == "a\ufffd\0b ü", done


def huge_output_is_cut_in_the_middle(sandbox: Sandbox) -> None:
    command = "i=0; while [ $i -lt 20000 ]; do echo line-$i-ü; i=$((i+1)); done"
    done = sandbox.exec(command, output_limit=1_000, timeout_s=SOON_S)
    assert done.truncated and done.exit_code == 0, done
    head, middle, tail = done.stdout.partition("\n[... ")
    cut_line, _, tail = tail.partition("\n")
    assert head.startswith("line-0-ü\n") and tail.endswith("line-19999-ü\n"), done.stdout
    assert middle and len(head.encode()) <= 500 and len(tail.encode()) <= 500, (len(head), len(tail))
    assert "\ufffd" not in done.stdout, "cut between characters"
    path = next(word for word in cut_line.replace("]", " ").split() if word.startswith("/"))
    whole = sandbox.read(path, timeout_s=SOON_S).decode()
    assert whole == "".join(f"line-{number}-ü\n" for number in range(20_000)), (
        "the pointer leads to the whole"
    )
    short = sandbox.exec("printf 1234567890", output_limit=10, timeout_s=SOON_S)
    assert short.stdout == "1234567890" and not short.truncated, short


def reports_travel_apart(sandbox: Sandbox) -> None:
    script = (
        "import os; f = int(os.environ['DAYTHREE_REPORT_FD']); print('out'); os.write(f, b'\\0\\xff' * 9)"
    )
    done = sandbox.exec(["python3", "-c", script], report=True, timeout_s=SOON_S)
    assert (done.report, done.stdout) == (b"\0\xff" * 9, "out\n"), done
    assert sandbox.exec("echo $DAYTHREE_REPORT_FD", timeout_s=SOON_S).stdout == "\n", "only when asked for"
    much = sandbox.exec(
        "head -c 20000000 /dev/zero > /dev/fd/$DAYTHREE_REPORT_FD", report=True, timeout_s=SOON_S
    )
    assert len(much.report) == 16 << 20, len(much.report)


DETACHED = """
import os, signal, sys, time
def child(prepare):
    if os.fork() == 0:
        prepare()
        open(sys.argv[1], 'a').write('%d\\n' % os.getpid())
        while True: time.sleep(60)
def daemon():
    os.setsid()
    if os.fork(): os._exit(0)
hide = 'echo $$ >> ' + sys.argv[1] + '; exec sleep 60'
child(lambda: None)
child(os.setsid)
child(daemon)
child(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
child(lambda: (daemon(), os.execve('/bin/sh', ['sh', '-c', hide], {})))
print('kept', flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True: time.sleep(60)
"""


def a_deadline_kills_everything_the_command_started(sandbox: Sandbox) -> None:
    sandbox.write("detached.py", DETACHED.encode(), timeout_s=SOON_S)
    started = time.monotonic()
    done = sandbox.exec(["python3", "detached.py", "/tmp/detached-pids"], timeout_s=1.5)
    took = time.monotonic() - started
    assert done.timed_out and done.exit_code is None and done.stdout == "kept\n", done
    assert 1.4 < took < 5, f"the deadline of 1.5 s was kept after {took:.1f} s"
    pids = sandbox.read("/tmp/detached-pids", timeout_s=SOON_S).split()
    assert len(pids) == 5, pids
    alive = sandbox.exec(f"ls -d {' '.join(f'/proc/{int(pid)}' for pid in pids)}", timeout_s=SOON_S)
    assert alive.stdout == "", f"still there: {alive.stdout}"


def a_deadline_leaves_other_commands_alone(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(sandbox.exec, "sleep 1.2; echo done", timeout_s=SOON_S)
        assert sandbox.exec("sleep 60", timeout_s=0.3).timed_out
        assert other.result().stdout == "done\n", other.result()


def a_background_process_is_not_waited_for(sandbox: Sandbox) -> None:
    started = time.monotonic()
    done = sandbox.exec("sleep 3 & echo started", timeout_s=SOON_S)
    assert done.stdout == "started\n" and time.monotonic() - started < 2, done


def commands_run_side_by_side(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(8) as threads:
        started = time.monotonic()
        results = list(
            threads.map(lambda n: sandbox.exec(f"sleep 0.5; echo {n}", timeout_s=SOON_S), range(8))
        )
    assert [done.stdout for done in results] == [f"{n}\n" for n in range(8)]
    assert time.monotonic() - started < 3, "one after the other would take 4 s"


def links_and_special_files_do_not_travel(sandbox: Sandbox) -> None:
    sandbox.write("linked/inner", b"x", timeout_s=SOON_S)
    sandbox.exec("ln -s /etc/passwd file; ln -s /etc folder; mkfifo pipe", cwd="linked", timeout_s=SOON_S)
    known = {"inner": sha(b"x"), "file": sha(b"was a file"), "folder/x": sha(b"was below")}
    changes = sandbox.changes("linked", known, timeout_s=SOON_S)
    assert changes.written == {} and changes.removed == ("folder/x",), changes
    assert changes.skipped == {"file": "symlink", "folder": "symlink", "pipe": "special"}, changes
    assert sandbox.search("root", path="linked", timeout_s=SOON_S) == []
    assert sandbox.search("ro+t", regex=True, path="linked", timeout_s=SOON_S) == []
    out = tar({"folder/out": (b"", 0o644)})
    refuses(PermissionError, lambda: sandbox.unpack(out, "linked", timeout_s=SOON_S))
    sandbox.exec("ln -s /workspace/linked/inner over", cwd="linked", timeout_s=SOON_S)
    sandbox.unpack(tar({"over": (b"new", 0o644)}), "linked", timeout_s=SOON_S)
    assert sandbox.read("linked/inner", timeout_s=SOON_S) == b"x", "a link is replaced, not followed"


def special_files_are_refused_at_once(sandbox: Sandbox) -> None:
    sandbox.exec("mkdir -p special; mkfifo special/pipe", timeout_s=SOON_S)
    for path in ("special/pipe", "/dev/zero"):
        refuses(PermissionError, lambda path=path: sandbox.read(path, timeout_s=SOON_S))
    refuses(OSError, lambda: sandbox.write("special/pipe", b"x", timeout_s=SOON_S))


def permissions_are_kept(sandbox: Sandbox) -> None:
    sandbox.exec("mkdir -p closed/folder; echo x > closed/file; chmod 0 closed/*", timeout_s=SOON_S)
    sandbox.exec("mkdir closed/listed; echo x > closed/listed/x; chmod 444 closed/listed", timeout_s=SOON_S)
    refuses(PermissionError, lambda: sandbox.read("closed/file", timeout_s=SOON_S))
    refuses(PermissionError, lambda: sandbox.write("closed/file", b"", timeout_s=SOON_S))
    refuses(PermissionError, lambda: sandbox.listdir("closed/folder", timeout_s=SOON_S))
    refuses(PermissionError, lambda: sandbox.write("/etc/new", b"", timeout_s=SOON_S))
    refuses(PermissionError, lambda: sandbox.write("/new/file", b"", timeout_s=SOON_S))
    changes = sandbox.changes("closed", {"folder/known": sha(b"")}, timeout_s=SOON_S)
    skipped = {"file": "unreadable", "folder/": "unreadable", "listed/x": "unreadable"}
    assert changes.skipped == skipped, changes
    assert changes.removed == (), "what cannot be seen is not known to be gone"
    sandbox.exec("chmod 700 closed/*", timeout_s=SOON_S)
    sandbox.write("closed/run", b"#!/bin/sh\necho ran\n", executable=True, timeout_s=SOON_S)
    sandbox.write("closed/run", b"#!/bin/sh\necho again\n", timeout_s=SOON_S)
    assert sandbox.exec(["./closed/run"], timeout_s=SOON_S).stdout == "again\n", "still executable"


def python_finds_what_the_image_brings(sandbox: Sandbox) -> None:
    script = "import json, sys; print(json.dumps([sys.dont_write_bytecode, '/opt/env' in sys.path]))"
    done = sandbox.exec(["python3", "-c", script], timeout_s=SOON_S)
    assert json.loads(done.stdout) == [True, True], done


FILES: tuple[Check, ...] = (
    bytes_come_back_as_they_were_written,
    fifty_megabytes_come_back,
    a_part_of_a_file_can_be_read,
    wrong_paths_are_named_errors,
    directories_are_listed_in_order,
    archives_are_laid_over_directories,
    changes_are_found,
    only_so_many_changes_travel,
    text_is_found_in_order,
    a_bad_regular_expression_is_a_value_error,
    many_requests_may_be_in_flight,
)
COMMANDS: tuple[Check, ...] = (
    commands_say_how_they_ended,
    what_cannot_be_started_is_a_result,
    directory_environment_and_input_are_given,
    output_that_is_not_text_is_replaced,
    huge_output_is_cut_in_the_middle,
    reports_travel_apart,
    a_deadline_kills_everything_the_command_started,
    a_deadline_leaves_other_commands_alone,
    a_background_process_is_not_waited_for,
    commands_run_side_by_side,
    links_and_special_files_do_not_travel,
    special_files_are_refused_at_once,
    permissions_are_kept,
    python_finds_what_the_image_brings,
)

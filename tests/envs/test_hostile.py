"""Whatever a policy writes, says or leaves behind: its episode ends with a verdict, and raises nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.coding import CodingEnv
from envs.grading.rules import Rules
from envs.grading.submission import admit_changes, admit_tree
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import Tree, TreeFile, apply_patch
from envs.testing.run import read_junit_report, read_report
from envs.types import ToolCall
from sandboxes import Backend
from sandboxes.base import TreeChanges

CODE = "calculator/__init__.py"
FIX = f"sed -i '5s/a - b/a + b/' {CODE}"
HIGH = "import os, sys\nreport = int(os.environ.get('DAYTHREE_REPORT_FD', 1))\n"


@pytest.fixture(scope="module")
def hasty(calculator: TaskSet) -> TaskSet:
    """The calculator, whose tests may take five seconds."""
    (task,) = calculator.tasks
    return replace(calculator, tasks=(replace(task, limits=replace(task.limits, test_s=5.0)),))


def written_to_the_report(data: str) -> str:
    """A command that makes the project's code write to the descriptor of the report when it is imported."""
    return f"cat >> {CODE} <<'END'\n{HIGH}os.write(report, {data})\nEND"


HOSTILE = {
    "a root that nobody may read": "chmod 000 .",
    "a root that nobody may enter": "chmod 444 .",
    "folders that nobody may read": "mkdir -p a/b && touch a/b/c && chmod 000 a/b a",
    "a path of 4,090 bytes": (
        "p=.; for n in $(seq 1 45); do d=$(printf 'd%.0s' $(seq 1 88)); mkdir $d && cd $d; done; echo x > f"
    ),
    "a name of 255 bytes": "n=$(printf 'n%.0s' $(seq 1 255)); echo x > $n; echo x > $n.py",
    "names of odd bytes": r"""python3 - <<'END'
import os
for name in (b"a\xff.py", b"tab\t.py", b"quote\".py", b"back\\slash.py", b"new\nline.py", b" .py", b"-rf",
             b"..py", "\u202e.py".encode(), b"a b.py", b"*?[.py", b"CON", b"~", b"a:b.py",
             b"%s%d.py", b"\x7f.py"):
    open(name, "w").write("x = 1\n")
END""",
    "files for folders and folders for files": f"rm -r {CODE} tests && mkdir -p {CODE}/x && echo x > tests",
    "links in a ring": "ln -s b a; ln -s a b; ln -s . dot; ln -s / root; ln -sf /etc/passwd README.md",
    "pipes, sockets, devices": "mkfifo pipe; python3 -c \"import socket; socket.socket(1).bind('s')\"; "
    f"rm {CODE}; mkfifo {CODE}",
    "everything removed": "rm -rf ./* ./.??*",
    "sparse giants": "for n in $(seq 1 40); do truncate -s 200M g$n; done; truncate -s 255M README.md",
    "sparse files at the limit": "for n in $(seq 1 3000); do truncate -s 1M s$n; done",
    "bytes that are no text": f"printf '\\377\\376\\000' > {CODE}; printf '\\000' > n.py; echo -n '\200' > r",
    "a report of brackets": written_to_the_report("b'[' * 60000 + b'\\n'"),
    "a report of braces": written_to_the_report("b'{\"a\":' * 60000 + b'\\n'"),
    "report lines of other types": written_to_the_report(
        repr(b"".join(json.dumps(line).encode() + b"\n" for line in (
            None, 1, [], "x", {"n": []}, {"kind": {}}, {"nonce": 1, "id": [1]}, {"frames": [[1]]}, {"t": "x"},
        )))
    ),
    "sixteen megabytes of report": written_to_the_report("b'x' * (20 << 20)"),
    "code that never ends to import": f"echo 'while True: pass' >> {CODE}",
    "code without end": f"python3 -c \"open('{CODE}', 'w').write('(' * 50000)\"",
    "a source of a million lines": f"yes 'x = 1' | head -n 1000000 > {CODE}",
    "a closed report": f"cat >> {CODE} <<'END'\n{HIGH}os.close(report)\nEND",
    "a test process that ends itself": f"printf 'import os\\nos._exit(0)\\n' >> {CODE}",
}  # fmt: skip


@pytest.mark.bubblewrap
@pytest.mark.slow
@pytest.mark.parametrize("what", HOSTILE)
def test_an_episode_that_does_its_worst_is_graded_0(pool: Backend, hasty: TaskSet, what: str) -> None:
    with CodingEnv([hasty], backend=pool) as env:
        env.reset(seed=0)
        for name, arguments in (
            ("shell", {"command": HOSTILE[what]}),
            ("test", {}),
            ("view", {"path": "."}),
            ("search", {"query": "return"}),
            ("edit", {"path": "made.py", "new": "x", "create": True}),
        ):
            observation, *_ = env.step(ToolCall("1", name, arguments))
            observation.text.encode()
        _, reward, terminated, _, info = env.step(ToolCall("1", "submit", {}))
        assert terminated and reward == 0.0
        assert not info["verdict"].resolved


@pytest.mark.bubblewrap
@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["names of odd bytes", "a name of 255 bytes", "sparse giants", "sparse files at the limit"]
)
def test_the_work_beside_it_still_counts(pool: Backend, calculator: TaskSet, what: str) -> None:
    with CodingEnv([calculator], backend=pool) as env:
        env.reset(seed=0)
        env.step(ToolCall("1", "shell", {"command": f"{FIX}; {HOSTILE[what]}"}))
        _, reward, _, _, info = env.step(ToolCall("1", "submit", {}))
        assert reward == 1.0, info["verdict"]
        assert info["dropped"] or what == "a name of 255 bytes"


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)
KINDS = ["session", "collected", "collect", "start", "phase", "part", "finish", "failure", "watch", "entered",
         "end", "file", "plugins"]  # fmt: skip
FIELDS = ["nonce", "n", "t", "id", "ids", "when", "outcome", "error", "message", "frames", "changes",
          "functions", "plugins", "declared", "status", "name", "data"]  # fmt: skip
LINES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), VALUES)).map(
        lambda pair: {"nonce": "n", "n": 0, "t": 0.0, "kind": pair[0], **pair[1]}
    ),
    max_size=8,
)


@pytest.mark.slow
@given(lines=LINES, noise=st.binary(max_size=20))
@settings(max_examples=150, deadline=None)
def test_any_report_is_read(lines: list[dict[str, Any]], noise: bytes) -> None:
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + noise + b"\n"
    for report in (read_report(data, "n", plugins=()), read_junit_report(data, "n", "/w", ["a.py"])):
        for test, failure in report.failures.items():
            f"{test} {failure.error} {failure.message} {failure.frames}".encode()
        assert all(isinstance(test, str) for test in report.outcomes)


PARTS = st.text(alphabet="ab.\\ \t\n\x00é🙂~-", min_size=1, max_size=6) | st.sampled_from(
    ["..", ".", ".git", "tests", "conftest.py", "n" * 256, "build"]
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join) | st.just("d/" * 600 + "f")


BASE: Tree = {
    "a.py": TreeFile(b"x = 0\n"),
    "was/binary": TreeFile(b"\0\xff" * 40),
    "latin.py": TreeFile(b"# caf\xe9\r\nx = 1\r\n"),
    "run.sh": TreeFile(b"#!/bin/sh\n", executable=True),
    "tests/test_a.py": TreeFile(b"def test_a(): ...\n"),
}
OLD = st.sampled_from(sorted(BASE))
FILES = st.dictionaries(
    PATHS | OLD | st.sampled_from(["was", "a.py/x", "run.sh/y"]),
    st.binary(max_size=20)
    | st.sampled_from([b"x = 1\n", b"now text\n", b"", b"# caf\xe9\nx = 2\n", b"\r\n\x85"]),
    max_size=8,
)


@pytest.mark.slow
@given(
    written=FILES,
    executable=st.frozensets(PATHS | OLD, max_size=4),
    removed=st.lists(PATHS | OLD, max_size=3),
    skipped=st.dictionaries(PATHS | OLD | st.sampled_from(["...", "was/"]), st.just("symlink"), max_size=3),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_changes_are_admitted_and_the_patch_gives_the_tree(written, executable, removed, skipped) -> None:
    changes = TreeChanges(written, executable, tuple(removed), skipped)
    submission = admit_changes(changes, BASE, Rules())
    assert apply_patch(BASE, submission.patch) == submission.tree
    stored = json.loads(json.dumps(submission.patch).encode())
    assert admit_tree(apply_patch(BASE, stored), BASE, Rules()).tree == submission.tree

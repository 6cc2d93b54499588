"""Stopped test files, which cannot pass in any language: the sentinels of `junit` tasks.

A file keeps its imports and tests, but before the first test it calls a function that does not exist:
`prepareAbcde();`. The file loads the code under test and then stops, or is no valid program at all. Either
way none of its tests runs, and a report in which one of them passed is forged.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence

from envs.tasksets.trees import Tree, TreeFile

from .runs import RunRequest, RunTests, passed

_OPENS = re.compile(
    rb"^[ \t]*(?:(?:export|async|await|public|final)[ \t]+)*"
    rb"(?:(?:describe|context|suite|it|test|specify)[ \t]*[.(\"'`]|(?:QUnit|RSpec)\.|class[ \t]|"
    rb"(?:def|fn|fun|func|function|sub)[ \t]+[Tt]est|@|#\[)",
    re.MULTILINE,
)
"""Where a test, or what holds tests, begins: in JavaScript, Python, Ruby, Go, Java and their like."""
_NAMES = ("prepare", "setUp", "configure", "establish", "arrange", "populate")


def stopped(data: bytes, draw: random.Random) -> bytes:
    """Insert the failing call before the first test; where none is found, return an invalid program."""
    found = _OPENS.search(data)
    name = draw.choice(_NAMES) + "".join(draw.choices("abcdefghijklmnop", k=5)).title()
    if found is None:
        return data + b"\n)]}\n"
    indent = found[0][: len(found[0]) - len(found[0].lstrip())]
    return b"%s%s%s();\n%s" % (data[: found.start()], indent, name.encode(), data[found.start() :])


def stopped_request(files: Sequence[str], tree: Tree, draw: random.Random) -> RunRequest:
    """Return a request to run stopped test files."""
    laid = {
        path: TreeFile(stopped(tree[path].data, draw), tree[path].executable)
        for path in files
        if path in tree
    }
    return RunRequest(tuple(files), laid)


def passed_without_running(
    request: RunRequest,
    listed: Collection[str],
    candidate: Tree,
    reference: Callable[[], Tree],
    run: RunTests,
) -> tuple[list[str], int]:
    """Return listed ids that passed in stopped files, and how many do so for the reference too.

    Raises SandboxError.
    """
    report = run(candidate, [request])[0]
    odd = [test for test in listed if passed(report, test)]
    if not odd:
        return [], 0
    known = run(reference(), [request])[0]
    accused = [test for test in odd if not passed(known, test) and not known.timed_out]
    return accused, len(odd) - len(accused)

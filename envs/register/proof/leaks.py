"""Check that the `prs` tool gives no fix away: make every call, and search every answer for signs of the fix.

A sign (`envs.register.proof.withheld`) is a word, a line, an id or a number of the fix that the base tree
lacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from envs.tasksets.lineage import lineage_of
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import Tree
from envs.tools.base import ToolContext, ToolError
from envs.tools.prs import Prs
from envs.tools.prs_view import PHRASES
from envs.types import Task
from sandboxes.base import SandboxSpec
from sandboxes.fake import FakeSandbox

from .withheld import Signs, fix_words, signs

KINDS_WITH_THE_FIX_IN_THE_HISTORY = ("git",)
_PAGE = re.compile(r"\n\(page \d+ of (\d+)\)$")


def pr_leaks(taskset: TaskSet) -> list[str]:
    """Return a line for every answer of the `prs` tool that holds a sign of its task's fix.

    For every task: a search for every word of the fix, every change read to its last page, every line
    blamed (one line for each change that touched a file), the recent changes of every path.
    """
    found: list[str] = []
    for task in taskset.tasks:
        if task.traits.get("stated"):
            continue  # a past change states the right behaviour on purpose: finding it is the task
        base = taskset.base_tree(task)
        wanted = _signs(taskset, task, base)
        files = {path: entry.data for path, entry in base.items()}
        sandbox = FakeSandbox(SandboxSpec(image="", workdir=task.workdir), files)
        at = ToolContext(sandbox, taskset, task)
        for call in _calls(taskset, task, base):
            # An answer to `blame` begins with the place in the question, which is no leak.
            shown = wanted.found_in(_answer(call, at).removeprefix(call.blame or ""))
            if shown:
                found.append(f"{task.id}: prs {_spelled(call)} shows {shown[0]}")
    return found


def _signs(taskset: TaskSet, task: Task, base: Tree) -> Signs:
    """Collect the signs of a task's fix, except words of the tool's fixed phrases."""
    number = None
    if taskset.manifest.kind in KINDS_WITH_THE_FIX_IN_THE_HISTORY and task.past < len(taskset.prs):
        key = taskset.prs[task.past].key
        number = int(key) if key.isdigit() else None
    commit = str(task.traits.get("commit", ""))
    phrases = signs({}, "".join(f"+{phrase}\n" for phrase in PHRASES))
    wanted = signs(base, task.reference_patch, commit=commit, number=number)
    return Signs(wanted.words - phrases.words, wanted.folded - phrases.folded, wanted.lines, commit, number)


def _calls(taskset: TaskSet, task: Task, base: Tree) -> Iterator[Prs]:
    for word in sorted(fix_words(task.reference_patch)):
        yield Prs(search=word)
    for row in taskset.prs:
        yield Prs(read=row.key)
    for folder in sorted({path.rpartition("/")[0] or "." for path in base}):
        yield Prs(recent=folder)
    for path in sorted(base):
        yield Prs(recent=path)
        known = lineage_of(taskset, path, base[path], task.past)
        seen, line = set[int](), 1
        for change, length in known.runs if known else ():
            if change not in seen:
                seen.add(change)
                yield Prs(blame=f"{path}:{line}")
            line += length


def _answer(call: Prs, at: ToolContext) -> str:
    """Return the full answer to a call, all pages joined."""
    try:
        first = call.run(at)
        pages = _PAGE.search(first)
        if not pages:
            return first
        rest = [Prs(read=call.read, page=page).run(at) for page in range(2, int(pages[1]) + 1)]
        return "\n".join(_PAGE.sub("", page) for page in (first, *rest))
    except ToolError as error:
        return str(error)


def _spelled(call: Prs) -> str:
    return next(f"{name}={value!r}" for name in ("search", "read", "blame", "recent")
                if (value := getattr(call, name)))  # fmt: skip

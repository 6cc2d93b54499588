"""Drills: synthetic SFT episodes for a policy trained from nothing, written without a sandbox.

`copy_drills` practise copying text exactly, which a small model learns last and needs first. `repair_drills`
practise locating and undoing a bug in a viewed file, on more bugs than sandboxes could prove.
Observations are computed from the file; no test runs, and no drill proves a fix. Drills are for SFT only:
reward comes from real test runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.chat import ChatCodec
from agents.policies.demonstrator import show_edit
from agents.types import Action, Turn
from envs.register.inject.hiding import Hidden
from envs.register.inject.instructions import write_instruction
from envs.register.inject.mutate import Mutation, find_mutations, is_sound
from envs.tasksets.taskset import TaskSet
from envs.testing.run import Failure, StackFrame
from envs.tools.base import ToolSpec
from envs.types import Observation, Task, ToolCall

from .samples import Sample, from_transcript

Drill = Callable[[random.Random], Sample]
"""Returns a new drill as a sample."""
TRIES = 100
"""Attempts to draw a drill within the token limit; exceeding them means that the limit is too small."""


def copy_drills(
    files: Mapping[str, str], codec: ChatCodec, tools: Sequence[ToolSpec], *, limit: int, lines: int = 3
) -> Drill:
    """Return a maker of copy drills: view part of a file, then replace each line as the task says.

    The new text is in the task, the old text in the view, and every argument of every call is a copy of
    either. Observations are computed from the file, without running the tools.
    """
    usable = {
        path: numbered
        for path, text in sorted(files.items())
        if len(numbered := [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]) > lines
    }
    assert usable, "copy drills need at least one file with a few lines of text"

    def draw(chance: random.Random) -> tuple[str, list[Turn]]:
        path = chance.choice(list(usable))
        numbered = usable[path]
        first = chance.randrange(len(numbered) - lines)
        return _exercise(path, files[path].splitlines(), numbered[first : first + lines], chance)

    return _fitting(draw, codec, tools, limit=limit)


def _fitting(
    draw: Callable[[random.Random], tuple[str, list[Turn]] | None],
    codec: ChatCodec,
    tools: Sequence[ToolSpec],
    *,
    limit: int,
) -> Drill:
    """Draw tasks with their turns until one fits into `limit` tokens."""

    def make(chance: random.Random) -> Sample:
        for _ in range(TRIES):
            drawn = draw(chance)
            if drawn is None:
                continue
            try:
                ids, sampled = codec.transcribe(drawn[0], tools, drawn[1])
            except ValueError:  # a line that the dialect cannot hold
                continue
            if len(ids) <= limit:
                return from_transcript(ids, sampled, "drill")
        raise AssertionError(f"no drill fits into {limit} tokens; raise policy.context_tokens")

    return make


def _exercise(
    path: str, text: Sequence[str], chosen: Sequence[tuple[int, str]], chance: random.Random
) -> tuple[str, list[Turn]]:
    wanted: list[str] = []
    start = max(1, chosen[0][0] - chance.randrange(4))
    end = min(len(text), chosen[-1][0] + chance.randrange(4))
    shown = "\n".join(f"{n}\t{text[n - 1]}" for n in range(start, end + 1))
    turns = [turn("view", {"path": path, "start": start, "end": end}, shown)]
    for number, line in chosen:
        words = line.split()
        old, new = chance.choice(words), chance.choice(words)
        if line.count(old) != 1 or old == new:
            old, new = line.strip(), chance.choice(words)
        wanted.append(f"{path}:{number}: {old} -> {new}")
        arguments = {"path": path, "old": old, "new": new, "line": number}
        turns.append(turn("edit", arguments, f"changed line {number} of {path}"))
    turns.append(turn("submit", {}, "submitted"))
    return "\n".join(wanted), turns


def turn(name: str, arguments: Mapping[str, Any], shown: str) -> Turn:
    """Write down one call and what it led to."""
    call = ToolCall("call", name, dict(arguments))
    return Turn(Action((call,)), (Observation(shown, call_id="call"),), 0.0, 0.0)


@dataclass(frozen=True)
class _Bench:
    """Material of a repair drill: a bug, its file, and a real task of the same function or file."""

    mutation: Mutation
    source: bytes
    like: Task


def repair_drills(
    tasksets: Iterable[TaskSet], codec: ChatCodec, tools: Sequence[ToolSpec], *, limit: int
) -> Drill:
    """Return a maker of repair drills: one-line bugs in functions that no held-out task is about.

    The instruction is worded like a real one: it names the test of a real task, and half of the time its
    traceback ends at the bug.
    """
    benches = [bench for taskset in tasksets for bench in _benches(taskset)]
    assert benches, "repair drills need functions that training tasks are about"

    def draw(chance: random.Random) -> tuple[str, list[Turn]] | None:
        bench = chance.choice(benches)
        return _repair(bench, chance) if is_sound(bench.mutation, bench.source) else None

    return _fitting(draw, codec, tools, limit=limit)


def _benches(taskset: TaskSet) -> list[_Bench]:
    """List one-line bugs in the files of the training tasks, outside the functions of held-out tasks."""

    def place(task: Task) -> tuple[str, str]:
        return str(task.traits.get("path")), str(task.traits.get("function"))

    heldout = {function for task in taskset.split("heldout") for function in _places(task)}
    examples: dict[str, dict[str, Task]] = {}
    for task in taskset.split("train"):
        path, function = place(task)
        examples.setdefault(path, {})[function] = task
    benches = []
    for path, by_function in sorted(examples.items()):
        source = taskset.source_tree(by_function[min(by_function)])[path].data
        for mutation in find_mutations(path, source):
            one_line = "\n" not in mutation.before + mutation.after
            if one_line and mutation.place not in heldout:
                like = by_function.get(mutation.function) or by_function[min(by_function)]
                benches.append(_Bench(mutation, source, like))
    return benches


def _places(task: Task) -> list[str]:
    """List the functions that a task is about, as `path::function`."""
    places = task.traits.get("places") or f"{task.traits.get('path')}::{task.traits.get('function')}"
    return str(places).split(", ")


def _repair(bench: _Bench, chance: random.Random) -> tuple[str, list[Turn]]:
    mutation, like = bench.mutation, bench.like
    broken = mutation.apply(bench.source).decode().splitlines()
    line = mutation.line
    edit = {"path": mutation.path, "old": broken[line - 1], "line": line}
    edit["new"] = bench.source.decode().splitlines()[line - 1]
    turns = []
    for call in show_edit(ToolCall("", "edit", edit), chance):
        shown = f"changed line {line} of {mutation.path}"
        if call.name == "view":
            start, end = call.arguments["start"], min(call.arguments["end"], len(broken))
            shown = "\n".join(f"{number}\t{broken[number - 1]}" for number in range(start, end + 1))
        turns.append(turn(call.name, call.arguments, shown))
    visible = len(like.fail_to_pass) + len(like.pass_to_pass) - len(like.hidden_tests)
    turns += [turn("test", {}, f"{visible} passed"), turn("submit", {}, "submitted")]
    return _instruction(bench, chance), turns


def _instruction(bench: _Bench, chance: random.Random) -> str:
    """Word a failure of the similar task's first visible test, as if this bug had caused the failure."""
    mutation, like = bench.mutation, bench.like
    test = next(test for test in like.fail_to_pass if test not in like.hidden_tests)
    frames = [
        StackFrame(
            test.partition("::")[0], chance.randint(5, 400), test.rpartition("::")[2].partition("[")[0]
        )
    ]
    error = "AssertionError"
    if chance.random() < 0.5:
        frames.append(StackFrame(mutation.path, mutation.line, mutation.function.rpartition(".")[2]))
        error = chance.choice(["TypeError", "ValueError", "IndexError", "KeyError", "AttributeError"])
    return write_instruction([test], {test: Failure(error, "", tuple(frames))}, Hidden({}, (), {}))

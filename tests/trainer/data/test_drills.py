"""Exercises: what is asked can be done from what is shown, and nothing held out is given away."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from agents.chat import ChatCodec
from envs.tasksets.taskset import Manifest, Runtime, TaskSet, write_taskset
from envs.tasksets.trees import TreeFile, digest
from envs.testing.run import RunnerSetup
from envs.tools.toolset import tool_specs
from envs.types import Task
from sandboxes import ImageRecipe
from trainer.config import Tiny
from trainer.data.drills import repair_drills
from trainer.learning.tiny import make_tiny

pytestmark = pytest.mark.train

SOURCE = """def clamp(value, low, high):
    if value < low:
        return low
    return value if value < high else high


def secret(first, second):
    total = first * 1234 + second
    return total
"""

TREE = {"pkg.py": TreeFile(SOURCE.encode())}


def task(name: str, function: str, split: str) -> Task:
    test = f"tests/test_pkg.py::test_{function}"
    traits = {"path": "pkg.py", "function": function}
    tree = digest(TREE)
    return Task(
        name, "s", split, "default", "/w", "Mend it.", tree, "", "", tree, tree, (test,), (), traits=traits
    )


@pytest.fixture(scope="module")
def taskset(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    manifest = Manifest("s", "inject", "path:s", {"default": Runtime(ImageRecipe("s"), RunnerSetup())})
    made = (task("s-1", "clamp", "train"), task("s-2", "secret", "heldout"))
    return write_taskset(tmp_path_factory.mktemp("sets") / "s", manifest, made, [TREE])


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> ChatCodec:
    size = Tiny(hidden=32, layers=2, heads=2, kv_heads=2, head_dim=16, intermediate=64, vocab_size=700)
    folder: Path = make_tiny(
        tmp_path_factory.mktemp("tiny"), size, text=[SOURCE], tools=tool_specs(), context_tokens=512
    )
    return ChatCodec.load(str(folder), "qwen3-coder")


def test_a_repair_shows_the_bug_and_restores_the_line(taskset: TaskSet, codec: ChatCodec) -> None:
    drill = repair_drills([taskset], codec, tool_specs(), limit=512)
    for seed in range(20):
        text = codec.decode(drill(random.Random(seed)).ids.tolist())
        old = text.partition("<parameter=old>\n")[2].partition("\n</parameter>")[0]
        shown = text.partition("</tool_call>")[2].partition("</tool_call>")[0]
        assert "test_clamp" in text
        assert old, text
        assert old in shown, text
        assert text.rstrip().endswith("</tool_call><|im_end|>")


def test_no_repair_is_in_a_function_that_is_held_out(taskset: TaskSet, codec: ChatCodec) -> None:
    drill = repair_drills([taskset], codec, tool_specs(), limit=512)
    for seed in range(40):
        text = codec.decode(drill(random.Random(seed)).ids.tolist())
        line = int("".join(text.partition("<parameter=line>\n")[2].partition("\n</parameter>")[0].split()))
        assert line <= 4, "lines 7 to 9 belong to the held-out function"


def test_the_same_chance_gives_the_same_exercise(taskset: TaskSet, codec: ChatCodec) -> None:
    drill = repair_drills([taskset], codec, tool_specs(), limit=512)
    assert drill(random.Random(3)) == drill(random.Random(3))


def test_a_set_without_training_tasks_has_nothing_to_drill(taskset: TaskSet, codec: ChatCodec) -> None:
    heldout = replace(taskset, tasks=(task("s-2", "secret", "heldout"),))
    with pytest.raises(AssertionError, match="training tasks"):
        repair_drills([heldout], codec, tool_specs(), limit=512)

"""The programs that cheats run: real files, of which none is left over."""

from __future__ import annotations

import ast
import base64
import re
from pathlib import Path

import pytest

import envs.redteam
from envs.redteam.cheat import Cheat
from envs.redteam.cheater import Cheater, EpisodeOver
from envs.redteam.program import source
from envs.redteam.scene import NotApplicable, Scene, scene_of
from envs.redteam.suite import CHEATS, HONEST
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import TreeFile
from envs.types import Observation

FOLDER = Path(envs.redteam.__file__).parent / "programs"
PROGRAMS = sorted(
    path.relative_to(FOLDER).as_posix()
    for path in FOLDER.rglob("*.*")
    if path.suffix in (".py", ".sh", ".js") and path.name != "__init__.py"
)


class ListeningEnv:
    """Records the commands that a cheat runs, with what is encoded in them."""

    def __init__(self) -> None:
        self.text = ""

    def reset(self, **_) -> None: ...

    def step(self, action):
        command = action.arguments.get("command", "")
        self.text += command
        for data in re.findall(r"base64 -d >> .*\n(\S+)\nEND\n", command):
            self.text += base64.b64decode(data).decode("utf-8", "replace")
        machine = "x86_64" if command == "uname -m" else ""
        return Observation(machine), 0.0, action.name == "submit", False, {}


def written(cheat: Cheat, scene: Scene) -> str:
    """Everything that a cheat lays and runs."""
    try:
        if cheat.changes is not None:
            return "\n".join(str(data) for data in cheat.changes(scene).values())
        env = ListeningEnv()
        cheat.play(Cheater(env, scene))
        return env.text
    except (NotApplicable, EpisodeOver):
        return ""


def test_every_program_is_part_of_a_cheat_or_of_honest_work(kettle: TaskSet) -> None:
    task = kettle.tasks[0]
    files = {"index.js": TreeFile(b"module.exports = 1;\n"), "test/a.test.js": TreeFile(b"\n")}
    scenes = [scene_of(kettle, task), Scene("js-1", "", files, "/workspace", (".",), "junit")]
    texts = [written(cheat, scene) for cheat in CHEATS for scene in scenes]
    for honest in HONEST:
        try:
            texts += [file.data.decode("latin-1") for file in honest.tree(kettle, task).values()]
        except NotApplicable:
            continue
    everything = "\n".join(texts)
    # This one's tree is written anew by `ast.unparse`.
    unused = [name for name in PROGRAMS if source(name).strip() not in everything]
    assert unused == ["honest/wrapping.py"]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name.endswith(".py")])
def test_a_program_is_written_for_old_interpreters_too(name: str) -> None:
    ast.parse(source(name), feature_version=(3, 8))


def test_values_are_written_above_a_program_in_its_language() -> None:
    assert source("harness/setup_script.py", HOOKS="'a'\n").splitlines()[0] == "HOOKS = \"'a'\\n\""
    assert source("harness/links_for_tests.sh", TESTS="a 'b").startswith("TESTS='a '\"'\"'b'\nmkdir")

"""A task that only somebody who reads what colleagues agreed on can solve, in real sandboxes.

And what such a sandbox holds of the repository it came from: one commit, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sandboxes
from envs.coding import CodingEnv
from envs.register.history.authorship import lineage
from envs.register.history.mainline import open_history
from envs.register.history.pulls import past_changes
from envs.register.proof.leaks import pr_leaks
from envs.register.proof.withheld import withheld
from envs.tasksets.taskset import Manifest, TaskSet, load_taskset, write_taskset
from envs.tasksets.trees import diff_trees, digest
from envs.types import Limits, Task, ToolCall
from sandboxes import Backend, SandboxUnavailable

CODE = "parcels.py"
BEFORE = '''"""Parcels."""

SIZES = (125, 300, 450, 800)


def limit(kind):
    """The weight limit of heavy and of light parcels."""
    return SIZES[0]
'''
AFTER = BEFORE.replace("    return SIZES[0]\n", '    return {"heavy": 450, "light": 300}[kind]\n')
TESTS = "from parcels import SIZES, limit\n\n\ndef test_sizes():\n    assert SIZES[0] == 125\n"
HIDDEN = TESTS + '\n\ndef test_limit():\n    assert (limit("heavy"), limit("light")) == (450, 300)\n'
AGREED = "Agreed with the harbour: heavy is 450, light is 300. To be built later."


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ],
)
def backend(request: pytest.FixtureRequest, calculator: TaskSet) -> Iterator[Backend]:
    try:
        backend = sandboxes.connect(request.param)
        backend.ensure_image(calculator.runtime(calculator.tasks[0]).image, timeout_s=600)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()


@pytest.fixture
def parcels(upstream: Any, calculator: TaskSet, tmp_path: Path) -> TaskSet:
    """The task of pull request 5, out of its repository's real history."""
    upstream.commit("Begin", {CODE: BEFORE, "tests/test_parcels.py": TESTS, "pyproject.toml": "[project]\n"})
    upstream.commit("Sizes in one place (#2)", {"README.md": "Parcels, heavy and light.\n"})
    upstream.branch("notes")
    upstream.commit("wip", {"NOTES.md": "Limits: see the pull request.\n"})
    upstream.merge("notes", f"Merge pull request #4 from ada/notes\n\nWhat the limits are\n\n{AGREED}")
    upstream.commit("Limits as agreed (#5)", {CODE: AFTER, "tests/test_parcels.py": HIDDEN})
    with open_history(str(upstream.folder), timeout_s=30) as history:
        prs = past_changes(history)
        fix = history.changes[-1]
        base, solved = history.tree(fix.base), history.tree(fix.commit)
        patch = diff_trees(base, base | {CODE: solved[CODE]})
        past = prs[:-1]
        task = Task(
            id="parcels-5", set="parcels", split="train", environment="default", workdir="/workspace",
            instruction="limit() should say what was agreed on; it says the smallest size.",
            source_digest=digest(base), base_patch="", reference_patch=patch, base_digest=digest(base),
            tests_digest=digest(solved), fail_to_pass=("tests/test_parcels.py::test_limit",),
            pass_to_pass=("tests/test_parcels.py::test_sizes",), test_files=("tests/test_parcels.py",),
            hidden_tests=("tests/test_parcels.py::test_limit",), past=len(past),
            cutoff=history.changes[-2].merged_at,
            withheld=withheld(past, base, patch, fix.commit, number=fix.number),
            limits=Limits(max_turns=8, command_s=20, test_s=60, episode_s=180),
            traits={"commit": fix.commit},
        )  # fmt: skip
        rows = lineage(history, [fix.base])
    manifest = Manifest("parcels", "git", str(upstream.folder), calculator.manifest.environments)
    return write_taskset(
        tmp_path / "set", manifest, [task], [base, solved], prs=prs, records={"lineage": rows}
    )


def colleague(env: CodingEnv) -> float:
    """Solve the task from what the tool shows; without the answer it can only guess. Returns the reward."""
    env.reset(seed=0)

    def ask(**arguments: Any) -> str:
        return env.step(ToolCall("1", "prs", arguments))[0].text

    keys = re.findall(r"^#?(\w+) ", ask(search="limits of heavy and light parcels"), re.MULTILINE)
    told = "\n".join(ask(read=key) for key in keys[:1])
    agreed = dict(re.findall(r"(heavy|light) is (\d+)", told)) or {"heavy": "800", "light": "300"}
    new = f"{{'heavy': {agreed['heavy']}, 'light': {agreed['light']}}}[kind]"
    env.step(ToolCall("2", "edit", {"path": CODE, "old": "SIZES[0]", "new": new}))
    return float(env.step(ToolCall("3", "submit", {}))[1])


def test_the_pull_request_that_tells_is_not_withheld_and_nothing_of_the_fix_leaks(parcels: TaskSet) -> None:
    assert parcels.tasks[0].withheld == ()
    assert pr_leaks(parcels) == []


@pytest.mark.slow
def test_an_agent_that_reads_the_right_pull_request_solves_it_and_without_the_tool_it_cannot(
    backend: Backend, parcels: TaskSet
) -> None:
    with CodingEnv([parcels], backend=backend) as env:
        assert colleague(env) == 1.0
    blind = replace(parcels, tasks=(replace(parcels.tasks[0], past=0),), digest="without a past")
    with CodingEnv([blind], backend=backend) as env:
        assert colleague(env) == 0.0


def test_the_sandbox_holds_one_commit_and_nothing_else_of_git(
    backend: Backend, parcels: TaskSet, upstream: Any
) -> None:
    with CodingEnv([load_taskset(parcels.folder)], backend=backend) as env:
        env.reset(seed=0)

        def shell(command: str) -> list[str]:
            return env.step(ToolCall("1", "shell", {"command": command}))[0].text.splitlines()

        listed = shell(
            "git cat-file --batch-all-objects --batch-check='%(objectname) %(objecttype)' --unordered"
        )
        reachable = shell("git rev-list --objects --no-object-names HEAD")
        assert sorted(line.split()[0] for line in listed) == sorted(reachable)
        assert sum(line.endswith(" commit") for line in listed) == 1
        foreign = upstream.repo.git.rev_list("--all", "--objects", "--no-object-names").split()
        base = upstream.repo.git.rev_parse("HEAD~1^{tree}")
        shared = upstream.repo.git.ls_tree("-r", "-t", "--format=%(objectname)", base).split()
        assert not {line.split()[0] for line in listed} & (set(foreign) - {base, *shared})
        names = set(shell("cd .git && find . -type f | sort"))
        packs = {name for name in names if name.startswith("./objects/pack/")}
        plain = {"./HEAD", "./config", "./index", "./objects/info/packs", "./refs/heads/main"}
        assert names - packs == plain, (
            "no reflog, ORIG_HEAD, FETCH_HEAD, alternates, stash, hooks or worktrees"
        )
        assert sum(name.endswith(".pack") for name in packs) == 1
        only = shell("git for-each-ref")
        assert len(only) == 1
        assert (
            shell("git reflog; git stash list; git remote; git for-each-ref; git fsck --lost-found") == only
        )

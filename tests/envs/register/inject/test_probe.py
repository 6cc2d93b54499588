"""Each bug meets an untouched sandbox, and a failing sandbox is told apart from a failing bug."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.register.inject.bugs import Bug
from envs.register.inject.mutate import find_mutations
from envs.register.inject.probe import Prober
from envs.register.project.project import Project, read_project
from envs.register.project.sources import fetch_source
from envs.register.runtime.discover import Suite
from sandboxes import SandboxSpec, SandboxUnavailable
from sandboxes.fake import FakeBackend

PATH = "tinylib/numbers.py"


@pytest.fixture
def project(library: Path) -> Project:
    return read_project(fetch_source(str(library)))


@pytest.fixture
def bug(project: Project) -> Bug:
    return Bug.of(find_mutations(PATH, project.tree[PATH].data)[0])


@pytest.fixture
def prober(project: Project, bug: Bug) -> Prober:
    test = "tests/test_numbers.py::test_clamp"
    suite = Suite(frozenset({test}), (), {}, 2, 1.0, {bug.places[0]: frozenset({test})})
    return Prober(project, suite, SandboxSpec(image="daythree/x:1"))


def test_each_bug_meets_the_unmodified_tree_and_leaves_nothing_open(
    prober: Prober, project: Project, bug: Bug
):
    backend = FakeBackend()
    for _ in range(2):
        prober.probe(backend, bug)
    assert len(backend.opened) == 2
    for sandbox in backend.opened:
        written = [
            path for path in project.tree if sandbox.files[f"/workspace/{path}"] != project.tree[path].data
        ]
        assert written == [PATH]
        assert sandbox.closed


def test_a_sandbox_that_dies_under_a_bug_is_the_bugs_doing(prober: Prober, bug: Bug):
    assert prober.probe(FakeBackend(fail_at=2), bug).result == "breaks the sandbox"


def test_a_sandbox_that_cannot_be_opened_ends_everything(prober: Prober, bug: Bug):
    with pytest.raises(SandboxUnavailable):
        prober.probe(FakeBackend(fail_at=1), bug)

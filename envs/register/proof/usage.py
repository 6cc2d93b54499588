"""Record with each task which files judge by use, and which modules the images have installed.

The tests run once on every tree that a reference leads to, with a plugin that records what is opened and
imported. Code that may be either, a helper of tests or a module under test, is tried: without its assertions,
does a failing test pass on the broken tree?
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import resources

from envs.grading.grade import graded_tree
from envs.grading.run import SETUP_S, grading_specs, run_clean
from envs.grading.submission import submission_of
from envs.parallel import fitting_workers, in_order
from envs.protection import import_roots
from envs.tasksets.taskset import Manifest, TaskSet
from envs.tasksets.trees import Tree, TreeFile, digest, pack, patched_paths
from envs.testing.run import run_tests
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.base import SandboxLost, SandboxUnresponsive

from ..settings import ProofSettings
from .judges import Library, Used, softened

_FOLDER, _PLUGIN = ".daythree", "daythree_using"
PATIENCE = 5
"""A run that is watched may take so many times as long."""


def with_usage(taskset: TaskSet, settings: ProofSettings) -> tuple[Manifest, tuple[Task, ...]]:
    """Return the set's manifest and tasks with installed modules and judging files.

    A task whose tests are no pytest tests, or cannot be watched, keeps what it has. Raises SandboxError.
    """
    observed = _observed(taskset, settings)
    changed = frozenset(path for task in taskset.tasks for path in _changed(task))
    libraries = {
        task.id: Library(
            taskset.solved_tree(task),
            import_roots(taskset.solved_tree(task), taskset.runtime(task).tests.import_paths),
            changed,
            observed[key],
        )
        for task in taskset.tasks
        if (key := _key(taskset, task)) in observed
    }
    proven = _proven(taskset, libraries, settings)
    tasks = [
        replace(task, judges=libraries[task.id].judges(proven)) if task.id in libraries else task
        for task in taskset.tasks
    ]
    return replace(taskset.manifest, environments=_environments(taskset, settings.backend)), tuple(tasks)


def _changed(task: Task) -> frozenset[str]:
    return patched_paths(task.reference_patch) if task.reference_patch else frozenset()


def _solved(taskset: TaskSet, task: Task) -> Tree:
    return graded_tree(submission_of(taskset.solved_tree(task), taskset, task), taskset, task)


@dataclass(frozen=True)
class _Group:
    """Tasks that run their tests on one tree."""

    task: Task
    tree: Tree
    files: tuple[str, ...]


def _key(taskset: TaskSet, task: Task) -> str:
    return f"{task.environment} {task.tests_digest} {digest(_solved(taskset, task))}"


def _observed(taskset: TaskSet, settings: ProofSettings) -> dict[str, Used]:
    """Return what the tests used, by tree: those of all tasks that share one run together."""
    groups: dict[str, _Group] = {}
    for task in taskset.tasks:
        if taskset.runtime(task).tests.runner == "pytest":
            known = groups.get(key := _key(taskset, task))
            files = tuple(sorted({*task.test_files, *(known.files if known else ())}))
            groups[key] = _Group(task, _solved(taskset, task), files)

    def watch(backend: Backend, group: _Group) -> Used | None:
        return _watched(taskset, group, backend)

    workers = settings.workers or fitting_workers(grading_specs(taskset, taskset.tasks[0])[0])
    with closing(in_order(watch, groups.values(), backend=settings.backend, workers=workers)) as found:
        return {key: used for key, used in zip(groups, found, strict=True) if used is not None}


def _watched(taskset: TaskSet, group: _Group, backend: Backend) -> Used | None:
    """Run the tests of a tree and return what they used; None where they could not be watched."""
    task, tests = group.task, taskset.runtime(group.task).tests
    plugin = resources.files(__package__ or "").joinpath("using.py").read_bytes()
    files = {**group.tree, f"{_FOLDER}/{_PLUGIN}.py": TreeFile(plugin)}
    watching = replace(tests, import_paths=(*tests.import_paths, _FOLDER), plugins=(*tests.plugins, _PLUGIN))
    sandbox = backend.open(grading_specs(taskset, task)[0], timeout_s=SETUP_S)
    try:
        sandbox.unpack(pack(files), ".", timeout_s=SETUP_S)
        run_tests(sandbox, watching, group.files, timeout_s=PATIENCE * task.limits.test_s)
        found = json.loads(sandbox.read(f"{_FOLDER}/used.json", timeout_s=SETUP_S))
    except (SandboxLost, SandboxUnresponsive, OSError, ValueError):
        return None
    finally:
        sandbox.close()
    return {path: tuple(askers) for path, askers in found.items() if path in group.tree}


def _proven(taskset: TaskSet, libraries: Mapping[str, Library], settings: ProofSettings) -> frozenset[str]:
    """Return the code in doubt that proves to judge in at least one task."""

    def tried(backend: Backend, task: Task) -> Sequence[str]:
        _, doubtful = libraries[task.id].sorted_code()
        tree = graded_tree(submission_of(taskset.base_tree(task), taskset, task), taskset, task)
        soft = {path: softened(tree[path].data) for path in sorted(doubtful - _changed(task)) if path in tree}
        soft = {path: data for path, data in soft.items() if data != tree[path].data}
        if not soft or not _absolves(taskset, task, tree, soft, backend):
            return ()
        if len(soft) == 1:
            return tuple(soft)
        return [path for path in soft if _absolves(taskset, task, tree, {path: soft[path]}, backend)]

    tasks = [task for task in taskset.tasks if task.id in libraries]
    workers = settings.workers or fitting_workers(grading_specs(taskset, taskset.tasks[0])[0])
    with closing(in_order(tried, tasks, backend=settings.backend, workers=workers)) as found:
        return frozenset(path for paths in found for path in paths)


def _absolves(taskset: TaskSet, task: Task, tree: Tree, soft: Mapping[str, bytes], backend: Backend) -> bool:
    """Whether a failing test passes on the broken tree once these files have no assertions."""
    changed = {path: TreeFile(data, tree[path].executable) for path, data in soft.items()}
    spec, tests = grading_specs(taskset, task)[0], taskset.runtime(task).tests
    timeout_s = task.limits.test_s
    report = run_clean({**tree, **changed}, spec, tests, task.test_files, backend, timeout_s=timeout_s)
    return report is not None and not {*report.ids("passed")}.isdisjoint(task.fail_to_pass)


def _environments(taskset: TaskSet, backend: Backend):
    """Return the set's environments with the modules that their images have installed."""
    program = resources.files("envs.register.runtime").joinpath("naming.py").read_text()
    found = dict(taskset.manifest.environments)
    for task in {task.environment: task for task in taskset.tasks}.values():
        sandbox = backend.open(grading_specs(taskset, task)[0], timeout_s=SETUP_S)
        try:
            result = sandbox.exec(["python3", "-c", program], timeout_s=SETUP_S, output_limit=1 << 20)
            names = json.loads(result.stdout) if result.exit_code == 0 else ()
        except (OSError, ValueError):
            names = ()
        finally:
            sandbox.close()
        found[task.environment] = replace(found[task.environment], modules=tuple(names))
    return found

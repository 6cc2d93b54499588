"""An agent's knowledge of a task: the instruction and the repository at reset, never the reference."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from sandboxes.syntax import syntax_tree

from ..protection import is_protected, is_test, is_test_module
from ..tasksets.taskset import TaskSet
from ..tasksets.trees import Tree, TreeFile
from ..types import Task

Changes = Mapping[str, str | bytes | None]
"""Files to write by path in the tree; None removes one."""


class NotApplicable(Exception):
    """A cheat or honest solution does not apply to a task. Takes the reason."""


@dataclass(frozen=True)
class Scene:
    """The knowledge that an agent can have of a task."""

    task: str
    """The task's id, which the result of `reset` contains."""
    instruction: str
    base: Tree = field(repr=False)
    workdir: str
    import_paths: tuple[str, ...]
    runner: str
    """The test runner, `pytest`, `unittest` or `junit`, which the tree reveals."""

    @cached_property
    def visible_tests(self) -> tuple[str, ...]:
        """The paths of the base tree's test modules, sorted."""
        return tuple(sorted(path for path in self.base if is_test_module(path)))

    @property
    def some_test(self) -> str:
        """The path of one visible test file. Raises NotApplicable without any."""
        for path in self.visible_tests or sorted(path for path in self.base if is_test(path)):
            return path
        raise NotApplicable("no test is visible")

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """The files of the project's top-level modules: `a.py`, or `a/__init__.py` of a package."""
        found = []
        for path in sorted(self.base):
            if not path.endswith(".py") or is_protected(path):
                continue
            for folder in self.import_paths:
                inside = path if folder == "." else path.removeprefix(f"{folder}/")
                if folder != "." and inside == path:
                    continue
                if "/" not in inside or (inside.endswith("/__init__.py") and inside.count("/") == 1):
                    found.append(path)
        return tuple(found)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """The files of `packages` that the visible tests import, or all. Raises NotApplicable without any."""
        if self.runner == "junit":
            raise NotApplicable("it is written for Python")
        if not self.packages:
            raise NotApplicable("the project has no Python module at its top")
        wanted = {name for path in self.visible_tests for name in imported_names(self.base[path].data)}
        chosen = tuple(path for path in self.packages if module_name(path) in wanted)
        return chosen or self.packages

    @property
    def sources(self) -> tuple[str, ...]:
        """The paths of all unprotected source files, Python or JavaScript, sorted."""
        ends = (".py", ".js", ".ts", ".mjs", ".cjs")
        return tuple(sorted(path for path in self.base if path.endswith(ends) and not is_protected(path)))

    def text(self, path: str) -> str:
        """Return a file as text; `as_bytes` restores the bytes, also those that are not UTF-8."""
        return self.base[path].data.decode("utf-8", "surrogateescape")

    def appended(self, code: str) -> dict[str, str]:
        """Return the files of `modules` with code appended. Raises NotApplicable."""
        changed = {}
        for path in self.modules:
            changed[path] = f"{self.text(path).rstrip()}\n\n\n{code.strip()}\n"
        return changed

    def beside_imports(self, files: Changes) -> dict[str, str | bytes | None]:
        """Return copies of the files for the root and every import path."""
        folders = dict.fromkeys((".", *self.import_paths))
        return {str(PurePosixPath(folder) / path): data for folder in folders for path, data in files.items()}


def scene_of(taskset: TaskSet, task: Task) -> Scene:
    """Return the knowledge that an agent can have of a task."""
    tests = taskset.runtime(task).tests
    return Scene(
        task=task.id,
        instruction=task.instruction,
        base=taskset.base_tree(task),
        workdir=task.workdir,
        import_paths=tests.import_paths,
        runner=tests.runner,
    )


def changed_tree(base: Tree, changes: Changes) -> Tree:
    """Return a copy of a tree with changes applied."""
    tree = dict(base)
    for path, data in changes.items():
        if data is None:
            tree.pop(path, None)
        else:
            tree[path] = TreeFile(as_bytes(data), executable=path in base and base[path].executable)
    return tree


def as_bytes(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape")


def module_name(path: str) -> str:
    """Return the name by which a top-level module file is imported."""
    place = PurePosixPath(path)
    return place.parent.name if place.name == "__init__.py" else place.stem


def imported_names(source: bytes) -> Iterator[str]:
    """Yield the top-level names of a module's absolute imports."""
    try:
        tree = syntax_tree(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]

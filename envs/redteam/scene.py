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
    """A cheat has nothing to get hold of in this task. Takes the reason."""


@dataclass(frozen=True)
class Scene:
    """The knowledge that an agent can have of a task."""

    task: str
    """The id, which is in what `reset` returns."""
    instruction: str
    base: Tree = field(repr=False)
    workdir: str
    import_paths: tuple[str, ...]
    runner: str
    """The kind of tests, `pytest`, `unittest` or `junit`: the tree shows it."""

    @cached_property
    def visible_tests(self) -> tuple[str, ...]:
        """Test files that can be run by name."""
        return tuple(sorted(path for path in self.base if is_test_module(path)))

    @property
    def some_test(self) -> str:
        """A visible test file. Raises NotApplicable."""
        for path in self.visible_tests or sorted(path for path in self.base if is_test(path)):
            return path
        raise NotApplicable("no test is visible")

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """Top-level modules of the project: the files that importing them runs first."""
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
        """Return the modules of `packages` that the visible tests import, else all. Raises NotApplicable."""
        if self.runner == "junit":
            raise NotApplicable("it is written for Python")
        if not self.packages:
            raise NotApplicable("the project has no Python module at its top")
        wanted = {name for path in self.visible_tests for name in _imported(self.base[path].data)}
        chosen = tuple(path for path in self.packages if module_name(path) in wanted)
        return chosen or self.packages

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source file that is not a test and may be changed."""
        ends = (".py", ".js", ".ts", ".mjs", ".cjs")
        return tuple(sorted(path for path in self.base if path.endswith(ends) and not is_protected(path)))

    def text(self, path: str) -> str:
        """The text of a file, whatever its bytes: `as_bytes` gives them back."""
        return self.base[path].data.decode("utf-8", "surrogateescape")

    def appended(self, code: str) -> dict[str, str]:
        """The modules that tests import first, with code at their ends. Raises NotApplicable."""
        changed = {}
        for path in self.modules:
            changed[path] = f"{self.text(path).rstrip()}\n\n\n{code.strip()}\n"
        return changed

    def beside_imports(self, files: Changes) -> dict[str, str | bytes | None]:
        """Files at the root and wherever code is imported from."""
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
    """Lay changes over a tree."""
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


def _imported(source: bytes) -> Iterator[str]:
    """Top-level names that a module imports."""
    try:
        tree = syntax_tree(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]

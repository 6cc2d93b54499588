"""What decides which changed files of a task are graded: a task's own rules, beyond those by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from .. import protection
from ..tasksets.taskset import Runtime, TaskSet
from ..tasksets.trees import patched_paths
from ..types import Task


@dataclass(frozen=True)
class Rules:
    """The rules of one task."""

    allowed: frozenset[str] = frozenset()
    """Paths that the reference changes: a submission may change them even if they are protected."""
    judges: frozenset[str] = frozenset()
    """Files that only the tests use, and that are put back as the tests are."""
    roots: frozenset[str] = frozenset()
    """Folders from which tests import."""
    taken: frozenset[str] = frozenset()
    """Dotted names, in lower case, of modules that a new file must not stand in for."""
    apart: frozenset[str] = frozenset()
    """Packages that would be imported in place of a module of the same folder that judges."""

    def shadows(self, path: str) -> bool:
        """Whether a new file would be imported in place of a module that it must not replace."""
        return path in self.apart or protection.stands_in(path, self.roots, self.taken)


@lru_cache(maxsize=4096)
def rules_of(taskset: TaskSet, task: Task) -> Rules:
    """Return the rules of a task."""
    base, runtime = taskset.base_tree(task), taskset.runtime(task)
    roots = protection.import_roots(base, runtime.tests.import_paths)
    own = {name.lower() for path in base for name in protection.module_names(path, roots)}
    return Rules(
        allowed=reference_paths(task.reference_patch),
        judges=frozenset(task.judges),
        roots=roots,
        taken=protection.standard_modules() | (_installed(runtime) - own) | _names(task.judges, roots),
        apart=frozenset(str(PurePosixPath(path).with_suffix("") / "__init__.py") for path in task.judges),
    )


@lru_cache(maxsize=4096)
def reference_paths(reference_patch: str) -> frozenset[str]:
    """Return the paths of a reference patch: submissions may change them even if they are protected."""
    return patched_paths(reference_patch) if reference_patch else frozenset()


def _installed(runtime: Runtime) -> frozenset[str]:
    """Return the import names of installed distributions, also by the names of what was required."""
    required = {line.partition("==")[0].replace("-", "_") for line in runtime.image.requirements}
    return frozenset(name.lower() for name in (*required, *runtime.modules))


def _names(paths: Iterable[str], roots: Collection[str]) -> frozenset[str]:
    return frozenset(name.lower() for path in paths for name in protection.module_names(path, roots))

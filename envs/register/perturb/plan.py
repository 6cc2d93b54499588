"""A consistent renaming for one task, computed once and applied to every tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import Tree, TreeFile, is_text
from envs.types import Task

from .messages import private_messages, rewrite_messages
from .moves import movable, moved_path, rewrite_imports, rewrite_paths
from .names import Namer, private_names, rename_names, rename_words
from .source import read
from .survey import WORD, Survey, is_prose, product_files, survey
from .variables import rename_variables


@dataclass(frozen=True)
class Means:
    """The kinds of change that a perturbation may make."""

    variables: bool = True
    parameters: bool = True
    names: bool = True
    messages: bool = True
    moves: bool = True


ALL = Means()
CAREFUL = Means(parameters=False, messages=False, moves=False)
LOCAL = Means(parameters=False, names=False, messages=False, moves=False)


@dataclass(frozen=True)
class Strength:
    """How much of a base tree a perturbation changed."""

    variables: int = 0
    """Variables and parameters, each counted once per function."""
    names: int = 0
    """Private functions, classes, methods and variables of modules."""
    files_moved: int = 0
    messages: int = 0
    lines_changed: int = 0
    lines: int = 0
    """Number of lines in the Python files that may be changed."""

    @property
    def identifiers(self) -> int:
        return self.variables + self.names


@dataclass
class Perturbation:
    """Rewrites the trees and texts of one task; deterministic per task, seed and means."""

    seed: int
    means: Means
    found: Survey
    roots: tuple[str, ...]
    namer: Namer
    names: dict[str, str]
    moves: dict[str, str]
    messages: dict[str, str]
    fixed: set[str]
    """Words that are never renamed as variables: words of the instruction and of test names."""
    _done: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)

    def tree(self, tree: Tree) -> Tree:
        """Rewrite a tree. Files that do not move keep their path and mode."""
        product = set(product_files(tree))
        changed: Tree = {}
        for path, entry in tree.items():
            data, _ = self._file(path, entry, product=path in product)
            changed[self.moves.get(path, path)] = entry if data == entry.data else replace(entry, data=data)
        return changed

    def text(self, text: str) -> str:
        """Rewrite prose about the code: private names, and paths of moved modules."""
        return rename_words(rewrite_paths(text, self.moves), self.names)

    def strength(self, base: Tree) -> Strength:
        """Measure how much of a tree the perturbation changes."""
        after, product = self.tree(base), product_files(base)
        lines = [entry.data.splitlines() for entry in map(base.__getitem__, product)]
        others = [after[self.moves.get(path, path)].data.splitlines() for path in product]
        texts = b"\n".join(base[path].data for path in product)
        words = set(WORD.findall(texts.decode("utf-8", "replace")))
        return Strength(
            variables=sum(self._file(path, base[path], product=True)[1] for path in product),
            names=len(words & set(self.names)),
            files_moved=sum(path in self.moves for path in base),
            messages=sum(text.encode() in texts for text in self.messages),
            lines_changed=sum(
                one != other
                for before, now in zip(lines, others, strict=True)
                for one, other in zip(before, now, strict=True)
            ),
            lines=sum(map(len, lines)),
        )

    def _file(self, path: str, entry: TreeFile, *, product: bool) -> tuple[bytes, int]:
        """Rewrite one file; return the new content and the number of renamed variables."""
        if is_prose(path, entry) and is_text(entry.data):
            return rewrite_paths(entry.data.decode(), self.moves).encode(), 0
        if not path.endswith((".py", ".pyi")):
            return entry.data, 0
        key = path, entry.sha256
        if key not in self._done:
            self._done[key] = self._rewritten(path, entry.data, product=product)
        return self._done[key]

    def _rewritten(self, path: str, data: bytes, *, product: bool) -> tuple[bytes, int]:
        count = 0
        if self.means.variables and product and (source := read(data)):
            data, count = rename_variables(
                source,
                new_name=self.namer.new,
                fixed=self.fixed,
                far=self.found.far,
                with_parameters=self.means.parameters,
            )
        if product and self.messages and (source := read(data)):
            data = rewrite_messages(source, self.messages)
        if self.names and (source := read(data)):
            data = rename_names(source, self.names)
        if self.moves and (source := read(data)):
            data = rewrite_imports(path, source, self.moves, self.roots)
        return data, count


def perturbation(taskset: TaskSet, task: Task, *, seed: int, means: Means = ALL) -> Perturbation:
    """Compute the renaming for a task. Raises TaskSetError, PatchError."""
    trees = trees_of(taskset, task)
    found = survey(trees)
    instructed = set(WORD.findall(task.instruction))
    tests = {word for test in (*task.fail_to_pass, *task.pass_to_pass) for word in WORD.findall(test)}
    roots = tuple(taskset.runtime(task).tests.import_paths) or (".",)
    names = sorted(private_names(found, known=tests)) if means.names else []
    moves = sorted(movable(found, trees[:2], roots)) if means.moves else []
    namer = Namer(seed, found.taken)
    return Perturbation(
        seed=seed,
        means=means,
        found=found,
        roots=roots,
        namer=namer,
        names={name: namer.new(name) for name in names},
        moves={path: moved_path(path, namer.new(PurePosixPath(path).stem)) for path in moves},
        messages=private_messages(found, seed=seed, known=task.instruction) if means.messages else {},
        fixed=instructed | tests,
    )


def trees_of(taskset: TaskSet, task: Task) -> Sequence[Tree]:
    """Return a task's base tree, solved tree and trusted test files."""
    base = taskset.base_tree(task)
    return base, taskset.solved_tree(task), taskset.trusted_files(task)

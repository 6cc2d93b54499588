"""Task sets: a folder that holds everything a task needs, with digests that prove it unchanged.

    DIR/taskset.toml    source and environments (image recipe, test command); made to be edited
        tasks.jsonl     one `Task` a line
        prs.jsonl       past changes for the `prs` tool, one `PullRequest` a line, in merge order
        trees.zip       the trees that tasks start from and are tested with (`envs.tasksets.store`)
        *.jsonl         records of the registration: candidates, quarantine, line history
        lock.json       SHA-256 of the files above, and the evidence of validation

Data enters here, so it is validated here; inside, everything is a frozen dataclass.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import TypeAdapter, ValidationError

from sandboxes import ImageRecipe

from .. import protection
from ..testing.run import RunnerSetup
from ..types import Task
from .store import StoreDamaged, TreeStore, pack_trees
from .trees import Tree, TreeFile, apply_patch

T = TypeVar("T")

SCHEMA = 2
_FILES = ("taskset.toml", "tasks.jsonl", "prs.jsonl", "trees.zip")


class TaskSetError(Exception):
    """A task set that cannot be read or written. Takes one sentence."""


@dataclass(frozen=True)
class Comment:
    """A comment in the discussion of a pull request or its issue."""

    author: str
    at: str
    """ISO 8601, UTC."""
    text: str


@dataclass(frozen=True)
class PullRequest:
    """A past change, as the `prs` tool shows it."""

    key: str
    """The pull request's number, `123`; `c17` for the 17th change without a pull request."""
    title: str
    merged_at: str
    """ISO 8601, UTC."""
    body: str = ""
    author: str = ""
    labels: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    discussion: tuple[Comment, ...] = ()
    diff: str = ""


@dataclass(frozen=True)
class Runtime:
    """An image and a test command, shared by many tasks."""

    image: ImageRecipe
    tests: RunnerSetup
    modules: tuple[str, ...] = ()
    """Names, such as `hamcrest` or `google.protobuf`, under which the image's distributions are imported, by
    their own records; empty where nobody asked."""


@dataclass(frozen=True)
class Manifest:
    """The content of `taskset.toml`."""

    name: str
    kind: str
    """How the tasks were made: `inject`, `git`, or the name of an imported format."""
    source: str
    """The argument of `register`, with the version or commit it resolved to."""
    environments: dict[str, Runtime]
    seed: int = 0
    schema: int = SCHEMA


@dataclass(frozen=True)
class TaskSet:
    """A loaded task set. Trees are computed on demand and cached."""

    manifest: Manifest
    tasks: tuple[Task, ...]
    prs: tuple[PullRequest, ...]
    trees: TreeStore
    digest: str
    """SHA-256 over the set's files; recorded with every run."""
    folder: Path

    @property
    def name(self) -> str:
        return self.manifest.name

    @cached_property
    def by_id(self) -> Mapping[str, Task]:
        return {task.id: task for task in self.tasks}

    def task(self, task_id: str) -> Task:
        """Return a task by id. Raises TaskSetError."""
        if task_id not in self.by_id:
            raise TaskSetError(f"task set {self.name} has no task {task_id!r}")
        return self.by_id[task_id]

    def split(self, name: str) -> tuple[Task, ...]:
        """Return the tasks of a split, `train` or `heldout`."""
        return tuple(task for task in self.tasks if task.split == name)

    def runtime(self, task: Task) -> Runtime:
        """Return a task's runtime."""
        return self.manifest.environments[task.environment]

    def source_tree(self, task: Task) -> Tree:
        """Return the stored tree that the task's base patch applies to. Raises TaskSetError."""
        return self._stored(task.source_digest)

    def base_tree(self, task: Task) -> Tree:
        """Return the tree the policy starts from. Raises TaskSetError."""
        return _applied(self, task.source_digest, task.base_patch)

    def solved_tree(self, task: Task) -> Tree:
        """Return the base tree with the reference patch: never for a sandbox the policy uses."""
        return _patched(self.base_tree(task), task.reference_patch)

    def trusted_files(self, task: Task) -> Tree:
        """Return the tests, the test configuration and what only tests use, which grading lays over a
        submission."""
        tree = self._stored(task.tests_digest)
        trusted = {name: entry for name, entry in tree.items() if protection.is_protected(name)}
        base = self.base_tree(task) if task.judges else {}
        held = {name: tree.get(name) or base.get(name) for name in task.judges}
        return trusted | {name: entry for name, entry in held.items() if entry is not None}

    def records(self, name: str) -> list[dict[str, Any]]:
        """Read `<name>.jsonl`, a record of the registration; empty when the file does not exist."""
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.is_file() else []

    def flaky(self, task: Task) -> tuple[str, ...]:
        """Return the ids whose outcome changed between runs at validation."""
        proof = self._evidence.get(task.id, {})
        return tuple(proof.get("flaky", ())) if isinstance(proof, dict) else ()

    @cached_property
    def _evidence(self) -> Mapping[str, Any]:
        try:
            return dict(json.loads((self.folder / "lock.json").read_bytes())["evidence"]["tasks"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _stored(self, wanted: str) -> Tree:
        try:
            return self.trees.tree(wanted)
        except StoreDamaged as error:
            raise TaskSetError(str(error)) from error

    def __hash__(self) -> int:
        return hash(self.digest)


@lru_cache(maxsize=512)
def _applied(taskset: TaskSet, source_digest: str, patch: str) -> Tree:
    return _patched(taskset._stored(source_digest), patch)


def _patched(tree: Tree, patch: str) -> Tree:
    """Apply a stored patch; earlier versions stored some with links, which they passed over."""
    return apply_patch(tree, patch, leave_out_links=True)


def load_taskset(folder: Path | str) -> TaskSet:
    """Read and validate a task set. Raises TaskSetError, in one line that names file and line."""
    folder = Path(folder)
    if not (folder / "taskset.toml").is_file():
        raise TaskSetError(f"{folder} is not a task set: it has no taskset.toml")
    try:
        settings = tomllib.loads((folder / "taskset.toml").read_text("utf-8"))
        if settings.get("schema") != SCHEMA:
            raise TaskSetError(f"{folder} was written by another version of daythree; register it again")
        contents = {name: (folder / name).read_bytes() for name in _FILES}
    except (OSError, ValueError) as error:
        raise TaskSetError(f"{folder} cannot be read: {error}") from error
    taskset = TaskSet(
        manifest=_validated(Manifest, settings, "taskset.toml"),
        tasks=tuple(_rows(Task, contents["tasks.jsonl"], f"{folder}/tasks.jsonl")),
        prs=tuple(_rows(PullRequest, contents["prs.jsonl"], f"{folder}/prs.jsonl")),
        trees=TreeStore(folder / "trees.zip"),
        digest=_digest(contents),
        folder=folder,
    )
    for task in taskset.tasks:
        if task.environment not in taskset.manifest.environments:
            raise TaskSetError(f"{folder}: task {task.id} names no environment of taskset.toml")
    return taskset


def folder_digest(folder: Path) -> str:
    """Return the digest of the set in a folder; empty where no whole set can be read."""
    try:
        return _digest({name: (folder / name).read_bytes() for name in _FILES})
    except OSError:
        return ""


def write_taskset(
    folder: Path,
    manifest: Manifest,
    tasks: Sequence[Task],
    trees: Iterable[Mapping[str, TreeFile]],
    *,
    prs: Sequence[PullRequest] = (),
    records: Mapping[str, Sequence[Any]] | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> TaskSet:
    """Write a task set atomically: into a temporary folder, which is then renamed.

    `trees` are those that tasks name by digest; each of `records` becomes a `<name>.jsonl` of dataclasses.
    Raises TaskSetError when the folder exists, or when it cannot be written.
    """
    if folder.exists():
        raise TaskSetError(f"{folder} exists already; choose another --out or remove it")
    # As they will be read: 5 and 5.0 must not make two digests of one task.
    tasks = [_validated(Task, asdict(task), f"task {task.id}") for task in tasks]
    contents = {
        "taskset.toml": tomli_w.dumps(_plain(manifest)).encode(),
        "tasks.jsonl": _lines(tasks),
        "prs.jsonl": _lines(prs),
        "trees.zip": pack_trees(trees),
        **{f"{name}.jsonl": _lines(rows) for name, rows in (records or {}).items()},
    }
    lock = {
        "files": {name: _sha256(data) for name, data in contents.items()},
        "tasks": {task.id: task.hash for task in tasks},
        "evidence": dict(evidence or {}),
    }
    contents["lock.json"] = (json.dumps(lock, indent=1, ensure_ascii=False) + "\n").encode()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, data in contents.items():
                (beside / name).write_bytes(data)
            beside.chmod(0o755)
            os.rename(beside, folder)  # noqa: PTH104 (refuses a folder that appeared meanwhile)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise TaskSetError(f"{folder} cannot be written: {error.strerror or error}") from error
    return load_taskset(folder)


def verify_lock(taskset: TaskSet) -> list[str]:
    """Return the files and tasks that differ from `lock.json`; empty when none does."""
    try:
        lock = json.loads((taskset.folder / "lock.json").read_bytes())
        files, tasks = dict(lock["files"]), dict(lock["tasks"])
    except (OSError, ValueError, KeyError, TypeError):
        return ["lock.json is missing or cannot be read"]
    changed = [
        name for name, digest in files.items() if _sha256((taskset.folder / name).read_bytes()) != digest
    ]
    changed += [task.id for task in taskset.tasks if tasks.get(task.id) != task.hash]
    return [f"{name} changed since it was registered" for name in changed]


def _rows(kind: type[T], data: bytes, where: str) -> list[T]:
    rows: list[T] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                rows.append(_validated(kind, json.loads(line), f"{where}, line {number}"))
            except ValueError as error:
                raise TaskSetError(f"{where}, line {number}: {error}") from error
    return rows


@lru_cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    """Cached: making an adapter takes milliseconds, and a task set has thousands of rows."""
    return TypeAdapter(kind)


def _validated(kind: type[T], fields: Any, where: str) -> T:
    try:
        return _adapter(kind).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise TaskSetError(f"{where}: {place}: {first['msg']}") from error


def _plain(manifest: Manifest) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(manifest)))


def _lines(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n" for row in rows)


def _digest(contents: Mapping[str, bytes]) -> str:
    return hashlib.sha256("".join(map(_sha256, contents.values())).encode()).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

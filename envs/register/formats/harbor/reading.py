"""Read Harbor task directories.

Layout: https://github.com/harbor-framework/harbor. `instruction.md`, `task.toml`, `environment/Dockerfile`,
`solution/solve.sh`, `tests/test.sh`. In Harbor a script grades, with access to the whole container; here
tests grade a tree of files, by test id. So a directory can become a task only if it lists test ids:

- it was written by `writing`, which keeps the whole task under `[metadata.daythree]`, or
- it was made from a SWE-bench, SWE-Gym or SWE-smith row, which such directories keep in `tests/config.json`.

Every other directory is refused, with the unsupported part as the reason.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envs.protection import is_protected
from envs.register.errors import RegisterError
from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import PatchError, Tree, apply_patch, digest, read_tree
from envs.types import Task

from ..entry import Entry, Reading, RowError, read
from ..swebench import read_swebench
from ..swesmith import read_swesmith

OURS = "daythree"
"""This project's table under `[metadata]` in `task.toml`."""
BASE, REFERENCE, TRUSTED = "environment/base", "solution/reference.patch", "tests/trusted"


@dataclass(frozen=True)
class DaythreeMetadata:
    """The metadata table in directories that `writing` wrote."""

    environment: Runtime
    task: dict[str, Any]
    """The task's fields; instruction and reference patch are files."""


def read_harbor(folder: Path) -> Iterator[Reading]:
    """Read a task directory, or every task directory in a folder. Raises RegisterError without any."""
    if (folder / "task.toml").is_file():
        found = [folder]
    elif folder.is_dir():
        found = sorted(entry for entry in folder.iterdir() if (entry / "task.toml").is_file())
    else:
        raise RegisterError(f"there is no folder {folder}")
    if not found:
        raise RegisterError(f"{folder} holds no Harbor task: no task.toml in it or one folder below")
    for task_folder in found:
        place = task_folder.name if task_folder is not folder else task_folder.resolve().name
        try:
            entry = read_harbor_task(task_folder)
            yield Reading(place, entry.id, entry)
        except RowError as error:
            yield Reading(place, place, error=str(error))
        except (OSError, UnicodeDecodeError) as error:
            yield Reading(place, place, error=f"its files: cannot be read ({error})")


def read_harbor_task(folder: Path) -> Entry:
    """Read one directory. Raises RowError, which names the file and the field."""
    try:
        settings = tomllib.loads((folder / "task.toml").read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RowError(f"task.toml: is not TOML ({error})") from error
    if settings.get("steps"):
        raise RowError("task.toml: steps: tasks of several steps have no single verdict here")
    metadata = settings.get("metadata")
    if isinstance(metadata, Mapping) and OURS in metadata:
        return _ours(folder, metadata[OURS])
    if (folder / "tests" / "config.json").is_file():
        return _of_row(folder, settings)
    raise RowError(_refusal(folder, settings))


def _ours(folder: Path, kept: Any) -> Entry:
    """Read a directory that `writing` wrote: the original task, with trees checked against their digests."""
    found = read(DaythreeMetadata, kept)
    reference = (folder / REFERENCE).read_bytes().decode("utf-8", "surrogateescape")
    instruction = (folder / "instruction.md").read_bytes().decode().removesuffix("\n")
    task = read(Task, {**found.task, "instruction": instruction, "reference_patch": reference})
    base, trusted = read_tree(folder / BASE), read_tree(folder / TRUSTED)
    if digest(base) != task.base_digest:
        raise RowError(f"{BASE}: is not the tree that the task was proven with")
    return Entry(
        id=task.id,
        origin=base,
        instruction=task.instruction,
        reference_patch=reference,
        test_patch="",
        solved=_solved(task, base) | trusted,
        fail_to_pass=task.fail_to_pass,
        pass_to_pass=task.pass_to_pass,
        workdir=task.workdir,
        environment=(task.environment, found.environment),
        task=task,
    )


def _solved(task: Task, base: Tree) -> Tree:
    """Return the code files of the base tree with the reference patch applied."""
    try:
        solved = apply_patch(base, task.reference_patch)
    except PatchError as error:
        raise RowError(f"{REFERENCE}: does not apply to {BASE} ({error})") from error
    return {path: file for path, file in solved.items() if not is_protected(path)}


def _of_row(folder: Path, settings: Mapping[str, Any]) -> Entry:
    """Read a directory that contains its original row; instruction and image are the directory's."""
    try:
        row = json.loads((folder / "tests" / "config.json").read_bytes())
    except ValueError as error:
        raise RowError(f"tests/config.json: is not JSON ({error})") from error
    is_smith = isinstance(row, dict) and "swesmith" in f"{row.get('repo', '')} {row.get('image_name', '')}"
    try:
        entry = read_swesmith(row) if is_smith else read_swebench(row)
    except RowError as error:
        raise RowError(f"tests/config.json: {error}") from error
    instruction = (folder / "instruction.md").read_text("utf-8").strip()
    if not instruction:
        raise RowError("instruction.md: is empty")
    return replace(entry, instruction=instruction, image=_image(folder, settings) or entry.image)


def _image(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return a directory's base image; additions in the Dockerfile serve the harness, not the tests."""
    environment = settings.get("environment")
    named = environment.get("docker_image") if isinstance(environment, Mapping) else None
    file = folder / "environment" / "Dockerfile"
    if named or not file.is_file():
        return str(named or "")
    words = [line.split() for line in file.read_text("utf-8").splitlines()]
    names = [line[-3] if "as" in map(str.lower, line) else line[-1] for line in words if line[:1] == ["FROM"]]
    return names[-1] if names else ""


def _refusal(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return the first unsupported part of a directory, or an empty string."""
    environment = settings.get("environment")
    fields = environment if isinstance(environment, Mapping) else {}
    if str(fields.get("os", "linux")).lower() != "linux":
        return f"task.toml: environment.os: {fields['os']!r}; sandboxes run Linux"
    for name in ("gpus", "tpu", "mcp_servers", "skills_dir", "healthcheck"):
        if fields.get(name):
            return f"task.toml: environment.{name}: sandboxes have nothing of the kind"
    if any((folder / "environment").glob("docker-compose.y*ml")):
        return "environment/docker-compose.yaml: a task is one container here"
    return (
        "tests/test.sh: a script decides, and it does not say which tests do; "
        "directories with a SWE-bench or SWE-smith row in tests/config.json can be read"
    )

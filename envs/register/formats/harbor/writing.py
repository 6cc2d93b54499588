"""Write Harbor task directories: one folder per task, with all files that the container is built from.

    instruction.md             the task's instruction
    task.toml                  limits; fields without a place in the layout are under [metadata.daythree]
    environment/Dockerfile     the packages of the image, and base/ as a repository of one commit; provided/
                               is the project's own metadata, for projects that query their version
    solution/solve.sh          applies reference.patch
    tests/test.sh              runs verifier/, which lays trusted/ over the work and compares test ids

Harbor builds the container from `environment` alone, and copies `solution` or `tests` into the container when
the solution or the tests run. Past pull requests are not written: Harbor has no tool that shows them.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from dataclasses import asdict
from importlib import resources
from pathlib import Path, PurePosixPath

import tomli_w

from envs.tasksets.taskset import Runtime, TaskSet
from envs.tasksets.trees import patched_paths, write_tree
from envs.types import Task
from sandboxes.images.build import BASE_PACKAGES, ENVIRONMENT_FOLDER, lay_metadata
from sandboxes.images.recipe import ImageRecipe
from sandboxes.syntax import syntax_tree

from .reading import BASE, OURS, REFERENCE, TRUSTED

SCHEMA = "1.4"
_SOLVE = """#!/bin/bash
set -euo pipefail
cd {workdir}
git apply --whitespace=nowarn /solution/reference.patch
"""
_TEST = """#!/bin/bash
mkdir -p /logs/verifier
echo 0 > /logs/verifier/reward.txt
python3 /tests/verifier/verify.py /tests {workdir} /logs/verifier/reward.txt
"""
_DOCKERFILE = """ARG BASE={base}
FROM ${{BASE}}
{packages}COPY requirements.txt /tmp/requirements.txt
RUN python3 -m pip install --no-deps --no-cache-dir --target {folder} -r /tmp/requirements.txt
COPY provided/ {folder}/
ENV PYTHONPATH={folder} PATH={folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR {workdir}
COPY base/ {workdir}/
RUN git init -q . && git add --all --force && \\
    git -c user.name=Base -c user.email=base@localhost commit -q -m Base
"""
_PACKAGES = """RUN apt-get update && apt-get install -y --no-install-recommends {names} && \\
    rm -rf /var/lib/apt/lists/*
"""


def directory_name(task: Task) -> str:
    """Return a task's id with the characters that Harbor allows in names."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", task.id).strip("-.") or "task"


def write_harbor_task(taskset: TaskSet, task: Task, folder: Path) -> None:
    """Write one task into a new folder. Raises PatchError, TaskSetError, OSError."""
    environment = taskset.runtime(task)
    base, trusted = taskset.base_tree(task), taskset.trusted_files(task)
    write_tree(base, folder / BASE)
    write_tree(trusted, folder / TRUSTED)
    (folder / "environment" / "provided").mkdir(parents=True)
    lay_metadata(environment.image, folder / "environment" / "provided")
    texts = {
        "instruction.md": task.instruction + "\n",
        "task.toml": tomli_w.dumps(_settings(taskset, task, environment)),
        "environment/Dockerfile": dockerfile(environment.image, task.workdir),
        "environment/requirements.txt": "".join(f"{pin}\n" for pin in environment.image.requirements),
        "solution/solve.sh": _SOLVE.format(workdir=task.workdir),
        REFERENCE: task.reference_patch,
        "tests/test.sh": _TEST.format(workdir=task.workdir),
        "tests/expected.json": json.dumps(_expected(task, environment), indent=1, ensure_ascii=False) + "\n",
        **{f"tests/verifier/{name}": text for name, text in _verifier().items()},
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        path.chmod(0o755 if name.endswith(".sh") else 0o644)


def dockerfile(recipe: ImageRecipe, workdir: str) -> str:
    """Return a Dockerfile equivalent to the recipe; the build argument BASE replaces the base image."""
    names = " ".join([*BASE_PACKAGES, "python3-pip", *recipe.packages])
    packages = _PACKAGES.format(names=names) if recipe.bootstrapped or recipe.packages else ""
    base = f"debian:{recipe.base}-slim" if recipe.bootstrapped else recipe.base
    return _DOCKERFILE.format(base=base, packages=packages, folder=ENVIRONMENT_FOLDER, workdir=workdir)


def _settings(taskset: TaskSet, task: Task, environment: Runtime) -> dict[str, object]:
    fields = json.loads(json.dumps(asdict(task)))
    del fields["instruction"], fields["reference_patch"]
    kept = {
        "kind": taskset.manifest.kind,
        "source": taskset.manifest.source,
        "environment": json.loads(json.dumps(asdict(environment))),
        "task": fields,
    }
    return {
        "schema_version": SCHEMA,
        "task": {"name": f"{OURS}/{directory_name(task)}", "description": f"A task of {taskset.name}."},
        "metadata": {"category": "debugging", OURS: kept},
        "agent": {"timeout_sec": task.limits.episode_s},
        "verifier": {"timeout_sec": task.limits.test_s + 60.0},
        "environment": {
            "build_timeout_sec": 1800.0,
            "cpus": 1,
            "memory_mb": 2048,
            "storage_mb": 10240,
            "workdir": task.workdir,
            "network_mode": "no-network",
        },
    }


def _expected(task: Task, environment: Runtime) -> dict[str, object]:
    return {
        "setup": asdict(environment.tests),
        "targets": task.test_files,
        "fail_to_pass": task.fail_to_pass,
        "pass_to_pass": task.pass_to_pass,
        "allowed": sorted(patched_paths(task.reference_patch)) if task.reference_patch else [],
        "timeout_s": task.limits.test_s,
    }


def _verifier() -> dict[str, str]:
    """Return the files of the verifier: its program, and only the modules that the program imports."""
    here = __package__ or ""
    program = resources.files(here).joinpath("verifier.py").read_text("utf-8")
    found, waiting = {"verify.py": program}, _imported(program, here)
    while waiting:
        name = waiting.pop()
        package, _, module = name.rpartition(".")
        path = f"{name.replace('.', '/')}.py"
        if path in found:
            continue
        found[path] = resources.files(package).joinpath(f"{module}.py").read_text("utf-8")
        waiting += _imported(found[path], package)
    for file in resources.files(
        "envs.testing.programs"
    ).iterdir():  # they are sent into the test process as text
        if file.name.endswith(".py"):
            found[f"envs/testing/programs/{file.name}"] = file.read_text("utf-8")
    folders = {parent for path in found for parent in PurePosixPath(path).parents if parent.name}
    return {**{f"{folder}/__init__.py": "" for folder in folders}, **found}


def _imported(source: str, package: str) -> list[str]:
    """Return this project's modules that a module of `package` imports from (`from module import name`)."""
    found = []
    for node in ast.walk(syntax_tree(source)):
        if isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            if name.partition(".")[0] in ("envs", "sandboxes"):
                found.append(name)
    return found

"""The `daythree` command: parse, call, print. Everything else lives in the four packages.

Libraries are imported where they are used, so that `daythree --help` answers at once. Exit codes: 0 it
worked, 1 it failed, 2 the input was bad, 130 and 143 it was interrupted.
"""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from envs.tasksets import TaskSet
    from sandboxes import Backend
    from sandboxes.progress import Progress

PACKAGES = ("sandboxes", "envs", "agents", "trainer")
BAD_INPUT = {"ConfigError", "RunError", "TaskSetError", "RegisterError", "EvaluationError", "StoreError"}
"""Errors of ours that blame what was asked for; the others (a sandbox, a policy) blame what happened."""
CLICK_ERROR = typer.BadParameter.__mro__[2]
"""click's ClickException, wherever this version of typer keeps its click."""

app = typer.Typer(
    help="Turn repositories into tasks, evaluate agents on them, train agents on the outcome of the tests.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
register_app = typer.Typer(help="Turn a repository into validated tasks.", no_args_is_help=True)
bench_app = typer.Typer(help="Measure one part of the system on this machine.", no_args_is_help=True)
app.add_typer(register_app, name="register", rich_help_panel=None)
app.add_typer(bench_app, name="bench", rich_help_panel=None)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Sandboxes = Annotated[str, typer.Option("--sandbox", help="auto, docker or bubblewrap.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]


# Commands


@app.command(epilog="Example: daythree doctor --json")
def doctor(
    as_json: Json = False,
    deep: Annotated[bool, typer.Option("--deep", help="Open a real sandbox on each backend too.")] = False,
) -> None:
    """Say what works here: isolation, libraries, GPU, memory, disk, name clashes."""
    clashes = name_clashes()
    if any(clash.startswith("trainer ") for clash in clashes):
        _refuse(clashes)
    from trainer.doctor import examine, healthy

    checks = examine(clashes, deep=deep)
    ok = healthy(checks)
    if as_json:
        _print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        _print_checks([asdict(check) for check in checks])
        print("\nReady." if ok else "\nNot ready: no isolation works, or a name is taken; see above.")
    raise typer.Exit(0 if ok else 1)


@register_app.command("inject", epilog="Example: daythree register inject pypi:iniconfig==2.1.0 --out tasks/iniconfig")
def register_inject(
    source: Annotated[str, typer.Argument(help="A path, a git URL, or pypi:NAME==VERSION.")],
    out: Annotated[Path, typer.Option(help="Folder of the new task set.")],
    limit: Annotated[int, typer.Option(help="Tasks to make at most.", min=1)] = 24,
    runs: Annotated[int, typer.Option(help="Times every test runs; those that vary are left out.", min=1)] = 3,
    seed: Seed = 0,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Put one bug into working code per task, keep those that its tests catch."""
    _refuse(name_clashes())
    from envs.register import inject

    with _backend(sandbox) as backend, _bars() as progress:
        report = inject(source, out, limit=limit, seed=seed, runs=runs, backend=backend, progress=progress)
    _print_result(asdict(report), as_json)


@register_app.command("check", epilog="Example: daythree register check tasks/iniconfig --runs 3")
def register_check(
    folder: Annotated[Path, typer.Argument(help="Folder of a task set.")],
    runs: Annotated[int, typer.Option(help="Times the reference patch must pass.", min=1)] = 3,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Prove every task again: the empty patch fails, the reference patch passes."""
    _refuse(name_clashes())
    _taskset(folder)
    from envs.register import check

    with _backend(sandbox) as backend, _bars() as progress:
        report = check(folder, runs=runs, backend=backend, progress=progress)
    _print_result(asdict(report), as_json)
    raise typer.Exit(0 if report.ok else 1)


@app.command(epilog="Example: daythree tasks tasks/iniconfig show iniconfig-0003")
def tasks(
    folder: Annotated[Path, typer.Argument(help="Folder of a task set.")],
    show: Annotated[list[str] | None, typer.Argument(metavar="[show ID]", help="Show one task.")] = None,
    as_json: Json = False,
) -> None:
    """List the tasks of a task set, or show one."""
    words = show or []
    if words and (words[0] != "show" or len(words) != 2):
        raise typer.BadParameter("after the folder comes nothing, or: show ID")
    taskset = _taskset(folder)
    if words:
        found = [task for task in taskset.tasks if task.id == words[1]]
        if not found:
            raise typer.BadParameter(f"{folder} has no task {words[1]}; list them with: daythree tasks {folder}")
        _print_task(asdict(found[0]), as_json)
    elif as_json:
        _print_json([asdict(task) for task in taskset.tasks])
    else:
        rows = [
            [task.id, task.split, str(task.traits.get("kind", "")), str(len(task.fail_to_pass)), str(len(task.pass_to_pass))]
            for task in taskset.tasks
        ]
        _print_table(["task", "split", "kind", "must pass", "must stay"], rows)


@app.command("eval", epilog="Example: daythree eval --tasks tasks/iniconfig --policy oracle --out runs/oracle")
def evaluate(
    tasks: Annotated[list[Path], typer.Option(help="Folder of a task set; may be given more than once.")],
    policy: Annotated[
        str, typer.Option(help="oracle, scripted:…, vllm:MODEL_PATH or endpoint:URL#MODEL.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    samples: Annotated[int, typer.Option(help="Episodes of each task.", min=1)] = 1,
    split: Annotated[str, typer.Option(help="train, heldout or all.")] = "all",
    concurrency: Annotated[int, typer.Option(help="Episodes at once.", min=1)] = 4,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run folder.")] = False,
    seed: Seed = 0,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Run an agent on tasks and say how many it solves."""
    _refuse(name_clashes())
    if split not in ("train", "heldout", "all"):
        raise typer.BadParameter(f"unknown split {split!r}; use train, heldout or all")
    tasksets = [_taskset(folder) for folder in tasks]
    from agents.evaluate import evaluate as run

    with _policy(policy) as acting, _backend(sandbox) as backend, _bars() as progress:
        summary = run(
            acting,
            tasksets,
            split=None if split == "all" else split,
            samples=samples,
            out=out,
            resume=resume,
            backend=backend,
            concurrency=concurrency,
            seed=seed,
            progress=progress,
        )
    report = _write_report(out)
    _print_result({**asdict(summary), "report": str(report)}, as_json)
    raise typer.Exit(0 if summary.scored else 1)

"""`python -m benchmarks WHAT`: one part of the system at a time, measured on this machine.

make bench WHAT="sandbox --peers ~/peers/bin/python"
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from daythree.cli.options import Json, Sandboxes, open_backend, read_taskset
from daythree.cli.terminal import print_json, print_table, progress

from . import tables

PARTS = ("sandbox", "episodes", "layers", "grading", "rollout", "learner", "fuzz")


def bench(
    *,
    what: Annotated[str, typer.Argument(metavar="WHAT", help=f"{', '.join(PARTS[:-1])} or {PARTS[-1]}.")],
    tasks: Annotated[
        Path | None, typer.Option(help="Task set; grading needs one, rollout plays its tasks too.")
    ] = None,
    peers: Annotated[
        Path | None,
        typer.Option(help="With sandbox: a Python that has mini-swe-agent or swe-rex, measured in turn."),
    ] = None,
    crowd: Annotated[int, typer.Option(help="With sandbox: so many alive at once too; 0 for none.")] = 0,
    episodes: Annotated[int, typer.Option(help="With fuzz: random hostile episodes.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="With fuzz: the episodes are drawn from it.")] = 0,
    only: Annotated[int | None, typer.Option(help="With fuzz: play this one alone, and show it.")] = None,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Measure one part of the system on this machine."""
    if what not in PARTS:
        raise typer.BadParameter(f"cannot measure {what!r}; use {', '.join(PARTS[:-1])} or {PARTS[-1]}")
    if what == "grading" and tasks is None:
        raise typer.BadParameter("measuring grading needs a task set: --tasks DIR")
    if peers is not None and not peers.is_file():
        raise typer.BadParameter(f"there is no interpreter {peers}; name a Python that has the peers")
    if what == "fuzz":
        raise typer.Exit(_fuzz(sandbox, episodes, seed, only, as_json))
    taskset = read_taskset(tasks) if tasks else None

    table: dict[str, dict[str, Any]] = {}
    with progress() as bars, ExitStack() as stack:
        if what == "learner":
            table |= tables.measure_learner(progress=bars)
        if what == "rollout":
            table |= tables.measure_generation(progress=bars)
        if what == "sandbox":
            backend = stack.enter_context(open_backend(sandbox))
            table |= tables.measure_sandbox(backend, peers=peers, crowd=crowd, progress=bars)
        if what in ("episodes", "layers") or (taskset and what in ("grading", "rollout")):
            backend = stack.enter_context(open_backend(sandbox))
            if what in ("episodes", "layers"):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daythree-bench-")))
                measure = {"episodes": tables.measure_episode_rate, "layers": tables.measure_layers}
                table |= measure[what](backend, folder, progress=bars)
            elif taskset:
                measure = {"grading": tables.measure_grading, "rollout": tables.measure_episodes}
                table |= measure[what](taskset, backend, progress=bars)
    if as_json:
        print_json(table)
    else:
        print_table(["", ""], tables.rows(table))


def _fuzz(sandbox: str, episodes: int, seed: int, only: int | None, as_json: bool) -> int:
    """Play random hostile episodes, and name those that ended wrongly; return the exit code."""
    from .fuzz import fuzz, fuzz_taskset, remains, table

    numbers = range(episodes) if only is None else [only]
    with tempfile.TemporaryDirectory(prefix="daythree-bench-") as folder:
        taskset = fuzz_taskset(Path(folder) / "set")
        with open_backend(sandbox) as backend, progress() as bars:
            say = print if only is not None else None
            played = fuzz(backend, taskset, seed=seed, numbers=numbers, say=say, progress=bars)
    left, found = remains(), [ended for ended in played if ended.finding]
    if as_json:
        print_json(table(played))
    else:
        print_table(["", ""], tables.rows(table(played)))
    for ended in found:
        print(f"episode {ended.number}: {ended.finding}")
        print(f"  python -m benchmarks fuzz --seed {seed} --only {ended.number}")
    for line in left:
        print(f"left behind: {line}")
    return 1 if found or left else 0


if __name__ == "__main__":
    typer.run(bench)

"""`daythree bench`: one part of the system at a time, measured on this machine."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from daythree_shell import Json, Sandboxes, name_clashes, open_backend, read_taskset, refuse

PARTS = ("sandbox", "episodes", "layers", "grading", "rollout", "learner")


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
    refuse(name_clashes())
    taskset = read_taskset(tasks) if tasks else None
    from trainer import bench as measuring
    from trainer.terminal import print_json, print_table, progress

    table: dict[str, dict[str, Any]] = {}
    with progress() as bars, ExitStack() as stack:
        if what == "learner":
            table |= measuring.measure_learner(progress=bars)
        if what == "rollout":
            table |= measuring.measure_generation(progress=bars)
        if what == "sandbox":
            backend = stack.enter_context(open_backend(sandbox))
            table |= measuring.measure_sandbox(backend, peers=peers, crowd=crowd, progress=bars)
        if what in ("episodes", "layers") or (taskset and what in ("grading", "rollout")):
            backend = stack.enter_context(open_backend(sandbox))
            if what in ("episodes", "layers"):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daythree-bench-")))
                measure = {"episodes": measuring.measure_episode_rate, "layers": measuring.measure_layers}
                table |= measure[what](backend, folder, progress=bars)
            elif taskset:
                measure = {"grading": measuring.measure_grading, "rollout": measuring.measure_episodes}
                table |= measure[what](taskset, backend, progress=bars)
    if as_json:
        print_json(table)
    else:
        print_table(["", ""], measuring.rows(table))

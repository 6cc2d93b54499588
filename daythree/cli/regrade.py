"""`daythree regrade`: grade stored patches again and list the verdicts that changed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, Sandboxes, name_clashes, open_backend, read_taskset, refuse

if TYPE_CHECKING:
    from agents.evals.regrade import Regraded


def regrade(
    *,
    run: Annotated[Path, typer.Argument(help="A run folder, or a file of SWE-bench predictions.")],
    runs: Annotated[int, typer.Option(help="Gradings of each patch.", min=1)] = 1,
    task: Annotated[list[str] | None, typer.Option(help="Only this task's patches; repeatable.")] = None,
    tasks: Annotated[
        list[Path] | None, typer.Option(help="Task set; default: those that the run names. Repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write every row to, as JSON.")] = None,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Grade stored patches again, without the agent; exit code 1 when an outcome changed."""
    refuse(name_clashes())
    from agents.evals import regrade as grading
    from agents.runs.read import load_tasksets
    from sandboxes.files import write_json

    from .terminal import print_json, print_result, print_table, progress

    if not run.exists():
        raise typer.BadParameter(f"there is no {run}; name a run folder or a file of predictions")
    if run.is_file() and not tasks:
        raise typer.BadParameter("predictions do not say where their tasks are: name them with --tasks")
    unscored = unread = 0
    if run.is_dir():
        stored, unscored, unread = grading.read_patches(run)
    else:
        stored = grading.read_predictions(run)
    tasksets = [read_taskset(folder) for folder in tasks] if tasks else load_tasksets(run)
    wanted = [patch for patch in stored if not task or patch.task_id in task]
    if not wanted:
        raise typer.BadParameter(f"{run} holds no graded patch of {', '.join(task or ())}")
    with open_backend(sandbox) as backend, progress() as bars:
        report = grading.regrade(
            wanted, tasksets, backend=backend, runs=runs, unscored=unscored, unread=unread, progress=bars
        )
    if out:
        write_json(out, asdict(report))
    if as_json:
        print_json({**asdict(report), "rows": [asdict(row) for row in report.differing]})
    else:
        print_result(asdict(report), as_json=False)
        if report.differing:
            header = ["task", "was", "is", "agreed", "why", "episode"]
            print_table(header, [_row(row) for row in report.differing])
    raise typer.Exit(1 if report.changed else 0)


def _row(row: Regraded) -> list[str]:
    agreed = f"{row.agreed} of {row.runs}" if row.runs else ""
    left_out = f"not graded: {row.not_graded}" if row.not_graded else ""
    why = "; ".join(filter(None, (row.reason, left_out)))
    return [row.task_id, row.before or "?", row.after or "cannot be graded", agreed, why, row.id[:8]]

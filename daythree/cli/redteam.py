"""`daythree redteam`: try to pass a task set's tasks without doing the work."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, Sandboxes, name_clashes, open_backend, read_taskset, refuse

if TYPE_CHECKING:
    from envs.redteam.tries import Findings


def redteam(
    folder: Annotated[list[Path], typer.Argument(help="Folders of task sets.")],
    *,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeatable.")] = None,
    cheat: Annotated[list[str] | None, typer.Option(help="Only this cheat; repeatable.")] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these: reading, harness, forging, in-process, resources, escape, honest; repeatable."
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="A dozen telling cheats, on each set's first task.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the table between the marks of this document.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Episodes at once; default: what fits.", min=1)] = None,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Play every known cheat on every task, and honest but unusual work: 0 and 1 they must score."""
    refuse(name_clashes())
    tasksets = [read_taskset(path) for path in folder]
    from envs.redteam.cheat import FAMILIES
    from envs.redteam.suite import CHEATS, HONEST, chosen
    from envs.redteam.tries import try_all

    from .terminal import progress

    _known(family, [*FAMILIES, "honest"], "family")
    _known(cheat, [known.name for known in CHEATS], "cheat")
    _known(task, [known.id for taskset in tasksets for known in taskset.tasks], "task")
    wanted = set(task or ()) or {
        known.id for taskset in tasksets for known in (taskset.tasks[:1] if fast else taskset.tasks)
    }
    cheats = chosen(names=cheat or (), families=family or (), fast=fast)
    honest = HONEST if not cheat and (not family or "honest" in family) else ()
    with open_backend(sandbox) as backend, progress() as bars:
        for taskset in tasksets:
            used = {known.environment for known in taskset.tasks if known.id in wanted}
            for name in sorted(used):
                image = taskset.manifest.environments[name].image
                backend.ensure_image(image, timeout_s=3600, progress=bars)
        found = try_all(
            tasksets,
            cheats,
            honest,
            backend=backend,
            workers=workers,
            only=lambda known: known.id in wanted,
            progress=bars,
        )
    if markdown is not None:
        _write_table(markdown, found)
    _print_findings(found, as_json)
    raise typer.Exit(0 if found.ok else 1)


def _write_table(document: Path, found: Findings) -> None:
    from envs.redteam.table import NoMarks, markdown, write_between_marks

    try:
        write_between_marks(document, markdown(found))
    except NoMarks as error:
        raise typer.BadParameter(str(error)) from None


def _print_findings(found: Findings, as_json: bool) -> None:
    from envs.redteam.table import TASK_HEADER, per_task, rows

    from .terminal import print_json, print_table

    if as_json:
        print_json({"ok": found.ok, **asdict(found), "bad": [asdict(attempt) for attempt in found.bad]})
    else:
        print_table(["name", "family", "tries", "stopped by", "scored"], rows(found.tries))
        print()
        print_table(TASK_HEADER, per_task(found))
        for attempt in found.bad:
            print(f"{attempt.task}: {attempt.name}: {attempt.result}: {attempt.evidence}")
        print(f"\n{len(found.tries)} tries in {found.wall_s:.0f} s, {len(found.bad)} not as they must be.")


def _known(given: list[str] | None, known: list[str], what: str) -> None:
    for name in given or ():
        if name not in known:
            raise typer.BadParameter(f"unknown {what} {name!r}; there are {', '.join(known)}")

"""`daythree register`: repositories, histories and other formats into task sets, and the proof of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json, Sandboxes, Seed, name_clashes, open_backend, read_taskset, refuse

if TYPE_CHECKING:
    from envs.register import RegisterSettings

register_app = typer.Typer(
    help="Turn a repository into validated tasks.",
    epilog="Example: daythree register inject pypi:wcwidth==0.2.13 --out tasks/wcwidth",
    no_args_is_help=True,
)


Out = Annotated[Path, typer.Option(help="Folder of the new task set.")]
Limit = Annotated[int, typer.Option(help="Tasks to make at most; of a history, the newest.", min=1)]
Runs = Annotated[
    int, typer.Option(help="Times the tests run on each tree; tests that vary are left out.", min=2)
]
Recipe = Annotated[
    Path | None, typer.Option(help="A TOML file with the environment, where none should be derived.")
]


@contextmanager
def registering(sandbox: str, out: Path, limit: int | None, runs: int) -> Iterator[RegisterSettings]:
    """Open the backend and the progress bars for a new task set."""
    refuse(name_clashes())
    from envs.register import RegisterSettings

    from .terminal import progress

    with open_backend(sandbox) as backend, progress() as bars:
        yield RegisterSettings(out=out, limit=limit, runs=runs, backend=backend, progress=bars)


def print_report(report: Any, as_json: bool) -> None:
    from .terminal import print_result

    print_result(asdict(report), as_json)


@register_app.command(
    "git", epilog="Example: daythree register git ~/src/humanize --out tasks/humanize --limit 50"
)
def register_git(
    *,
    source: Annotated[str, typer.Argument(help="A git repository: a path, bare or not, or a URL.")],
    out: Out,
    limit: Limit = 24,
    runs: Runs = 3,
    name: Annotated[str | None, typer.Option(help="Name of the set; default: the repository's.")] = None,
    recipe: Recipe = None,
    export: Annotated[
        list[Path] | None,
        typer.Option(help="JSON of GitHub's API (pulls, issues, comments): a file or a folder; repeatable."),
    ] = None,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Turn a history's changes that came with tests into tasks, each proven to fail before and pass after."""
    with registering(sandbox, out, limit, runs) as settings:
        from envs.register import register_git

        report = register_git(source, settings, name=name, recipe=recipe, exports=tuple(export or ()))
    print_report(report, as_json)


@register_app.command(
    "inject", epilog="Example: daythree register inject pypi:wcwidth==0.2.13 --out tasks/wcwidth"
)
def register_inject(
    *,
    source: Annotated[str, typer.Argument(help="A path, a git URL, or pypi:NAME==VERSION.")],
    out: Out,
    limit: Limit = 24,
    runs: Runs = 3,
    seed: Seed = 0,
    kinds: Annotated[
        list[str] | None,
        typer.Option(help="edit, body, revert or several, each optionally KIND=SHARE; repeatable."),
    ] = None,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Put bugs into working code, one per task, and keep those its tests catch."""
    with registering(sandbox, out, limit, runs) as settings:
        from envs.register import register_inject

        report = register_inject(source, settings, seed=seed, kinds=kinds)
    print_report(report, as_json)


@register_app.command(
    "practice", epilog="Example: daythree register practice --out tasks/practice --count 800"
)
def register_practice(
    *,
    out: Out,
    count: Annotated[int, typer.Option(help="Tasks to write.", min=8)] = 800,
    heldout: Annotated[
        float, typer.Option(help="Share of them that training never sees.", min=0.0, max=0.9)
    ] = 0.25,
    seed: Seed = 0,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Write small repositories with bugs, tests and pull requests, for a policy to practise on."""
    with registering(sandbox, out, count, 2) as settings:
        from envs.register import register_practice

        report = register_practice(replace(settings, heldout=heldout), seed=seed)
    print_report(report, as_json)


@register_app.command(
    "import", epilog="Example: daythree register import swebench rows.jsonl --repos ~/clones --out tasks/rows"
)
def register_import(
    *,
    format_name: Annotated[
        str,
        typer.Argument(metavar="FORMAT", help="swebench, swegym, swerebench, swesmith, r2egym or harbor."),
    ],
    file: Annotated[
        Path, typer.Argument(help="JSON or JSONL rows; for harbor, a folder of task directories.")
    ],
    out: Out,
    repos: Annotated[
        Path | None,
        typer.Option(help="Folder of local clones; what is not in it is cloned from its address."),
    ] = None,
    recipe: Recipe = None,
    images: Annotated[
        bool,
        typer.Option("--images/--no-images", help="Use the images that rows name, or build environments."),
    ] = True,
    limit: Annotated[int | None, typer.Option(help="Tasks to make at most.", min=1)] = None,
    runs: Runs = 3,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Turn rows of other systems into tasks; each is proven here, and each that is not says why."""
    with registering(sandbox, out, limit, runs) as settings:
        from envs.register.formats import import_tasks

        report = import_tasks(format_name, file, settings, repos=repos, recipe=recipe, images=images)
    print_report(report, as_json)


@register_app.command(
    "export", epilog="Example: daythree register export tasks/humanize --format harbor --out humanize-harbor"
)
def register_export(
    *,
    folder: Annotated[Path, typer.Argument(help="Folder of a task set.")],
    format_name: Annotated[str, typer.Option("--format", help="swebench or harbor.")],
    out: Annotated[Path, typer.Option(help="File of rows, or folder of task directories, to write.")],
    as_json: Json = False,
) -> None:
    """Write a task set in another system's format."""
    refuse(name_clashes())
    read_taskset(folder)
    from envs.register.formats import export_tasks

    from .terminal import progress

    with progress() as bars:
        report = export_tasks(folder, format_name, out, progress=bars)
    print_report(report, as_json)


@register_app.command("check", epilog="Example: daythree register check tasks/wcwidth --runs 3")
def register_check(
    folder: Annotated[Path, typer.Argument(help="Folder of a task set.")],
    runs: Annotated[int, typer.Option(help="Times the reference patch must pass.", min=1)] = 3,
    remove: Annotated[
        bool, typer.Option("--remove", help="Move the tasks that fail to the set's quarantine.jsonl.")
    ] = False,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Prove every task again: the empty patch fails, the reference patch passes."""
    refuse(name_clashes())
    read_taskset(folder)
    from envs.register import check

    from .terminal import progress

    with open_backend(sandbox) as backend, progress() as bars:
        report = check(folder, runs=runs, remove=remove, backend=backend, progress=bars)
    print_report(report, as_json)
    raise typer.Exit(0 if report.ok else 1)


@register_app.command("build", epilog="Example: daythree register build tasks/humanize")
def register_build(
    folder: Annotated[Path, typer.Argument(help="Folder of a task set.")],
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Build a task set's images from its taskset.toml alone, and compare them with what was recorded."""
    refuse(name_clashes())
    read_taskset(folder)
    from envs.register import build

    from .terminal import progress

    with open_backend(sandbox) as backend, progress() as bars:
        report = build(folder, backend=backend, progress=bars)
    print_report(report, as_json)
    raise typer.Exit(0 if report.ok else 1)

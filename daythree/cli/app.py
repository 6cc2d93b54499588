"""The `daythree` command: parse, call, print. The other packages hold all logic.

Heavy imports sit inside functions, so that `daythree --help` answers at once. Exit codes: 0 success, 1
failure, 2 bad input, 130 interrupted (SIGINT), 143 terminated (SIGTERM).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from .options import (
    HOME,
    Changes,
    Json,
    Sandboxes,
    Seed,
    Terminated,
    explain,
    name_clashes,
    open_backend,
    open_policy,
    read_taskset,
    refuse,
    say_error,
    terminate,
    write_report,
)
from .redteam import redteam
from .register import register_app
from .regrade import regrade

if TYPE_CHECKING:
    from envs.types import Task


class InOrder(TyperGroup):
    """Lists the commands in the order in which people need them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return names of the commands."""
        order = [
            "doctor",
            "register",
            "tasks",
            "redteam",
            "eval",
            "train",
            "regrade",
            "view",
            "export",
            "gc",
            "demo",
        ]
        return sorted(super().list_commands(ctx), key=order.index)


app = typer.Typer(
    cls=InOrder,
    help="Turn repositories into tasks, evaluate agents on them, train agents on the outcome of the tests.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(register_app, name="register")
app.command(epilog="Example: daythree regrade runs/first --runs 3")(regrade)
app.command(epilog="Example: daythree redteam tasks/wcwidth --fast")(redteam)


# Commands


@app.command(epilog="Example: daythree doctor --json")
def doctor(
    as_json: Json = False,
    deep: Annotated[bool, typer.Option("--deep", help="Open a real sandbox on each backend too.")] = False,
) -> None:
    """Say what works on this machine, and what to do about the rest."""
    clashes = name_clashes()
    if any(clash.startswith("trainer ") for clash in clashes):
        refuse(clashes)
    from .doctor import examine, healthy
    from .terminal import print_checks, print_json

    checks = examine(clashes, deep=deep)
    ok = healthy(checks)
    if as_json:
        print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        print_checks([asdict(check) for check in checks])
        print("\nReady." if ok else "\nNot ready: no isolation works, or a name is taken; see above.")
    raise typer.Exit(0 if ok else 1)


@app.command(epilog="Example: daythree tasks tasks/wcwidth show wcwidth-0003")
def tasks(
    folder: Annotated[Path, typer.Argument(help="Folder of a task set.")],
    show: Annotated[list[str] | None, typer.Argument(metavar="[show ID]", help="Show one task.")] = None,
    as_json: Json = False,
) -> None:
    """List the tasks of a task set, or show one."""
    words = show or []
    if words and (words[0] != "show" or len(words) != 2):
        raise typer.BadParameter("after the folder comes nothing, or: show ID")
    taskset = read_taskset(folder)
    from .terminal import print_json, print_table, print_task

    if words:
        found = [task for task in taskset.tasks if task.id == words[1]]
        if not found:
            raise typer.BadParameter(f"{folder} has no task {words[1]}; daythree tasks {folder} lists them")
        print_json(asdict(found[0])) if as_json else print_task(found[0])
    elif as_json:
        print_json([asdict(task) for task in taskset.tasks])
    else:
        header = ["task", "split", "kind", "must pass", "must stay"]
        print_table(header, [_task_row(task) for task in taskset.tasks])


def _task_row(task: Task) -> list[str]:
    kind = str(task.traits.get("kind", ""))
    return [task.id, task.split, kind, str(len(task.fail_to_pass)), str(len(task.pass_to_pass))]


@app.command("eval", epilog="Example: daythree eval --tasks tasks/wcwidth --policy oracle --out runs/oracle")
def evaluate(
    *,
    tasks: Annotated[list[Path], typer.Option(help="Folder of a task set; may be given more than once.")],
    policy: Annotated[
        str, typer.Option(help="oracle, scripted:…, vllm:MODEL, endpoint:URL#MODEL or own_module:attribute.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    samples: Annotated[int, typer.Option(help="Episodes of each task.", min=1)] = 1,
    split: Annotated[str, typer.Option(help="train, heldout or all.")] = "all",
    concurrency: Annotated[int, typer.Option(help="Episodes at once.", min=1)] = 4,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run folder.")] = False,
    temperature: Annotated[
        float | None, typer.Option(help="Of a vllm policy; default: its run's, or 1.")
    ] = None,
    embedder: Annotated[
        str, typer.Option(help="For search by meaning: model:FOLDER or endpoint:URL#MODEL.")
    ] = "",
    dialect: Annotated[str | None, typer.Option(help="Of a vllm policy: hermes or qwen3-coder.")] = None,
    perturb: Annotated[
        bool,
        typer.Option("--perturb", help="Ask again with names and paths changed by --seed; tell the gap."),
    ] = False,
    seed: Seed = 0,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Run an agent on tasks and say how many it solves."""
    refuse(name_clashes())
    chosen_split = _split(split)
    tasksets = [read_taskset(folder) for folder in tasks]
    from agents.evals.evaluate import EvalSettings
    from agents.evals.evaluate import evaluate as run
    from agents.evals.perturbed import evaluate_perturbed
    from trainer.embedder import open_embedder

    from .terminal import print_result, progress

    settings = EvalSettings(
        out,
        split=chosen_split,
        samples=samples,
        seed=seed,
        resume=resume,
        concurrency=concurrency,
        manifest={"policy": policy, "temperature": temperature, "dialect": dialect, "embedder": embedder},
    )
    with (
        open_backend(sandbox) as backend,
        progress() as bars,
        open_embedder(embedder) as ranking,
        open_policy(policy, bars, temperature=temperature, dialect=dialect) as acting,
    ):
        opened: dict[str, Any] = {"backend": backend, "embedder": ranking, "progress": bars}
        summary = run(acting, tasksets, settings, **opened)
        result = asdict(summary)
        if perturb:
            pair, _ = evaluate_perturbed(acting, tasksets, summary, settings, **opened)
            result |= asdict(pair)
    print_result({**result, "report": str(write_report(out))}, as_json)
    raise typer.Exit(0 if summary.scored else 1)


def _split(name: str) -> str | None:
    if name not in ("train", "heldout", "all"):
        raise typer.BadParameter(f"unknown split {name!r}; use train, heldout or all")
    return None if name == "all" else name


@app.command(epilog="Example: daythree train configs/tiny.toml --set rl.steps=20 --out runs/first")
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file, see configs/.")],
    changes: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write; default runs/NAME-OF-CONFIG.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run folder.")] = False,
    as_json: Json = False,
) -> None:
    """Improve an agent by RL on the outcome of the tests."""
    refuse(name_clashes())
    from sandboxes.files import write_json
    from trainer.config import load
    from trainer.loop import train as run

    from .terminal import print_result, progress

    settings, folder = load(config, changes or []), out or Path("runs") / config.stem
    with progress() as bars:
        summary = run(settings, folder, resume=resume, progress=bars)
    write_json(folder / "summary.json", asdict(summary))
    print_result({**asdict(summary), "report": str(write_report(folder))}, as_json)
    if summary.interrupted:
        say_error(f"interrupted; continue with: daythree train {config} --out {folder} --resume")
        raise typer.Exit(128 + signal.SIGINT)


@app.command(epilog="Example: daythree view runs/demo")
def view(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    no_serve: Annotated[
        bool, typer.Option("--no-serve", help="Write report.html, print its path, end.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.", min=0, max=65535)] = 0,
) -> None:
    """Show a run in the browser."""
    if not run.is_dir():
        raise typer.BadParameter(f"there is no run folder {run}; name one that train or eval wrote")
    page = write_report(run)
    if no_serve:
        print(page)
        return
    from agents.viewer.report import serve

    with serve(page, port=port) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/  (Ctrl-C ends it)", flush=True)
        server.serve_forever()


@app.command(epilog="Example: daythree export runs/oracle --format swebench --out predictions.jsonl")
def export(
    *,
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    format_name: Annotated[str, typer.Option("--format", help="swebench: predictions, one patch a task.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    model: Annotated[str, typer.Option(help="model_name_or_path; default: the run's policy.")] = "",
    as_json: Json = False,
) -> None:
    """Write what an agent did in another system's format."""
    if format_name != "swebench":
        raise typer.BadParameter(f"cannot write {format_name!r}; use swebench")
    if not (run / "trajectories").is_dir():
        raise typer.BadParameter(f"{run} holds no trajectories; name a run folder that train or eval wrote")
    from agents.evals.predictions import write_predictions

    from .terminal import print_result

    print_result(asdict(write_predictions(run / "trajectories", out, model=model)), as_json)


@app.command("gc", epilog="Example: daythree gc --json")
def collect_garbage(as_json: Json = False) -> None:
    """Remove what dead runs left: sandboxes, control groups, half-built images."""
    import sandboxes

    from .terminal import print_json

    swept = sandboxes.gc()
    if as_json:
        print_json(asdict(swept))
    else:
        print("\n".join(f"removed {name}" for name in swept.removed) or "nothing was left behind")
        for failure in swept.failed:
            say_error(failure)
    raise typer.Exit(1 if swept.failed else 0)


@app.command(epilog="Example: daythree demo --out runs/demo --set rl.steps=10")
def demo(
    *,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default: runs/demo.")] = None,
    config: Annotated[Path, typer.Option(help="Settings.", show_default="configs/demo.toml")] = HOME
    / "configs/demo.toml",
    tasks: Annotated[Path, typer.Option(help="Folder of the task sets; made ones are used again.")] = Path(
        "tasks"
    ),
    changes: Changes = None,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Watch a small policy learn, on repositories that it has never seen."""
    refuse(name_clashes())
    if not config.is_file():
        raise typer.BadParameter(f"there is no {config}; name the settings with --config")
    free = (Path("runs") / (f"demo-{n}" if n > 1 else "demo") for n in count(1))
    folder = out or next(path for path in free if not path.exists())
    if folder.exists():
        raise typer.BadParameter(f"{folder} exists already; choose another --out")
    from trainer.demo import run_demo

    from .terminal import print_result, progress

    with open_backend(sandbox) as backend, progress() as bars:
        if sandbox == "auto" and backend.name != "docker":
            print(f"No Docker engine answers: using {backend.name}.", file=sys.stderr)
        overrides = tuple(changes or ())
        summary = run_demo(folder, config, tasks=tasks, backend=backend, overrides=overrides, progress=bars)
    print_result(summary, as_json)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors for people become one line."""
    try:
        code = app(args=arguments, prog_name="daythree", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help, on standard error
            print(error, file=sys.stderr)
            return 2
        known = explain(error)
        if known is None:
            raise
        say_error(known[0])
        return known[1]
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """Entry point of the `daythree` command."""
    signal.signal(signal.SIGTERM, terminate)
    take_interrupts()
    sys.path.append(str(Path.cwd()))  # for `module:attribute` names; last, so that the folder hides nothing
    sys.exit(run())


def take_interrupts() -> None:
    """Handle SIGINT although the process inherited it as ignored, unless a terminal's Ctrl-C could send it.

    A shell starts the background jobs of a script with SIGINT ignored, and their children inherit this:
    Ctrl-C in the terminal reaches the whole script, but is not meant for them. Without a terminal, as in CI
    or under a supervisor, only a deliberate `kill -INT` sends the signal. SIGTERM is handled in both cases.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        return
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:  # the process has no controlling terminal
        signal.signal(signal.SIGINT, signal.default_int_handler)

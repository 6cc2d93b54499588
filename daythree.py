"""The `daythree` command: parse, call, print. Everything else lives in the four packages.

Libraries are imported where they are used, so that `daythree --help` answers at once. Exit codes: 0 it
worked, 1 it failed, 2 the input was bad, 130 and 143 it was interrupted.
"""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from agents.types import Policy
    from envs.tasksets import TaskSet
    from envs.types import Task
    from sandboxes import Backend

HOME = Path(__file__).resolve().parent
PACKAGES = ("sandboxes", "envs", "agents", "trainer")
BAD_INPUT = {"ConfigError", "RunError", "TaskSetError", "RegisterError", "EvaluationError", "StoreError"}
"""Errors of ours that blame what was asked for; the others (a sandbox, a policy) blame what happened."""
CLICK_ERROR: Any = typer.BadParameter.__mro__[2]
"""click's ClickException, wherever this version of typer keeps its click."""


class InOrder(TyperGroup):
    """Lists the commands in the order in which people need them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return names of the commands."""
        order = ["doctor", "register", "tasks", "eval", "train", "view", "bench", "demo"]
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
register_app = typer.Typer(
    help="Turn a repository into validated tasks.",
    epilog="Example: daythree register inject pypi:wcwidth==0.2.13 --out tasks/wcwidth",
    no_args_is_help=True,
)
app.add_typer(register_app, name="register")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Sandboxes = Annotated[str, typer.Option("--sandbox", help="auto, docker or bubblewrap.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting; repeatable.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]


# Commands


@app.command(epilog="Example: daythree doctor --json")
def doctor(
    as_json: Json = False,
    deep: Annotated[bool, typer.Option("--deep", help="Open a real sandbox on each backend too.")] = False,
) -> None:
    """Say what works on this machine, and what to do about the rest."""
    clashes = name_clashes()
    if any(clash.startswith("trainer ") for clash in clashes):
        _refuse(clashes)
    from trainer.doctor import examine, healthy
    from trainer.terminal import print_checks, print_json

    checks = examine(clashes, deep=deep)
    ok = healthy(checks)
    if as_json:
        print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        print_checks([asdict(check) for check in checks])
        print("\nReady." if ok else "\nNot ready: no isolation works, or a name is taken; see above.")
    raise typer.Exit(0 if ok else 1)


@register_app.command(
    "inject", epilog="Example: daythree register inject pypi:wcwidth==0.2.13 --out tasks/wcwidth"
)
def register_inject(
    *,
    source: Annotated[str, typer.Argument(help="A path, a git URL, or pypi:NAME==VERSION.")],
    out: Annotated[Path, typer.Option(help="Folder of the new task set.")],
    limit: Annotated[int, typer.Option(help="Tasks to make at most.", min=1)] = 24,
    runs: Annotated[
        int, typer.Option(help="Times every test runs; those that vary are left out.", min=1)
    ] = 3,
    seed: Seed = 0,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Put bugs into working code, one per task, and keep those its tests catch."""
    _refuse(name_clashes())
    from envs.register import inject
    from trainer.terminal import print_result, progress

    with _backend(sandbox) as backend, progress() as bars:
        report = inject(source, out, limit=limit, seed=seed, runs=runs, backend=backend, progress=bars)
    print_result(asdict(report), as_json)


@register_app.command("check", epilog="Example: daythree register check tasks/wcwidth --runs 3")
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
    from trainer.terminal import print_result, progress

    with _backend(sandbox) as backend, progress() as bars:
        report = check(folder, runs=runs, backend=backend, progress=bars)
    print_result(asdict(report), as_json)
    raise typer.Exit(0 if report.ok else 1)


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
    taskset = _taskset(folder)
    from trainer.terminal import print_json, print_table, print_task

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
    policy: Annotated[str, typer.Option(help="oracle, scripted:…, vllm:MODEL or endpoint:URL#MODEL.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    samples: Annotated[int, typer.Option(help="Episodes of each task.", min=1)] = 1,
    split: Annotated[str, typer.Option(help="train, heldout or all.")] = "all",
    concurrency: Annotated[int, typer.Option(help="Episodes at once.", min=1)] = 4,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run folder.")] = False,
    temperature: Annotated[
        float | None, typer.Option(help="Of a vllm policy; default: its run's, or 1.")
    ] = None,
    dialect: Annotated[str | None, typer.Option(help="Of a vllm policy: hermes or qwen3-coder.")] = None,
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
    from trainer.runs import write_json
    from trainer.terminal import print_result, progress

    settings = {"temperature": temperature, "dialect": dialect}
    with _policy(policy, **settings) as acting, _backend(sandbox) as backend, progress() as bars:
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
            progress=bars,
        )
        ran = {"policy": policy, "sandbox": backend.name, "versions": {"daythree": _version()}}
    write_json(out / "manifest.json", {**ran, "tasks": {str(one.folder): one.digest for one in tasksets}})
    print_result({**asdict(summary), "report": str(_write_report(out))}, as_json)
    raise typer.Exit(0 if summary.scored else 1)


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
    _refuse(name_clashes())
    from trainer.config import load
    from trainer.loop import train as run
    from trainer.terminal import print_result, progress

    settings, folder = load(config, changes or []), out or Path("runs") / config.stem
    with progress() as bars:
        summary = run(settings, folder, resume=resume, progress=bars)
    print_result({**asdict(summary), "report": str(_write_report(folder))}, as_json)
    if summary.interrupted:
        _say_error(f"interrupted; continue with: daythree train {config} --out {folder} --resume")
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
    page = _write_report(run)
    if no_serve:
        print(page)
        return
    from trainer.report import serve

    with serve(page, port=port) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/  (Ctrl-C ends it)", flush=True)
        server.serve_forever()


@app.command(epilog="Example: daythree bench grading --tasks tasks/wcwidth --json")
def bench(
    *,
    what: Annotated[str, typer.Argument(metavar="WHAT", help="sandbox, grading, rollout or learner.")],
    tasks: Annotated[
        Path | None, typer.Option(help="Task set; grading needs one, rollout plays its tasks too.")
    ] = None,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Measure one part of the system on this machine."""
    if what not in ("sandbox", "grading", "rollout", "learner"):
        raise typer.BadParameter(f"cannot measure {what!r}; use sandbox, grading, rollout or learner")
    if what == "grading" and tasks is None:
        raise typer.BadParameter("measuring grading needs a task set: --tasks DIR")
    _refuse(name_clashes())
    taskset = _taskset(tasks) if tasks else None
    from trainer import bench as measuring
    from trainer.terminal import print_json, print_table, progress

    table: dict[str, dict[str, Any]] = {}
    with progress() as bars:
        if what == "learner":
            table |= measuring.measure_learner(progress=bars)
        if what == "rollout":
            table |= measuring.measure_generation(progress=bars)
        if what == "sandbox" or taskset:
            with _backend(sandbox) as backend:
                if what == "sandbox":
                    table |= measuring.measure_sandbox(backend, progress=bars)
                elif taskset:
                    measure = {"grading": measuring.measure_grading, "rollout": measuring.measure_episodes}
                    table |= measure[what](taskset, backend, progress=bars)
    if as_json:
        print_json(table)
    else:
        print_table(["", ""], measuring.rows(table))


@app.command(epilog="Example: daythree demo --out runs/demo --set rl.steps=10")
def demo(
    *,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default: runs/demo.")] = None,
    config: Annotated[Path, typer.Option(help="Settings.", show_default="configs/tiny.toml")] = HOME
    / "configs/tiny.toml",
    tasks: Annotated[Path, typer.Option(help="Folder of the task sets; made ones are used again.")] = Path(
        "tasks"
    ),
    changes: Changes = None,
    sandbox: Sandboxes = "auto",
    as_json: Json = False,
) -> None:
    """Do the main job end to end on real libraries."""
    _refuse(name_clashes())
    if not config.is_file():
        raise typer.BadParameter(f"there is no {config}; name the settings with --config")
    free = (Path("runs") / (f"demo-{n}" if n > 1 else "demo") for n in count(1))
    folder = out or next(path for path in free if not path.exists())
    if folder.exists():
        raise typer.BadParameter(f"{folder} exists already; choose another --out")
    from trainer.demo import run_demo
    from trainer.terminal import print_result, progress

    with _backend(sandbox) as backend, progress() as bars:
        if sandbox == "auto" and backend.name != "docker":
            print(f"No Docker engine answers: using {backend.name}.", file=sys.stderr)
        overrides = tuple(changes or ())
        summary = run_demo(folder, config, tasks=tasks, backend=backend, overrides=overrides, progress=bars)
    print_result(summary, as_json)


# What commands share


def name_clashes() -> list[str]:
    """Return a sentence for each of our import names that another distribution or folder provides."""
    owners = importlib.metadata.packages_distributions()
    clashes = []
    for name in PACKAGES:
        strangers = sorted(set(owners.get(name, ())) - {"daythree"})
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or [])] if spec else []
        if strangers:
            clashes.append(f"{name} is also provided by the distribution {', '.join(strangers)}")
        elif HOME / name not in places:
            clashes.append(f"{name} resolves to {places[0] if places else 'nothing'}, not to {HOME / name}")
    return clashes


def _refuse(clashes: Sequence[str]) -> None:
    if clashes:
        _say_error("; ".join(clashes) + "; install Day Three in an environment of its own")
        raise typer.Exit(1)


def _version() -> str | None:
    try:
        return importlib.metadata.version("daythree")
    except importlib.metadata.PackageNotFoundError:
        return None


def _taskset(folder: Path) -> TaskSet:
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no task set {folder}; make one with: daythree register inject")
    from envs.tasksets import load_taskset

    return load_taskset(folder)


@contextmanager
def _backend(name: str) -> Iterator[Backend]:
    if name not in ("auto", "docker", "bubblewrap"):
        raise typer.BadParameter(f"unknown sandbox {name!r}; use auto, docker or bubblewrap")
    from sandboxes import connect

    backend = connect(name)
    try:
        yield backend
    finally:
        backend.close()


@contextmanager
def _policy(spec: str, **settings: Any) -> Iterator[Policy]:
    if spec.startswith("vllm:"):
        from trainer.engine import VLLMPolicy
        from trainer.saved import acting_policy

        policy: Policy = VLLMPolicy.open(acting_policy(spec.removeprefix("vllm:"), **settings))
    else:
        from agents.policies import build_policy
        from agents.types import PolicyError

        try:
            policy = build_policy(spec)
        except PolicyError as error:
            raise typer.BadParameter(str(error)) from None
    try:
        yield policy
    finally:
        policy.close()


def _write_report(run: Path) -> Path:
    from trainer.report import write_report

    return write_report(run)


# The seam to the shell


class Terminated(BaseException):
    """Somebody asked this process to end; what is open is closed on the way out."""


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _say_error(sentence: str) -> None:
    line = " ".join(sentence.split("\n")).strip()
    red = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(f"\033[31m{line}\033[0m" if red else line, file=sys.stderr)


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return one line and an exit code for an error that is meant for people, or None for a defect.

    Ours are the exceptions that our own packages define: each carries one sentence that says what to do.
    """
    if isinstance(error, CLICK_ERROR):
        return _usage(error), 2
    if type(error).__module__.partition(".")[0] in PACKAGES:
        return str(error), 2 if type(error).__name__ in BAD_INPUT else 1
    if isinstance(error, FileExistsError | FileNotFoundError) and error.errno is None:
        return str(error), 2
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the disk{f' at {error.filename}' if error.filename else ''}; free some", 1
    return None


def _usage(error: Any) -> str:
    """Say what is wrong with a command line, and where its help is unless the sentence says what to do."""
    sentence = error.format_message()
    if sentence.startswith("Invalid value: "):
        return sentence.removeprefix("Invalid value: ")
    context = getattr(error, "ctx", None)
    return f"{sentence.rstrip('.')}; see: {context.command_path if context else 'daythree'} --help"


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
        _say_error(known[0])
        return known[1]
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """Entry point of the `daythree` command."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run())


if __name__ == "__main__":
    main()

"""Shared parts of the `daythree` command: options, resources that options open, and error messages.

Heavy imports sit inside functions, so that `daythree --help` answers at once.
"""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from agents.types import Policy
    from envs.tasksets.taskset import TaskSet
    from sandboxes import Backend, Progress

HOME = Path(__file__).resolve().parents[2]
PACKAGES = ("sandboxes", "envs", "agents", "trainer", "daythree")
BAD_INPUT = {
    "ConfigError",
    "RunError",
    "TaskSetError",
    "RegisterError",
    "EvaluationError",
    "StoreError",
    "PredictionsError",
    "RegradeError",
    "EmbedderError",
    "UnknownNameError",
    "ToolsetError",
    "RewardError",
}
"""Errors of ours that blame what was asked for; the others (a sandbox, a policy) blame what happened."""
CLICK_ERROR: Any = typer.BadParameter.__mro__[2]
"""click's ClickException, wherever this version of typer keeps its click."""


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Sandboxes = Annotated[str, typer.Option("--sandbox", help="auto, docker, bubblewrap, or module:attribute.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting; repeatable.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]


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


def refuse(clashes: Sequence[str]) -> None:
    if clashes:
        say_error("; ".join(clashes) + "; install Day Three in an environment of its own")
        raise typer.Exit(1)


def version() -> str | None:
    try:
        return importlib.metadata.version("daythree")
    except importlib.metadata.PackageNotFoundError:
        return None


def read_taskset(folder: Path) -> TaskSet:
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no task set {folder}; make one with: daythree register inject")
    from envs.tasksets.taskset import load_taskset

    return load_taskset(folder)


@contextmanager
def open_backend(name: str) -> Iterator[Backend]:
    from sandboxes import connect

    backend = connect(name)
    try:
        yield backend
    finally:
        backend.close()


@contextmanager
def open_policy(spec: str, progress: Progress, **settings: Any) -> Iterator[Policy]:
    from agents.policies.by_name import build_policy
    from agents.types import PolicyError

    def start_vllm(model: str) -> Policy:
        from trainer.engine.client import VLLMPolicy
        from trainer.run import acting_policy

        wanted = acting_policy(model, **settings)
        progress("starting vLLM", 0, 1)
        started = VLLMPolicy.open(wanted)
        progress("starting vLLM", 1, 1)
        return started

    try:
        policy = build_policy(spec, {"vllm:MODEL_PATH": start_vllm})
    except PolicyError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        yield policy
    finally:
        policy.close()


def write_report(run: Path) -> Path:
    from agents.viewer.report import write_report

    return write_report(run)


# The seam to the shell


class Terminated(BaseException):
    """SIGTERM arrived; unwinding the stack closes the open resources."""


def terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def say_error(sentence: str) -> None:
    line = " ".join(sentence.split("\n")).strip()
    red = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(f"\033[31m{line}\033[0m" if red else line, file=sys.stderr)


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return a one-line message and an exit code for an expected error, or None for a defect.

    Expected are exceptions defined in our own packages: each carries one sentence with the remedy.
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
    """Describe a usage error; refer to `--help` unless the sentence already holds the remedy."""
    sentence = error.format_message()
    if sentence.startswith("Invalid value: "):
        return sentence.removeprefix("Invalid value: ")
    context = getattr(error, "ctx", None)
    return f"{sentence.rstrip('.')}; see: {context.command_path if context else 'daythree'} --help"

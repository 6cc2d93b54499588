"""Reader of run folders: training runs and evaluations, of this version or an older one.

`read_run` (for the report) tolerates missing and truncated files. `read_trajectories` (for regrading) yields
every trajectory that can be read, and names the lines that cannot.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from envs.tasksets.taskset import TaskSet, load_taskset

from ..types import Trajectory
from .folder import RunError
from .store import TrajectoryStore

TRAJECTORY_LIMIT = 600
"""Maximum trajectories in a report page; a larger run is sampled evenly, and the page says so."""
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Shown:
    """A trajectory and its part of the run, such as `training`."""

    part: str
    trajectory: Trajectory


@dataclass
class RunData:
    """The readable contents of a run folder."""

    name: str
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    trajectories: list[Shown] = field(default_factory=list)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    vocabulary: dict[int, str] = field(default_factory=dict)
    total: int = 0
    """Number of trajectories in the folder, shown or not."""
    unread: int = 0
    """Number of unreadable lines, such as one truncated by a crash."""


def read_run(run: Path) -> RunData:
    """Read a run folder; missing or broken parts are left out. Raises FileNotFoundError without a folder."""
    if not run.is_dir():
        raise FileNotFoundError(
            f"there is no run folder {run}; name one that `daythree train` or `eval` made"
        )
    data = RunData(name=run.resolve().name)
    data.summary = _json_object(run / "summary.json")
    data.manifest = _json_object(run / "manifest.json")
    data.config = _toml(run / "config.toml")
    data.metrics = [
        row for row in _json_lines(run / "metrics.jsonl") if isinstance(row.get("step"), int | float)
    ]
    _read_shown(run, data)
    wanted = {shown.trajectory.task_id for shown in data.trajectories}
    data.tasks = {task: row for task, row in _read_tasks(run, data) if task in wanted}
    data.vocabulary = _read_vocabulary(run, data)
    return data


def read_trajectories(run: Path, unread: list[str] | None = None) -> Iterator[Trajectory]:
    """Yield every trajectory of a run, its evaluations included; `unread` as in `TrajectoryStore.read`."""
    for store in stores(run):
        yield from store.read(unread)


def stores(run: Path) -> list[TrajectoryStore]:
    """The trajectory stores of a run folder: its own, and those of evaluations within it."""
    return [
        TrajectoryStore(folder)
        for folder in sorted({part.parent for part in run.glob("**/trajectories/**/*.jsonl")})
    ]


def load_tasksets(run: Path) -> list[TaskSet]:
    """Load the task sets that a run's manifest names. Raises RunError, TaskSetError."""
    names = _task_folders(_json_object(run / "manifest.json"))
    if not names:
        raise RunError(f"{run} does not say which tasks it ran; name them with --tasks")
    places = {name: next((p for p in (Path(name), run / name) if p.is_dir()), None) for name in names}
    for name, place in places.items():
        if place is None:
            raise RunError(f"the task set {name} is not there; say with --tasks where it is now")
    return [load_taskset(place) for place in places.values() if place is not None]


def choose(found: Sequence[_Item], limit: int) -> list[_Item]:
    """Return at most `limit` items, spread evenly over the run."""
    if len(found) <= limit:
        return list(found)
    return [found[index * len(found) // limit] for index in range(limit)]


def _read_shown(run: Path, data: RunData) -> None:
    """Choose trajectories by their index entries and read them."""
    found = []
    for store in stores(run):
        with store.index() as index:
            data.unread += index.unread
            for entry in index.entries():
                part = part_of((store.folder / entry.file).relative_to(run), entry.group)
                found.append((part, store, entry))
    data.total = len(found)
    order = parts_in_order(part for part, _, _ in found)
    chosen = sorted(choose(found, TRAJECTORY_LIMIT), key=lambda item: order.index(item[0]))
    for part, store, entry in chosen:
        data.trajectories += [Shown(part, trajectory) for trajectory in store.read_entries([entry])]


def part_of(path: Path, group: str) -> str:
    """Name the part of the run that a trajectory belongs to, from its file and its group.

    The name comes from an evaluation's folder (`evals/step-000010/trajectories/…`), else from the folder or
    file below `trajectories`, else from the beginning of the group (`step-12/TASK`).
    """
    where = path.parts.index("trajectories")
    below = path.parts[where + 1 : -1]
    if where > 0:
        return _readable(path.parts[where - 1])
    if below:
        return _readable(below[0])
    if not re.fullmatch(r"part-\d+", path.stem):
        return path.stem
    return re.sub(r"^step(-\d+)?$", "training", group.partition("/")[0]) if "/" in group else "training"


def _readable(name: str) -> str:
    step = re.fullmatch(r"step-(\d+)", name)
    return f"held out, step {int(step[1])}" if step else name


def parts_in_order(parts: Iterable[str]) -> list[str]:
    """Return the distinct parts of a run in chronological order, derived from their names."""
    known = ("oracle", "before", "demonstration", "warm", "held out, step 0", "training", "held out", "after")

    def place(part: str) -> tuple[int, int, str]:
        step = re.fullmatch(r"held out, step ([1-9]\d*)", part)
        name = "held out" if step else part
        return known.index(name) if name in known else len(known), int(step[1]) if step else 0, part

    return sorted(dict.fromkeys(parts), key=place)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except (OSError, ValueError):  # a name in a manifest may be no path at all
        return
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _read_tasks(run: Path, data: RunData) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tasks of every task set that the configuration or the manifest names."""
    configured = data.config.get("tasks")
    sets = configured.get("sets") if isinstance(configured, dict) else None
    names = {*_task_folders(data.manifest), *map(str, sets if isinstance(sets, list) else ()), run / "tasks"}
    for name in sorted(names, key=str):
        for base in (Path(name), run / name):
            for row in _json_lines(base / "tasks.jsonl"):
                if isinstance(row.get("id"), str):
                    yield row["id"], row


def _task_folders(manifest: dict[str, Any]) -> list[str]:
    tasks = manifest.get("tasks")
    return [str(name) for name in tasks] if isinstance(tasks, dict | list) else []


def _read_vocabulary(run: Path, data: RunData) -> dict[int, str]:
    """Return the text of every token id shown, by the first tokenizer in the run folder, if any."""
    ids = {
        token
        for shown in data.trajectories
        for turn in shown.trajectory.turns
        for token in turn.action.completion.token_ids
    }
    files = sorted(run.glob("**/tokenizer.json"), key=lambda path: (len(path.parts), path))
    if not ids or not files:
        return {}
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(files[0]))
    return {token: tokenizer.decode([token], skip_special_tokens=False) for token in sorted(ids)}


def outcome(trajectory: Trajectory) -> str:
    """Return `solved`, `failed` or `unscored`."""
    if trajectory.reward is None:
        return "unscored"
    return "solved" if trajectory.reward >= 1.0 else "failed"

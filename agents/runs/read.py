"""What a run folder holds, read back for people: the input of `agents.viewer.report`.

Copes with what is missing or cut short: `summary.json`, `metrics.jsonl`, `config.toml`, `manifest.json`,
`trajectories/*.jsonl`, and the task sets that they name.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..types import Trajectory

TRAJECTORY_LIMIT = 600
"""Trajectories embedded in a page; beyond it an even choice over the run is taken, and the page says so."""


@dataclass(frozen=True)
class Shown:
    """A trajectory and the file it came from, which names its part of the run."""

    part: str
    trajectory: Trajectory


@dataclass
class RunData:
    """What a run folder holds, as far as it could be read."""

    name: str
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    trajectories: list[Shown] = field(default_factory=list)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    vocabulary: dict[int, str] = field(default_factory=dict)
    total: int = 0
    """Trajectories in the folder, shown or not."""
    unread: int = 0
    """Lines that are no trajectory, such as one cut short by a crash."""


def read_run(run: Path) -> RunData:
    """Read a run folder; what is missing or broken is left out. Raises FileNotFoundError without a folder."""
    if not run.is_dir():
        raise FileNotFoundError(
            f"there is no run folder {run}; name one that `daythree train` or `eval` made"
        )
    data = RunData(name=run.resolve().name)
    data.summary = _json_object(run / "summary.json")
    data.manifest = _json_object(run / "manifest.json")
    config = run / "config.toml"
    if config.is_file():
        try:
            data.config = tomllib.loads(config.read_text(encoding="utf-8", errors="replace"))
        except tomllib.TOMLDecodeError:
            data.config = {}
    data.metrics = [
        row for row in _json_lines(run / "metrics.jsonl") if isinstance(row.get("step"), int | float)
    ]
    found, data.unread = _read_trajectories(run)
    data.total = len(found)
    order = parts_in_order(found)
    data.trajectories = sorted(choose(found, TRAJECTORY_LIMIT), key=lambda shown: order.index(shown.part))
    wanted = {shown.trajectory.task_id for shown in data.trajectories}
    data.tasks = {task: row for task, row in _read_tasks(run, data) if task in wanted}
    data.vocabulary = _read_vocabulary(run, data)
    return data


def choose(found: Sequence[Shown], limit: int) -> list[Shown]:
    """Return at most `limit` trajectories, spread evenly over the run."""
    if len(found) <= limit:
        return list(found)
    return [found[index * len(found) // limit] for index in range(limit)]


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


def _read_trajectories(run: Path) -> tuple[list[Shown], int]:
    adapter, found, unread = TypeAdapter(Trajectory), [], 0
    for path in sorted(run.glob("**/trajectories/**/*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                try:
                    trajectory = adapter.validate_json(line)
                except ValidationError:
                    unread += 1
                else:
                    found.append(Shown(part_of(path.relative_to(run), trajectory.group), trajectory))
    return found, unread


def part_of(path: Path, group: str) -> str:
    """Name the part of the run that a trajectory belongs to, from its file within the run and its group.

    An evaluation inside the run has a folder of its own (`evals/step-000010/trajectories/…`); otherwise the
    folder or file below `trajectories` says it, and at last the beginning of the group (`step-12/TASK`).
    """
    where = path.parts.index("trajectories")
    below = path.parts[where + 1 : -1]
    if where > 0:
        return _readable(path.parts[where - 1], "held out, step {}")
    if below:
        return _readable(below[0], "held out, step {}")
    if not re.fullmatch(r"part-\d+", path.stem):
        return path.stem
    return re.sub(r"^step(-\d+)?$", "training", group.partition("/")[0]) if "/" in group else "training"


def _readable(name: str, numbered: str) -> str:
    step = re.fullmatch(r"step-(\d+)", name)
    return numbered.format(int(step[1])) if step else name


def parts_in_order(found: Sequence[Shown]) -> list[str]:
    """Return the parts of the run in the order in which they happened, as far as their names tell."""
    known = ("oracle", "before", "demonstration", "warm", "held out, step 0", "training", "held out", "after")

    def place(part: str) -> tuple[int, int, str]:
        step = re.fullmatch(r"held out, step ([1-9]\d*)", part)
        name = "held out" if step else part
        return known.index(name) if name in known else len(known), int(step[1]) if step else 0, part

    return sorted(dict.fromkeys(shown.part for shown in found), key=place)


def _read_tasks(run: Path, data: RunData) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tasks of every task set whose folder the configuration or the manifest names."""
    names = {text for source in (data.config, data.manifest, data.summary) for text in _strings(source)}
    folders = {Path(name) for name in names if 0 < len(name) < 1024 and "\0" not in name}
    for folder in sorted(folders | {run / "tasks"}):
        for base in (folder, run / folder):
            for row in _json_lines(base / "tasks.jsonl"):
                if isinstance(row.get("id"), str):
                    yield row["id"], row


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (*_strings(key), *_strings(item))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


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

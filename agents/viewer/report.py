"""A run folder as one self-contained page: `write_report` makes `report.html`, `serve` shows it on loopback.

Text from a policy reaches the page as data, never as markup: the template escapes it, and the page's script
sets text nodes only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sandboxes.files import write_whole

from ..runs.index import STORED
from ..runs.read import RunData, Shown, outcome, parts_in_order, read_run
from ..types import Trajectory
from .charts import Mark, Point, learning_curve, sparkline

HEADLINES = (
    ("pass_rate_before", "before training", "rate"),
    ("pass_rate_warm", "after warm start", "rate"),
    ("pass_rate_after", "after RL", "rate"),
    ("pass_rate", "pass rate", "rate"),
    ("pass_rate_perturbed", "under other names", "rate"),
    ("gap", "gap to the same tasks", "rate"),
    ("heldout_first", "held out, at first", "rate"),
    ("heldout_last", "held out, at last", "rate"),
    ("oracle_pass_rate", "oracle", "rate"),
    ("tasks", "tasks", "count"),
    ("heldout", "held out", "count"),
    ("train_steps", "training steps", "count"),
    ("steps", "training steps", "count"),
    ("seconds", "training time", "seconds"),
    ("wall_s", "wall time", "seconds"),
)
REWARD_KEYS = ("pass_rate", "reward", "reward_mean", "mean_reward", "train_reward")
"""Metrics for the training curve, the first that is present: outcomes before rewards."""
SHOWN_IDS = {"tampered": 60, "failed": 60, "missing": 60, "passed": 12}
"""List of test ids in a verdict to the number of ids that the page shows."""
LOG_CHARS = 4_000
HELDOUT_KEYS = ("heldout_pass_rate", "heldout", "eval_pass_rate", "heldout_reward")


def write_report(run: Path) -> Path:
    """Write `run/report.html` from what the run folder holds, and return its path.

    Raises FileNotFoundError, with one sentence, where there is no such folder.
    """
    return write_whole(run / "report.html", render(read_run(run)))


def render(data: RunData) -> str:
    """Return the page for a run."""
    environment = Environment(
        loader=PackageLoader("agents.viewer", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        name=data.name,
        facts=_facts(data),
        note=_reward_note(data),
        headlines=_headlines(data.summary),
        curve=_curve(data),
        curve_narrow=_curve(data, width=420, height=280),
        sparklines=_sparklines(data.metrics),
        kinds=_kinds(data),
        times=_times(data),
        total=data.total,
        unread=data.unread,
        shown=len(data.trajectories),
        parts=embed(_parts(data)),
        index=embed([_index_entry(number, shown, data) for number, shown in enumerate(data.trajectories)]),
        tasks=embed({task: _task_view(row) for task, row in data.tasks.items()}),
        vocabulary=embed(data.vocabulary),
        bodies=[embed(_body(shown.trajectory)) for shown in data.trajectories],
    )


def embed(value: Any) -> Markup:
    """Return JSON that is safe inside a `<script type="application/json">`: no `<`, `>` or `&` in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def serve(page: Path, *, port: int = 0) -> ThreadingHTTPServer:
    """Return a loopback server of this one file; the caller runs and closes the server."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/", "/report.html"):
                self.send_error(404)
                return
            body = page.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            """Log nothing to the terminal."""

    return ThreadingHTTPServer(("127.0.0.1", port), Page)


def _facts(data: RunData) -> list[str]:
    summary, manifest = data.summary, data.manifest
    known = {**manifest, **summary}
    facts = [str(known[key]) for key in ("policy", "sandbox", "engine") if known.get(key)]
    if isinstance(manifest.get("started"), str):
        facts.append(manifest["started"][:16].replace("T", " "))
    if isinstance(manifest.get("commit"), str):
        facts.append(f"commit {manifest['commit'][:10]}")
    return facts


def _reward_note(data: RunData) -> str:
    """Return the note of a run whose reward was not the outcome."""
    return str(data.manifest.get("reward_note") or data.summary.get("reward_note") or "")


def _headlines(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    shown = []
    for key, label, form in HEADLINES:
        value = summary.get(key)
        if isinstance(value, list):
            value = len(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            shown.append({"label": label, "value": figure(value, form), "key": key, "form": form})
    return shown


def figure(value: float, form: str) -> str:
    """Format a number for display: a `rate` in per cent, `seconds` as minutes, a `count` as an integer."""
    if form == "rate":
        return f"{value * 100:.1f}".removesuffix(".0") + "%"
    if form == "seconds":
        if value < 1:
            return f"{value * 1e3:.0f} ms"
        return f"{value:.3g} s" if value < 90 else f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _column(metrics: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    return [
        (float(row["step"]), float(row[key]))
        for row in metrics
        if isinstance(row.get(key), int | float) and not isinstance(row[key], bool) and row[key] == row[key]
    ]


def _first_column(metrics: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[Point]:
    return next((points for key in keys if (points := _column(metrics, key))), [])


def _curve(data: RunData, **size: int) -> Markup | None:
    raw = _first_column(data.metrics, REWARD_KEYS)
    measured = _first_column(data.metrics, HELDOUT_KEYS)
    steps = [x for x, _ in raw] + [x for x, _ in measured]
    first = min(steps, default=0)
    last = max([*steps, float(data.summary.get("train_steps") or 0)], default=0)
    named = [
        Mark(step, float(value), f"{kind} {value * 100:.0f}%", kind)
        for kind, step in (("before", first), ("warm", first), ("after", last))
        if isinstance(value := data.summary.get(f"pass_rate_{kind}"), int | float)
    ]
    taken = {mark.x for mark in named}
    marks = named + [Mark(x, y, f"{y * 100:.0f}%", "heldout") for x, y in measured if x not in taken]
    if not raw and len(marks) < 2:
        return None
    return Markup(learning_curve(raw, marks, **size))


def _sparklines(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keys = dict.fromkeys(key for row in metrics for key in row if key not in ("step", "time"))
    rows = []
    for key in keys:
        points = _column(metrics, key)
        if len(points) > 1:
            first, last = f"{points[0][1]:.4g}", f"{points[-1][1]:.4g}"
            rows.append({"key": key, "first": first, "last": last, "svg": Markup(sparkline(points))})
    return rows


def _kinds(data: RunData) -> dict[str, Any] | None:
    """Return pass rates by kind of task (rows) and part of the run (columns); None without kinds."""
    cells: dict[str, dict[str, list[float]]] = {}
    for shown in data.trajectories:
        kind = data.tasks.get(shown.trajectory.task_id, {}).get("traits", {}).get("kind")
        if kind and shown.trajectory.reward is not None:
            cells.setdefault(str(kind), {}).setdefault(shown.part, []).append(shown.trajectory.reward)
    parts = _few(_parts(data))
    if not cells:
        return None
    rows = []
    for kind in sorted(cells):
        rates = [_rate(cells[kind].get(part, [])) for part in parts]
        rows.append({"kind": kind.replace("_", " "), "rates": rates})
    return {"parts": parts, "rows": rows}


def _parts(data: RunData) -> list[str]:
    return parts_in_order(shown.part for shown in data.trajectories)


def _few(parts: Sequence[str]) -> list[str]:
    """Reduce the columns: only the first and last evaluation, and a bounded number in all."""
    evaluations = [part for part in parts if part.startswith("held out, step")]
    return [part for part in parts if part not in evaluations[1:-1]][:6]


def _rate(rewards: Sequence[float]) -> dict[str, Any] | None:
    if not rewards:
        return None
    share = sum(rewards) / len(rewards)
    return {"share": share, "text": figure(share, "rate"), "count": len(rewards)}


def _times(data: RunData) -> list[dict[str, Any]]:
    """Sum the seconds of generation, tools and grading over the trajectories shown.

    The call that ends an episode includes its grading; that time counts as grading, not as tools.
    """
    sums = {"generating": 0.0, "tools": 0.0, "grading": 0.0}
    for shown in data.trajectories:
        turns, verdict = shown.trajectory.turns, shown.trajectory.verdict
        graded_s = verdict.duration_s if verdict else 0.0
        within = bool(turns) and turns[-1].acted_s >= graded_s
        sums["generating"] += sum(turn.generated_s for turn in turns)
        sums["tools"] += sum(turn.acted_s for turn in turns) - (graded_s if within else 0.0)
        sums["grading"] += graded_s
    whole = sum(sums.values())
    if whole <= 0:
        return []
    return [
        {"name": name, "share": value / whole, "text": figure(value, "seconds")}
        for name, value in sums.items()
    ]


def _task_view(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "instruction": str(row.get("instruction", "")),
        "reference": str(row.get("reference_patch", "")),
        "kind": str((row.get("traits") or {}).get("kind", "")),
    }


def _index_entry(number: int, shown: Shown, data: RunData) -> dict[str, Any]:
    trajectory = shown.trajectory
    return {
        "n": number,
        "part": shown.part,
        "task": trajectory.task_id,
        "outcome": outcome(trajectory),
        "turns": len(trajectory.turns),
        "stop": trajectory.stop.value,
        "tokens": sum(len(turn.action.completion.token_ids) for turn in trajectory.turns),
        "s": round(trajectory.duration_s, 1),
        "kind": str(data.tasks.get(trajectory.task_id, {}).get("traits", {}).get("kind", "")),
    }


def _body(trajectory: Trajectory) -> dict[str, Any]:
    """Return a trajectory as the page's script reads it; log-probabilities keep three digits."""
    body = STORED.dump_python(trajectory, mode="json")
    for turn in body["turns"]:
        completion = turn["action"]["completion"]
        completion["logprobs"] = [round(value, 3) for value in completion["logprobs"]]
        turn["action"]["prompt_tokens"] = len(turn["action"].pop("prompt_ids"))
    if body["verdict"]:
        _shorten(body["verdict"])
    return body


def _shorten(verdict: dict[str, Any]) -> None:
    """Shorten a verdict's lists of test ids and its log, which would bloat the page."""
    for how, shown in SHOWN_IDS.items():
        verdict[f"{how}_more"] = max(0, len(verdict[how]) - shown)
        verdict[how] = verdict[how][:shown]
    verdict["log"] = verdict["log"][-LOG_CHARS:]

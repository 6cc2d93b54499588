"""Charts for the report, as SVG text: no library, no scripts; colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line through points in order of x, drawn with the class `line-NAME`."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Mark:
    """One measured point with its name beside it, drawn with the class `mark-KIND`."""

    x: float
    y: float
    label: str
    kind: str


@dataclass(frozen=True)
class Frame:
    """Maps data coordinates to the picture's. y runs from 0 to `y_max`."""

    width: float
    height: float
    x_min: float
    x_max: float
    y_max: float
    left: float = 44
    right: float = 96
    top: float = 18
    bottom: float = 34

    def x(self, value: float) -> float:
        """Return the picture's x of a data x."""
        share = (value - self.x_min) / (self.x_max - self.x_min)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Return the picture's y of a data y."""
        return self.height - self.bottom - value / self.y_max * (self.height - self.top - self.bottom)


def smooth(points: Sequence[Point], share: float = 0.12) -> tuple[Point, ...]:
    """Return the mean over a window of neighbours on both sides, shorter at the ends."""
    reach = max(1, round(len(points) * share / 2))
    windows = [points[max(0, i - reach) : i + reach + 1] for i in range(len(points))]
    return tuple(
        (x, sum(y for _, y in window) / len(window)) for (x, _), window in zip(points, windows, strict=True)
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return round numbers from `low` to `high`, about `count` of them."""
    if high <= low:
        return [low]
    raw = (high - low) / max(1, count)
    magnitude = 10.0 ** len(str(int(raw))) / 10 if raw >= 1 else 1.0
    while magnitude > raw:
        magnitude /= 10
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= raw)
    first = ceil(low / step - 1e-9)
    last = floor(high / step + 1e-9)
    return [round(step * number, 9) for number in range(first, last + 1)]


def learning_curve(
    raw: Sequence[Point], marks: Sequence[Mark], *, width: int = 960, height: int = 320
) -> str:
    """Draw training outcomes (dots and their running mean) and held-out marks joined by a line, over steps.

    `raw` is (step, pass rate of the step's episodes); both axes' values are rates from 0 to 1. The
    y axis ends at the next quarter above the highest value, so that small rates stay readable.
    """
    xs = [x for x, _ in raw] + [mark.x for mark in marks]
    ys = [y for _, y in raw] + [mark.y for mark in marks]
    y_max = min(1.0, max(0.25, -(-max(ys, default=1.0) // 0.25) * 0.25))
    frame = Frame(width, height, min(xs, default=0), max(max(xs, default=1), min(xs, default=0) + 1), y_max)
    body = [*_grid(frame, y_max), *_steps(frame)]
    body += [f'<circle class="dot" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2"/>' for x, y in raw]
    if len(raw) > 2:
        body.append(_path(frame, Series("train", smooth(raw))))
    held = sorted(marks, key=lambda mark: mark.x)
    if len(held) > 1:
        body.append(_path(frame, Series("heldout", tuple((mark.x, mark.y) for mark in held))))
    body += _marks(frame, held)
    return _svg(width, height, body, "Training and held-out pass rate by step")


def sparkline(points: Sequence[Point], *, width: int = 160, height: int = 36) -> str:
    """Draw a small line without axes, scaled to its own range."""
    low, high = min(y for _, y in points), max(y for _, y in points)
    span = (high - low) or 1.0
    first, last = points[0][0], points[-1][0]
    frame = Frame(width, height, first, max(last, first + 1), 1.0, left=2, right=2, top=3, bottom=3)
    scaled = tuple((x, (y - low) / span) for x, y in points)
    return _svg(width, height, [_path(frame, Series("spark", scaled))], "")


def _grid(frame: Frame, y_max: float) -> list[str]:
    lines = []
    left, right = frame.left, frame.width - frame.right
    for value in ticks(0, y_max, 5):
        y = frame.y(value)
        lines.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text("tick", left - 8, y + 4, f"{value * 100:g}%", anchor="end"))
    return lines


def _steps(frame: Frame) -> list[str]:
    count = 4 if frame.width < 600 else 8
    y = frame.height - frame.bottom + 20
    values = [value for value in ticks(frame.x_min, frame.x_max, count) if value == int(value)]
    labels = [_text("tick", frame.x(value), y, f"{value:g}", anchor="middle") for value in values]
    return [*labels, _text("tick", frame.width - frame.right + 14, y, "step")]


def _marks(frame: Frame, marks: Sequence[Mark]) -> list[str]:
    """Draw points with labels; overlapping labels are moved apart."""
    out, placed = [], []
    for mark in marks:
        x, y = frame.x(mark.x), frame.y(mark.y)
        label_y = y - 12 if mark.x < frame.x_max else y + 4
        while any(abs(label_y - other_y) < 15 and abs(x - other_x) < 110 for other_x, other_y in placed):
            label_y -= 15
        placed.append((x, label_y))
        at_end = mark.x >= frame.x_max
        kind = escape(mark.kind, quote=True)
        out.append(f'<circle class="mark mark-{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
        out.append(_text(f"label mark-{kind}", x + (12 if at_end else 8), label_y, mark.label))
    return out


def _text(style: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(frame: Frame, series: Series) -> str:
    points = [(frame.x(x), frame.y(y)) for x, y in series.points]
    steps = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    steps += [f"L{x:.1f} {y:.1f}" for (_, _), (x, y) in pairwise(points)]
    return f'<path class="line line-{escape(series.name, quote=True)}" d="{" ".join(steps)}"/>'


def _svg(width: float, height: float, body: Sequence[str], title: str) -> str:
    label = f'role="img" aria-label="{escape(title, quote=True)}"' if title else 'aria-hidden="true"'
    return f'<svg viewBox="0 0 {width} {height}" {label}>{"".join(body)}</svg>'

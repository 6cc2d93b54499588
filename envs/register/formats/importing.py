"""Rows of other data sets become a task set: read, laid over their repositories, proven like any other task.

    file -> rows -> entries -> drafts -> proofs -> tasks -> folder

A row that cannot be honoured is refused with its place and its field, one that cannot be proven is
quarantined with what its runs gave, and the rest goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.tasksets.taskset import Manifest
from envs.tasksets.trees import Tree
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from ..errors import RegisterError, check_place, one_line
from ..project.project import canonical
from ..proof.confirm import write_confirmed
from ..proof.validate import Draft, Journal, Proof, validate_all
from ..runtime.runtimes import load_recipe
from .checkouts import Repositories
from .drafting import Drawn, draw
from .entry import Entry, Reading, RowError
from .listing import agree
from .places import Place, Places
from .reading import known_format, read_entries
from .tasks import make_task, split, trees_of

VALID, REFUSED, QUARANTINED = "valid", "refused", "quarantined"


@dataclass(frozen=True)
class Candidate:
    """One row of the filter report."""

    place: str
    """File and line."""
    id: str
    """As the row has it; empty when that could not be read."""
    result: str
    """`valid`, `refused` (it cannot be honoured) or `quarantined` (it could not be proven)."""
    reason: str = ""
    """`FIELD: what is wrong with it`."""
    dropped: tuple[str, ...] = ()
    """Names of PASS_TO_PASS that no run here confirmed, or that were flaky."""


@dataclass(frozen=True)
class SourceRow:
    """A row as it was, kept so that writing it again loses nothing."""

    id: str
    place: str
    row: dict[str, Any]


@dataclass(frozen=True)
class ImportReport:
    """What came of it, for people and programs."""

    folder: Path
    name: str
    format: str
    source: str
    tasks: int
    candidates: tuple[Candidate, ...]
    """Every row that was looked at, in the order of the file."""
    environments: tuple[str, ...]
    wall_s: float

    @property
    def left_out(self) -> tuple[Candidate, ...]:
        """Rows that became no task."""
        return tuple(each for each in self.candidates if each.result != VALID)

    @property
    def reasons(self) -> Mapping[str, int]:
        """Fields that rows failed at, with how many did."""
        return Counter(each.reason.partition(":")[0] for each in self.left_out)


def import_tasks(
    format_name: str,
    file: Path,
    out: Path,
    *,
    repos: Mapping[str, Path] | Path | None = None,
    images: bool = True,
    recipe: Path | None = None,
    backend: Backend,
    runs: int = 3,
    workers: int | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Make a task set of a file of rows, or of a folder of Harbor tasks.

    `repos` are local clones: a folder that holds `owner/name`, `owner__name` or `name`, with or without
    `.git`, or paths by name; what is not there is cloned. With `images` False, the Docker images that rows
    name are not used, and environments are built from the repositories instead; a `recipe` is the one
    environment of every row that brings none.
    Raises RegisterError, in one line; then nothing was written.
    """
    started = time.monotonic()
    known_format(format_name)
    check_place(out)
    name = canonical(out.name)
    with one_line(), Repositories(repos) as repositories:
        fixed = load_recipe(recipe) if recipe else None
        places = Places(name, backend, images=images, fixed=fixed, progress=progress)
        desk = Desk(name, repositories, places)
        proofs = validate_all(
            desk.drafts(read_entries(format_name, file)),
            places.environments,
            backend=backend,
            runs=runs,
            workers=workers,
            journal=Journal.of(f"import-{name}"),
            progress=progress,
        )
        with closing(proofs):
            for proof in proofs:
                desk.take(proof)
                if limit is not None and len(desk.tasks) >= limit:
                    break
        if not desk.tasks:
            raise RegisterError(f"no row of {file} makes a task: {_told(desk.candidates)}")
        manifest = Manifest(name, format_name, file.name, places.used(desk.tasks))
        confirmed = write_confirmed(
            out,
            manifest,
            split(desk.tasks, desk.fresh),
            desk.trees,
            records={"candidates": desk.candidates, "rows": desk.rows},
            evidence={"runs": runs, "rows": desk.evidence},
            backend=backend,
            workers=workers,
            progress=progress,
        )
        desk.give_up(confirmed.quarantined)
    return ImportReport(
        folder=out,
        name=name,
        format=format_name,
        source=str(file),
        tasks=len(confirmed.taskset.tasks),
        candidates=tuple(desk.candidates),
        environments=tuple(manifest.environments),
        wall_s=time.monotonic() - started,
    )


class Desk:
    """Where rows become drafts and proofs become tasks; knows what became of every row."""

    def __init__(self, name: str, repositories: Repositories, places: Places) -> None:
        self.tasks: list[Task] = []
        self.trees: list[Tree] = []
        self.rows: list[SourceRow] = []
        self.evidence: dict[str, Any] = {}
        self.fresh: set[str] = set()
        """Ids of tasks whose row had no split."""
        self._name, self._repositories, self._places = name, repositories, places
        self._seen: dict[str, str] = {}
        self._results: dict[str, Candidate] = {}
        self._open: dict[str, tuple[Drawn, Place]] = {}

    @property
    def candidates(self) -> list[Candidate]:
        """What became of each row that was looked at, in their order."""
        pending = {self._seen[each] for each in self._open}
        return [each for place, each in self._results.items() if place not in pending]

    def drafts(self, readings: Iterable[Reading]) -> Iterator[Draft]:
        """Yield what can be proven; what cannot be honoured is refused here."""
        for each in readings:
            self._results[each.place] = Candidate(each.place, each.id, REFUSED, each.error)
            if each.entry is None:
                continue
            try:
                yield self._draft(each.place, each.entry)
            except RowError as error:
                self._results[each.place] = Candidate(each.place, each.id, REFUSED, str(error))

    def _draft(self, place: str, entry: Entry) -> Draft:
        if entry.id in self._seen:
            raise RowError(f"instance_id: {entry.id!r} is already at {self._seen[entry.id]}")
        self._seen[entry.id] = place
        drawn = draw(entry, self._repositories)
        found = self._places.find(drawn)
        drawn = drawn.over(found.added)
        self._open[entry.id] = drawn, found
        return Draft(
            id=entry.id,
            environment=found.environment,
            base=drawn.base,
            solved=drawn.solved,
            reference_patch=drawn.reference_patch,
            test_files=drawn.test_files,
            origin=place,
            named=drawn.test_files,
            workdir=found.workdir,
        )

    def take(self, proof: Proof) -> None:
        """Turn a proof into a task, or into the reason why it makes none."""
        drawn, found = self._open.pop(proof.id)
        place = self._seen[proof.id]
        try:
            listed = agree(drawn.entry, proof)
        except RowError as error:
            reason = str(error)
            self._results[place] = Candidate(place, proof.id, QUARANTINED, reason)
            self.evidence[proof.id] = {"result": reason, **proof.evidence}
            return
        self.tasks.append(make_task(self._name, drawn, found, proof, listed))
        if drawn.entry.task is None:
            self.fresh.add(proof.id)
        self.trees += trees_of(drawn)
        self.rows.append(SourceRow(proof.id, place, dict(drawn.entry.row)))
        self.evidence[proof.id] = {"result": VALID, **proof.evidence}
        self._results[place] = Candidate(place, proof.id, VALID, dropped=listed.dropped)

    def give_up(self, reasons: Mapping[str, str]) -> None:
        """Quarantine tasks that did not hold when the whole set was examined."""
        for name, reason in reasons.items():
            place = self._seen[name]
            self._results[place] = Candidate(place, name, QUARANTINED, f"the task: {reason}")


def _told(candidates: Sequence[Candidate]) -> str:
    """The first reasons, in full: a file whose rows all fail mostly fails for one."""
    told = [f"{each.place}: {each.reason}" for each in candidates[:3]]
    left = len(candidates) - len(told)
    return "; ".join(told) + (f"; and {left} more" if left > 0 else "") if told else "it has no rows"

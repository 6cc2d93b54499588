"""Make a task set of other data sets' rows: read, laid over their repositories, proven like any other task.

    file -> rows -> entries -> drafts -> proofs -> tasks -> folder

A row that cannot be honoured is refused with its place and its field, one that cannot be proven is
quarantined with the reason, and the rest goes on.
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

from ..errors import RegisterError, one_line
from ..project.project import canonical
from ..proof.draft import prove_drafts
from ..proof.proofs import Draft, Journal, Proof
from ..proof.taskset import Proposal, write_proven
from ..runtime.runtimes import load_recipe
from ..settings import RegisterSettings
from .checkouts import Repositories
from .entry import Entry, Reading, RowError
from .listing import agree
from .reading import known_format, read_entries
from .resolving import ResolvedEntry, resolve_entry
from .row_runtimes import RowRuntime, RowRuntimes
from .tasks import make_task, split, trees_of

VALID, REFUSED, QUARANTINED = "valid", "refused", "quarantined"


@dataclass(frozen=True)
class RowResult:
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
    """Result of `import_tasks`, for people and programs."""

    folder: Path
    name: str
    format: str
    source: str
    tasks: int
    candidates: tuple[RowResult, ...]
    """Every row that was looked at, in the order of the file."""
    environments: tuple[str, ...]
    wall_s: float

    @property
    def left_out(self) -> tuple[RowResult, ...]:
        """Rows that became no task."""
        return tuple(row for row in self.candidates if row.result != VALID)

    @property
    def reasons(self) -> Mapping[str, int]:
        """Fields that rows failed at, with how many did."""
        return Counter(row.reason.partition(":")[0] for row in self.left_out)


def import_tasks(
    format_name: str,
    file: Path,
    settings: RegisterSettings,
    *,
    repos: Mapping[str, Path] | Path | None = None,
    images: bool = True,
    recipe: Path | None = None,
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
    settings.check()
    name = canonical(settings.out.name)
    with one_line(), Repositories(repos) as repositories:
        fixed = load_recipe(recipe) if recipe else None
        runtimes = RowRuntimes(name, settings.backend, images=images, fixed=fixed, progress=settings.progress)
        ledger = ImportLedger(name, repositories, runtimes)
        drafts, journal = ledger.drafts(read_entries(format_name, file)), Journal.of(f"import-{name}")
        with closing(prove_drafts(drafts, runtimes.environments, settings, journal=journal)) as proofs:
            for proof in proofs:
                ledger.take(proof)
                if settings.limit is not None and len(ledger.tasks) >= settings.limit:
                    break
        if not ledger.tasks:
            raise RegisterError(f"no row of {file} makes a task: {_first_reasons(ledger.candidates)}")
        proposal = Proposal(
            Manifest(name, format_name, file.name, runtimes.used(ledger.tasks)),
            split(ledger.tasks, ledger.fresh, settings.heldout),
            ledger.trees,
            records={"candidates": ledger.candidates, "rows": ledger.rows},
            evidence={"runs": settings.runs, "rows": ledger.evidence},
        )
        written = write_proven(proposal, settings)
        ledger.give_up(written.quarantined)
    return ImportReport(
        folder=settings.out,
        name=name,
        format=format_name,
        source=str(file),
        tasks=len(written.taskset.tasks),
        candidates=tuple(ledger.candidates),
        environments=tuple(proposal.manifest.environments),
        wall_s=time.monotonic() - started,
    )


class ImportLedger:
    """Turns rows into drafts and proofs into tasks, and records the result of every row."""

    def __init__(self, name: str, repositories: Repositories, runtimes: RowRuntimes) -> None:
        self.tasks: list[Task] = []
        self.trees: list[Tree] = []
        self.rows: list[SourceRow] = []
        self.evidence: dict[str, Any] = {}
        self.fresh: set[str] = set()
        """Ids of tasks whose row had no split."""
        self._name, self._repositories, self._runtimes = name, repositories, runtimes
        self._seen: dict[str, str] = {}
        self._results: dict[str, RowResult] = {}
        self._open: dict[str, tuple[ResolvedEntry, RowRuntime]] = {}

    @property
    def candidates(self) -> list[RowResult]:
        """The result of each row that was looked at, in the order of the file."""
        pending = {self._seen[each] for each in self._open}
        return [each for place, each in self._results.items() if place not in pending]

    def drafts(self, readings: Iterable[Reading]) -> Iterator[Draft]:
        """Yield a draft for each row that can be honoured; the other rows are refused here."""
        for row in readings:
            self._results[row.place] = RowResult(row.place, row.id, REFUSED, row.error)
            if row.entry is None:
                continue
            try:
                yield self._draft(row.place, row.entry)
            except RowError as error:
                self._results[row.place] = RowResult(row.place, row.id, REFUSED, str(error))

    def _draft(self, place: str, entry: Entry) -> Draft:
        if entry.id in self._seen:
            raise RowError(f"instance_id: {entry.id!r} is already at {self._seen[entry.id]}")
        self._seen[entry.id] = place
        resolved = resolve_entry(entry, self._repositories)
        found = self._runtimes.find(resolved)
        resolved = resolved.over(found.added)
        self._open[entry.id] = resolved, found
        return Draft(
            id=entry.id,
            environment=found.environment,
            base=resolved.base,
            solved=resolved.solved,
            reference_patch=resolved.reference_patch,
            test_files=resolved.test_files,
            origin=place,
            named=resolved.test_files,
            workdir=found.workdir,
        )

    def take(self, proof: Proof) -> None:
        """Turn a proof into a task, or into the reason why it makes none."""
        resolved, found = self._open.pop(proof.id)
        place = self._seen[proof.id]
        try:
            listed = agree(resolved.entry, proof)
        except RowError as error:
            reason = str(error)
            self._results[place] = RowResult(place, proof.id, QUARANTINED, reason)
            self.evidence[proof.id] = {"result": reason, **proof.evidence}
            return
        self.tasks.append(make_task(self._name, resolved, found, proof, listed))
        if resolved.entry.task is None:
            self.fresh.add(proof.id)
        self.trees += trees_of(resolved)
        self.rows.append(SourceRow(proof.id, place, dict(resolved.entry.row)))
        self.evidence[proof.id] = {"result": VALID, **proof.evidence}
        self._results[place] = RowResult(place, proof.id, VALID, dropped=listed.dropped)

    def give_up(self, reasons: Mapping[str, str]) -> None:
        """Quarantine tasks that did not hold when the whole set was examined."""
        for name, reason in reasons.items():
            place = self._seen[name]
            self._results[place] = RowResult(place, name, QUARANTINED, f"the task: {reason}")


def _first_reasons(results: Sequence[RowResult]) -> str:
    """The first reasons, in full: a file whose rows all fail mostly fails for one."""
    if not results:
        return "it has no rows"
    shown = [f"{result.place}: {result.reason}" for result in results[:3]]
    left = len(results) - len(shown)
    return "; ".join(shown) + (f"; and {left} more" if left else "")

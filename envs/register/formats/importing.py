"""Make a task set from the rows of another data set, and validate each row by running its tests.

    file -> rows -> entries -> drafts -> proofs -> tasks -> folder

A row with an unusable field is refused, a row whose tests contradict the row is quarantined; both are
recorded with a reason, and the import continues.
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
    """The result of one row, as in `RowResult("rows.jsonl, line 3", "a__b-1", "valid")`."""

    place: str
    """File and line."""
    id: str
    """The row's own id; empty when unreadable."""
    result: str
    """`valid`, `refused` (a field is unusable) or `quarantined` (test runs contradict the row)."""
    reason: str = ""
    """`FIELD: what is wrong with it`."""
    dropped: tuple[str, ...] = ()
    """PASS_TO_PASS names that no run confirmed, and flaky tests."""


@dataclass(frozen=True)
class SourceRow:
    """A row in its original form, so that an export loses no field."""

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
    """The results of all rows read, in file order."""
    environments: tuple[str, ...]
    wall_s: float

    @property
    def left_out(self) -> tuple[RowResult, ...]:
        """The refused and quarantined rows."""
        return tuple(row for row in self.candidates if row.result != VALID)

    @property
    def reasons(self) -> Mapping[str, int]:
        """Number of refused and quarantined rows by field."""
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
    """Make a task set from a file of rows, or from a folder of Harbor tasks.

    `repos` are local clones: a folder with `owner/name`, `owner__name` or `name`, with or without `.git`, or
    paths by name; other repositories are cloned. With `images` False, the rows' Docker images are ignored and
    environments are built for the repositories instead. `recipe` is the environment of every row without a
    complete environment.
    Raises RegisterError of one line, in which case nothing was written.
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
        """Ids of tasks without a split in their row."""
        self._name, self._repositories, self._runtimes = name, repositories, runtimes
        self._seen: dict[str, str] = {}
        self._results: dict[str, RowResult] = {}
        self._open: dict[str, tuple[ResolvedEntry, RowRuntime]] = {}

    @property
    def candidates(self) -> list[RowResult]:
        """The results of all rows read, in file order; rows without a proof yet are absent."""
        pending = {self._seen[number] for number in self._open}
        return [result for place, result in self._results.items() if place not in pending]

    def drafts(self, readings: Iterable[Reading]) -> Iterator[Draft]:
        """Yield a draft for each usable row, and record the other rows as refused."""
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
        """Add the task of a proof, or record why the proof makes no task."""
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
        """Quarantine tasks that the final check of the whole set rejected; `reasons` is by task id."""
        for name, reason in reasons.items():
            place = self._seen[name]
            self._results[place] = RowResult(place, name, QUARANTINED, f"the task: {reason}")


def _first_reasons(results: Sequence[RowResult]) -> str:
    """Return the first three reasons: rows of a file that all fail mostly share a reason."""
    if not results:
        return "it has no rows"
    shown = [f"{result.place}: {result.reason}" for result in results[:3]]
    left = len(results) - len(shown)
    return "; ".join(shown) + (f"; and {left} more" if left else "")

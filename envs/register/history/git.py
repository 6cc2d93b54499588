"""Turn a repository's history into a task set: every change that has tests is tried, newest first.

    history -> changes with code and tests -> environment of the time -> proof -> words -> folder

What was looked at, and why it became a task or not, is in the set's `candidates.jsonl`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envs.tasksets.taskset import Manifest, PullRequest
from envs.tasksets.trees import digest
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from ..errors import RegisterError, check_place, one_line, plain_name
from ..proof.confirm import Confirmed, write_confirmed
from ..proof.drafts import VALID, WRONG_PYTHON, Proof
from ..proof.journal import Journal
from ..proof.validate import validate_all
from ..proof.withheld import withheld
from ..runtime.build import image_digests
from ..runtime.runtimes import Environments, load_recipe
from .authorship import lineage
from .exports import Exports, read_exports
from .fixes import Fix, fitting_limits
from .mainline import History, open_history
from .pulls import issues_of, past_changes
from .statements import Words, write_statement
from .walk import Candidate, Walk

HISTORY_S = 600.0
"""Deadline for fetching and walking a history."""
HELDOUT = 0.25
"""Share of tasks, the newest ones, that training never sees: no training tree holds their fixes."""
WORKDIR = "/workspace"


@dataclass(frozen=True)
class Looked:
    """One change of the history, and what came of it: a row of `candidates.jsonl`."""

    commit: str
    key: str
    title: str
    result: str
    """The id of the task it became, or why it became none."""


@dataclass(frozen=True)
class GitReport:
    """What came of it, for people and programs."""

    folder: Path
    name: str
    source: str
    tasks: int
    heldout: int
    looked_at: int
    """Changes of the history that were looked at, newest first."""
    candidates: int
    """Those that change code and tests."""
    built: int
    """Those whose environment builds, with a Python that their tests are for."""
    dropped: Mapping[str, int]
    """Why changes made no task."""
    environments: tuple[str, ...]
    flaky_tests: int
    bytes_per_task: int
    wall_s: float
    quarantined: Mapping[str, str]
    """Tasks that were proven and did not hold when they were examined, each with its reason."""


@dataclass(frozen=True)
class _Told:
    """What people wrote, for each change of the history: as past changes show it, and as a task would."""

    past: Sequence[PullRequest]
    words: Sequence[Words]


@dataclass(frozen=True)
class _Made:
    """A task, and what it was made from."""

    task: Task
    candidate: Candidate
    proof: Proof


def register_git(
    source: str,
    out: Path,
    *,
    limit: int,
    runs: int = 3,
    name: str | None = None,
    recipe: Path | None = None,
    exports: Sequence[Path] = (),
    backend: Backend,
    heldout: float = HELDOUT,
    workers: int | None = None,
    progress: Progress = silent,
) -> GitReport:
    """Make at most `limit` tasks from a history, newest changes first, and write them as a task set to `out`.

    `name` is the set's, by default the repository's. `recipe` names the one environment of all tasks, where
    it should not be found out; `exports` are what GitHub's API said about pull requests and issues. A call
    that was interrupted and is made again goes on with the proofs it had. Raises RegisterError, in one line;
    then nothing was written and no sandbox is left.
    """
    started = time.monotonic()
    check_place(out)
    if limit < 1 or runs < 2:
        raise RegisterError("at least one task (--limit) and two runs of the tests are needed")
    with one_line(), open_history(source, timeout_s=HISTORY_S) as history:
        name = plain_name(name or history.name, "history")
        fixed = load_recipe(recipe) if recipe else None
        walk = Walk(history, Environments(name, progress=progress, fixed=fixed), backend, progress)
        told = _told(history, read_exports(exports))
        proven = _proven(walk, limit=limit, runs=runs, workers=workers)
        if not proven:
            raise RegisterError(f"no change of {name} makes a task: {_reasons(walk)}")
        made = _tasks(name, proven, told, heldout=heldout)
        manifest = Manifest(name, "git", f"{source} at {history.head}", {})
        evidence = {
            "minutes": round((time.monotonic() - started) / 60, 2),
            "looked_at": len(walk.results),
            "dropped": dict(_dropped(walk).most_common()),
        }
        confirmed = _write(out, manifest, walk, made, told, evidence=evidence)
    return _report(confirmed, walk, made, wall_s=time.monotonic() - started)


def _proven(walk: Walk, *, limit: int, runs: int, workers: int | None) -> list[tuple[Candidate, Proof]]:
    """Prove changes until there are enough tasks; oldest first."""
    what, proven = f"proving changes of {walk.environments.name}", list[tuple[Candidate, Proof]]()
    proofs = validate_all(
        walk.drafts(),
        walk.environments.chosen,
        backend=walk.backend,
        runs=runs,
        workers=workers,
        journal=Journal.of(walk.environments.name),
        progress=silent,
    )
    walk.progress(what, 0, limit)
    with closing(proofs):
        for proof in proofs:
            candidate = walk.pending.pop(proof.id)
            walk.results[candidate.place] = proof.result
            if proof.result == VALID:
                proven.append((candidate, proof))
                walk.progress(what, len(proven), limit)
            if len(proven) == limit:
                break
    return proven[::-1]


def _tasks(
    name: str, proven: Sequence[tuple[Candidate, Proof]], told: _Told, *, heldout: float
) -> list[_Made]:
    training = len(proven) - round(heldout * len(proven)) if len(proven) > 1 else 1
    made = []
    for number, (candidate, proof) in enumerate(proven, start=1):
        task = _task(f"{name}-{number:04d}", candidate, proof, told)
        split = "train" if number <= training else "heldout"
        made.append(_Made(replace(task, set=name, split=split), candidate, proof))
    return made


def _task(task_id: str, candidate: Candidate, proof: Proof, told: _Told) -> Task:
    place, fix = candidate.place, candidate.fix
    earlier = told.past[:place]
    change, key = candidate.change, told.past[place].key
    number = int(key) if key.isdigit() else None
    hidden = withheld(earlier, fix.base, fix.reference_patch, change.commit, number=number)
    shown = {row.key for row in earlier} - {*hidden}
    return Task(
        id=task_id,
        set="",
        split="train",
        environment=candidate.environment,
        workdir=WORKDIR,
        instruction=write_statement(told.words[place], fix, proof.failures, past=shown),
        source_digest=digest(fix.base),
        base_patch="",
        reference_patch=fix.reference_patch,
        base_digest=digest(fix.base),
        tests_digest=digest(fix.trusted),
        fail_to_pass=proof.fail_to_pass,
        pass_to_pass=proof.pass_to_pass,
        hidden_tests=_hidden(fix, proof.fail_to_pass),
        test_files=proof.test_files,
        past=place,
        cutoff=earlier[-1].merged_at if earlier else "",
        withheld=hidden,
        limits=fitting_limits(fix.reference_patch, proof.test_s),
        traits={
            "kind": change.kind,
            "commit": change.commit,
            "base_commit": change.base,
            "files": len(fix.code),
            "lines": fix.lines,
            "failing": len(proof.fail_to_pass),
            "tests": len(proof.fail_to_pass) + len(proof.pass_to_pass),
        },
    )


def _told(history: History, exports: Exports) -> _Told:
    """A change is described by the issue it closes, where an export knows it, else by its own words."""
    past, words = past_changes(history, exports), list[Words]()
    for row, issues in zip(past, issues_of(history, exports), strict=True):
        asked = [part for issue in issues for part in (issue.title, issue.body)]
        words.append(Words(asked[0], "\n\n".join(asked[1:])) if asked else Words(row.title, row.body))
    return _Told(past, words)


def _hidden(fix: Fix, tests: Sequence[str]) -> tuple[str, ...]:
    """Those of the tests that are in files which the policy's tree does not have as they are graded."""
    return tuple(test for test in tests if fix.base.get(file := test.split("::")[0]) != fix.solved.get(file))


def _write(
    out: Path, manifest: Manifest, walk: Walk, made: Sequence[_Made], told: _Told, *, evidence: dict[str, Any]
) -> Confirmed:
    used = {each.task.environment for each in made}
    environments = {key: value for key, value in walk.environments.chosen.items() if key in used}
    newest = max(each.candidate.place for each in made)
    return write_confirmed(
        out,
        replace(manifest, environments=environments),
        [each.task for each in made],
        [tree for each in made for tree in (each.candidate.fix.base, each.candidate.fix.trusted)],
        prs=told.past[: newest + 1],
        records={
            "candidates": _looked(walk, made, told.past),
            "lineage": lineage(walk.history, {each.candidate.change.base for each in made}),
        },
        evidence={
            **evidence,
            "images": image_digests(environments.values()),
            "tasks": {each.task.id: each.proof.evidence for each in made},
        },
        backend=walk.backend,
        progress=walk.progress,
    )


def _looked(walk: Walk, made: Sequence[_Made], past: Sequence[PullRequest]) -> list[Looked]:
    became = {each.candidate.place: each.task.id for each in made}
    changes = walk.history.changes
    return [
        Looked(changes[place].commit, past[place].key, changes[place].title, became.get(place, result))
        for place, result in sorted(walk.results.items(), reverse=True)
    ]


def _dropped(walk: Walk) -> Counter[str]:
    return Counter(result for result in walk.results.values() if result != VALID)


def _reasons(walk: Walk) -> str:
    counts = _dropped(walk).most_common(4)
    return ", ".join(f"{reason}: {number}" for reason, number in counts) or "its history is empty"


def _report(confirmed: Confirmed, walk: Walk, made: Sequence[_Made], *, wall_s: float) -> GitReport:
    taskset = confirmed.taskset
    size = sum(path.stat().st_size for path in taskset.folder.iterdir())
    return GitReport(
        folder=taskset.folder,
        name=taskset.name,
        source=taskset.manifest.source,
        tasks=len(taskset.tasks),
        heldout=len(taskset.split("heldout")),
        looked_at=len(walk.results),
        candidates=len(walk.with_tests & walk.results.keys()),
        built=sum(walk.results.get(place, WRONG_PYTHON) != WRONG_PYTHON for place in walk.built),
        dropped=dict(_dropped(walk).most_common()),
        environments=tuple(taskset.manifest.environments),
        flaky_tests=sum(len(each.proof.flaky) for each in made),
        bytes_per_task=size // len(made),
        wall_s=wall_s,
        quarantined=confirmed.quarantined,
    )

"""Turn a repository's history into a task set: every change that has tests is tried, newest first.

    history -> changes with code and tests -> environment of the time -> proof -> instruction -> folder

Every examined change has a row in the set's `candidates.jsonl`, with the id of its task or the reason why the
change makes no task.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from envs.tasksets.taskset import Manifest, PullRequest
from envs.tasksets.trees import digest
from envs.types import Task
from sandboxes.progress import silent

from ..errors import RegisterError, one_line, plain_name
from ..proof.draft import prove_drafts
from ..proof.hidden import VISIBLE, hidden_tests
from ..proof.proofs import VALID, WRONG_PYTHON, Journal, Proof
from ..proof.taskset import Proposal, Written, write_proven
from ..proof.withheld import withheld
from ..runtime.build import image_digests
from ..runtime.runtimes import Environments, load_recipe
from ..settings import RegisterSettings
from .authorship import lineage
from .exports import Exports, read_exports
from .fixes import Fix, fitting_limits
from .mainline import History, open_history
from .pulls import issues_of, past_changes
from .statements import Words, write_statement
from .walk import ProvableChange, Walk

HISTORY_S = 600.0
"""Deadline for cloning and walking a history."""
WORKDIR = "/workspace"


@dataclass(frozen=True)
class ChangeResult:
    """One change of the history and its result: a row of `candidates.jsonl`."""

    commit: str
    key: str
    title: str
    result: str
    """The id of the change's task, or the reason why the change makes no task."""


@dataclass(frozen=True)
class GitReport:
    """Result of `register_git`, for people and programs."""

    folder: Path
    name: str
    source: str
    tasks: int
    heldout: int
    looked_at: int
    """Number of examined changes."""
    candidates: int
    """Number of examined changes that alter code and tests."""
    built: int
    """Number of candidates whose environment builds, with a Python that their tests are for."""
    dropped: Mapping[str, int]
    """Reason why changes make no task, to the number of changes."""
    environments: tuple[str, ...]
    flaky_tests: int
    bytes_per_task: int
    wall_s: float
    quarantined: Mapping[str, str]
    """Task id to reason, for tasks that failed the proof of the whole set."""


@dataclass(frozen=True)
class _Texts:
    """The texts about each change of the history: for the `prs` tool, and for a task's instruction."""

    past: Sequence[PullRequest]
    words: Sequence[Words]


@dataclass(frozen=True)
class _Made:
    """A task with its change and proof."""

    task: Task
    provable: ProvableChange
    proof: Proof


def register_git(
    source: str,
    settings: RegisterSettings,
    *,
    name: str | None = None,
    recipe: Path | None = None,
    exports: Sequence[Path] = (),
) -> GitReport:
    """Make tasks from a history, newest changes first, and write them as a task set.

    `name` is the name of the set; None takes the repository's name. `recipe` is a file with one environment
    for all tasks; None derives environments from the history. `exports` are files or folders with answers of
    GitHub's API about pull requests and issues. The newest tasks are held out, so that no training tree holds
    their fixes. After an interruption, the same call reuses the proofs made so far. Raises RegisterError with
    a message of one line; in that case nothing was written and no sandbox is left.
    """
    started = time.monotonic()
    settings.check()
    with one_line(), open_history(source, timeout_s=HISTORY_S) as history:
        name = plain_name(name or history.name, "history")
        fixed = load_recipe(recipe) if recipe else None
        environments = Environments(name, progress=settings.progress, fixed=fixed)
        walk = Walk(history, environments, settings.backend, settings.progress)
        texts = _texts(history, read_exports(exports))
        proven = _proven(walk, settings)
        if not proven:
            raise RegisterError(f"no change of {name} makes a task: {_reasons(walk)}")
        made = _tasks(name, proven, texts, heldout=settings.heldout)
        proposal = _proposal(Manifest(name, "git", f"{source} at {history.head}", {}), walk, made, texts)
        evidence = {
            "minutes": round((time.monotonic() - started) / 60, 2),
            "looked_at": len(walk.results),
            "dropped": dict(_dropped(walk).most_common()),
        }
        written = write_proven(replace(proposal, evidence={**evidence, **proposal.evidence}), settings)
    return _report(written, walk, made, wall_s=time.monotonic() - started)


def _proven(walk: Walk, settings: RegisterSettings) -> list[tuple[ProvableChange, Proof]]:
    """Prove changes, newest first, until `settings.limit` are valid; return these oldest first."""
    name, limit = walk.environments.name, settings.limit
    what, proven = f"proving changes of {name}", list[tuple[ProvableChange, Proof]]()
    quiet = replace(settings, progress=silent)
    proofs = prove_drafts(walk.drafts(), walk.environments.chosen, quiet, journal=Journal.of(name))
    settings.progress(what, 0, limit or 0)
    with closing(proofs):
        for proof in proofs:
            provable = walk.pending.pop(proof.id)
            walk.results[provable.place] = proof.result
            if proof.result == VALID and not _hidden(provable.fix, proof):
                walk.results[provable.place] = VISIBLE
            elif proof.result == VALID:
                proven.append((provable, proof))
                settings.progress(what, len(proven), limit or 0)
            if len(proven) == limit:
                break
    return proven[::-1]


def _tasks(
    name: str, proven: Sequence[tuple[ProvableChange, Proof]], texts: _Texts, *, heldout: float
) -> list[_Made]:
    training = len(proven) - round(heldout * len(proven)) if len(proven) > 1 else 1
    made = []
    for number, (provable, proof) in enumerate(proven, start=1):
        task = _task(f"{name}-{number:04d}", provable, proof, texts)
        split = "train" if number <= training else "heldout"
        made.append(_Made(replace(task, set=name, split=split), provable, proof))
    return made


def _task(task_id: str, provable: ProvableChange, proof: Proof, texts: _Texts) -> Task:
    place, fix = provable.place, provable.fix
    earlier = texts.past[:place]
    change, key = provable.change, texts.past[place].key
    number = int(key) if key.isdigit() else None
    hidden = withheld(earlier, fix.base, fix.reference_patch, change.commit, number=number)
    shown = {row.key for row in earlier} - {*hidden}
    return Task(
        id=task_id,
        set="",
        split="train",
        environment=provable.environment,
        workdir=WORKDIR,
        instruction=write_statement(texts.words[place], fix, proof.failures, past=shown),
        source_digest=digest(fix.base),
        base_patch="",
        reference_patch=fix.reference_patch,
        base_digest=digest(fix.base),
        tests_digest=digest(fix.trusted),
        fail_to_pass=proof.fail_to_pass,
        pass_to_pass=proof.pass_to_pass,
        hidden_tests=_hidden(fix, proof),
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


def _texts(history: History, exports: Exports) -> _Texts:
    """Describe every change by the exported issues that the change closes, else by its own title and body."""
    past, words = past_changes(history, exports), list[Words]()
    for row, issues in zip(past, issues_of(history, exports), strict=True):
        asked = [part for issue in issues for part in (issue.title, issue.body)]
        words.append(Words(asked[0], "\n\n".join(asked[1:])) if asked else Words(row.title, row.body))
    return _Texts(past, words)


def _hidden(fix: Fix, proof: Proof) -> tuple[str, ...]:
    """Return the failing tests that the policy's tree does not hold as they are graded."""
    return hidden_tests(proof.fail_to_pass, fix.base, fix.solved)


def _proposal(manifest: Manifest, walk: Walk, made: Sequence[_Made], texts: _Texts) -> Proposal:
    used = {proven.task.environment for proven in made}
    environments = {key: value for key, value in walk.environments.chosen.items() if key in used}
    newest = max(proven.provable.place for proven in made)
    return Proposal(
        replace(manifest, environments=environments),
        [proven.task for proven in made],
        [tree for proven in made for tree in (proven.provable.fix.base, proven.provable.fix.trusted)],
        prs=texts.past[: newest + 1],
        records={
            "candidates": _results(walk, made, texts.past),
            "lineage": lineage(walk.history, {proven.provable.change.base for proven in made}),
        },
        evidence={
            "images": image_digests(environments.values()),
            "tasks": {proven.task.id: proven.proof.evidence for proven in made},
        },
    )


def _results(walk: Walk, made: Sequence[_Made], past: Sequence[PullRequest]) -> list[ChangeResult]:
    became = {proven.provable.place: proven.task.id for proven in made}
    changes = walk.history.changes
    return [
        ChangeResult(changes[place].commit, past[place].key, changes[place].title, became.get(place, result))
        for place, result in sorted(walk.results.items(), reverse=True)
    ]


def _dropped(walk: Walk) -> Counter[str]:
    return Counter(result for result in walk.results.values() if result != VALID)


def _reasons(walk: Walk) -> str:
    counts = _dropped(walk).most_common(4)
    return ", ".join(f"{reason}: {number}" for reason, number in counts) or "its history is empty"


def _report(written: Written, walk: Walk, made: Sequence[_Made], *, wall_s: float) -> GitReport:
    taskset = written.taskset
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
        flaky_tests=sum(len(proven.proof.flaky) for proven in made),
        bytes_per_task=size // len(made),
        wall_s=wall_s,
        quarantined=written.quarantined,
    )

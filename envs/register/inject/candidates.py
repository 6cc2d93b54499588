"""The order of trials of bugs: spread over functions and kinds, and equal for equal seeds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from envs.tasksets.taskset import PullRequest

from ..project.project import Project
from ..runtime.discover import Suite
from .bugs import Bug
from .kinds import BODY, EDIT, REVERT
from .mutate import find_mutations, find_removals, is_sound
from .reverts import find_reverts


def candidates(
    project: Project, suite: Suite, *, seed: int, prs: Sequence[PullRequest] = ()
) -> dict[str, Iterator[Bug]]:
    """Return single bugs in functions that a stable test calls, by kind (`kinds`), without duplicate
    programs.
    """
    files = [(path, project.tree[path].data) for path in project.modules]
    edits = (edit for path, data in files for edit in find_mutations(path, data, seed=seed))
    removals = (removal for path, data in files for removal in find_removals(path, data))
    reverts = find_reverts(project.tree, project.modules, prs)
    return {
        REVERT: _ordered(reverts, project, suite, seed),
        BODY: _ordered(map(Bug.of, removals), project, suite, seed),
        EDIT: _ordered(map(Bug.of, edits), project, suite, seed),
    }


def _ordered(bugs: Iterable[Bug], project: Project, suite: Suite, seed: int) -> Iterator[Bug]:
    seen: set[bytes] = set()
    for bug in spread([bug for bug in bugs if bug.places[0] in suite.calls], seed=seed):
        (edit,) = bug.edits
        data = project.tree[bug.path].data
        changed = edit.apply(data)
        if changed not in seen and is_sound(edit, data):
            seen.add(changed)
            yield bug


def spread(bugs: Iterable[Bug], *, seed: int) -> Iterator[Bug]:
    """Order bugs so that every function comes once before any comes twice, each time with the kind that was
    rarest so far.
    """
    generator = random.Random(seed)
    waiting: dict[tuple[str, str], dict[str, list[Bug]]] = {}
    for bug in bugs:
        kinds = waiting.setdefault((bug.path, bug.function), {})
        kinds.setdefault(bug.kind, []).append(bug)
    order = sorted(waiting)
    generator.shuffle(order)
    for kinds in waiting.values():
        for group in kinds.values():
            generator.shuffle(group)
    tried: Counter[str] = Counter()
    while order:
        for function in order:
            kinds = waiting[function]
            kind = min(kinds, key=lambda name: (tried[name], name))
            tried[kind] += 1
            yield kinds[kind].pop()
            if not kinds[kind]:
                del kinds[kind]
        order = [function for function in order if waiting[function]]

"""In which order bugs are tried: spread over functions and kinds, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from .discover import Suite
from .mutate import Mutation, find_mutations, is_sound
from .project import Project


def candidates(project: Project, suite: Suite, *, seed: int) -> Iterator[Mutation]:
    """Every bug in a function that a stable test calls, the first of each function before any second."""
    by_function: dict[str, list[Mutation]] = {}
    for path in project.modules:
        for mutation in find_mutations(path, project.tree[path].data, seed=seed):
            name = f"{path}::{mutation.function}"
            if name in suite.calls:
                by_function.setdefault(name, []).append(mutation)
    names = sorted(by_function)
    random.Random(seed).shuffle(names)
    seen: set[bytes] = set()
    for mutation in interleave(_by_kind(by_function[name], f"{seed}:{name}") for name in names):
        data = project.tree[mutation.path].data
        changed = mutation.apply(data)
        if changed not in seen and is_sound(mutation, data):
            seen.add(changed)
            yield mutation


def interleave(groups: Iterable[Iterable[Mutation]]) -> Iterator[Mutation]:
    """The first of every group, then the second of every group, until all are empty."""
    waiting = [iter(group) for group in groups]
    while waiting:
        left = []
        for group in waiting:
            for mutation in group:
                yield mutation
                left.append(group)
                break
        waiting = left


def _by_kind(mutations: list[Mutation], seed: str) -> Iterator[Mutation]:
    """One function's bugs, its kinds taking turns."""
    generator = random.Random(seed)
    kinds = sorted({mutation.kind for mutation in mutations})
    generator.shuffle(kinds)
    groups = []
    for kind in kinds:
        group = [mutation for mutation in mutations if mutation.kind == kind]
        generator.shuffle(group)
        groups.append(group)
    return interleave(groups)

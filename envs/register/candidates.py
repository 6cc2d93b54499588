"""In which order bugs are tried: spread over functions and kinds, the same for the same seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator

from .discover import Suite
from .mutate import Mutation, find_mutations, is_sound
from .project import Project


def candidates(project: Project, suite: Suite, *, seed: int) -> Iterator[Mutation]:
    """Every bug in a function that a stable test calls, each program once."""
    found = [
        mutation
        for path in project.modules
        for mutation in find_mutations(path, project.tree[path].data, seed=seed)
        if f"{path}::{mutation.function}" in suite.calls
    ]
    seen: set[bytes] = set()
    for mutation in spread(found, seed=seed):
        data = project.tree[mutation.path].data
        changed = mutation.apply(data)
        if changed not in seen and is_sound(mutation, data):
            seen.add(changed)
            yield mutation


def spread(mutations: Iterable[Mutation], *, seed: int) -> Iterator[Mutation]:
    """One bug of every function before any second, each time of the kind that came least often so far."""
    generator = random.Random(seed)
    waiting: dict[tuple[str, str], dict[str, list[Mutation]]] = {}
    for mutation in mutations:
        kinds = waiting.setdefault((mutation.path, mutation.function), {})
        kinds.setdefault(mutation.kind, []).append(mutation)
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

"""The kinds of bugs in a task set, and the number of tasks of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import RegisterError

EDIT, BODY, REVERT, SEVERAL = "edit", "body", "revert", "several"
SHARES: Mapping[str, float] = {EDIT: 0.6, BODY: 0.15, REVERT: 0.15, SEVERAL: 0.1}
"""Share of each kind in the tasks: a change to the syntax tree; a function without its body; a reverted hunk
of a past change; two or three bugs together. A kind with too few bugs leaves its rest to `edit`."""


def read_kinds(kinds: Sequence[str] | None) -> dict[str, float]:
    """Parse entries `KIND` or `KIND=SHARE` into shares that add up to 1; None gives the default mix.

    A missing share counts as 1. Raises RegisterError.
    """
    shares: dict[str, float] = dict(SHARES) if kinds is None else {}
    for text in kinds or ():
        name, equals, number = text.partition("=")
        try:
            share = float(number) if equals else 1.0
        except ValueError:
            share = 0.0
        if name not in SHARES or not 0 < share < float("inf"):
            raise RegisterError(f"{text!r} is no kind of bug; choose from {', '.join(SHARES)}, or KIND=SHARE")
        shares[name] = share
    if not shares:
        raise RegisterError(f"no kind of bug was chosen; choose from {', '.join(SHARES)}")
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def quotas(shares: Mapping[str, float], limit: int) -> dict[str, int]:
    """Divide `limit` tasks among the kinds by their shares; the largest remainders are rounded up."""
    whole = sum(shares.values())
    exact = {name: limit * share / whole for name, share in shares.items()}
    found = {name: int(number) for name, number in exact.items()}
    order = sorted(exact, key=lambda name: (found[name] - exact[name], list(SHARES).index(name)))
    for name in order[: limit - sum(found.values())]:
        found[name] += 1
    return found

"""Of each kind its share, whatever becomes of the bugs that are tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from itertools import islice

import pytest

from envs.register import RegisterError
from envs.register.inject.bugs import REVERT as REVERTED
from envs.register.inject.bugs import SEVERAL as TOGETHER
from envs.register.inject.bugs import Bug
from envs.register.inject.kinds import BODY, EDIT, REVERT, SEVERAL, SHARES, quotas, read_kinds
from envs.register.inject.mutate import REMOVAL, Mutation
from envs.register.inject.probe import KEPT, Probe
from envs.register.inject.search import BugSearch
from envs.register.runtime.discover import Suite

SUITE = Suite(frozenset({"t::1"}), (), {}, 2, 1.0, {})


def bugs(kind: str, count: int) -> Iterator[Bug]:
    for number in range(count):
        yield Bug.of(Mutation(kind, f"{kind}.py", 1, f"f{number}", 2 * number, 2 * number + 1, "+", "-"))


def supply(reverts: int = 50, bodies: int = 50, edits: int = 500) -> dict[str, Iterator[Bug]]:
    return {REVERT: bugs(REVERTED, reverts), BODY: bugs(REMOVAL, bodies), EDIT: bugs("operator", edits)}


def trying(noticed: Callable[[Bug], bool], *, ahead: int = 5) -> Callable[[Iterator[Bug]], Generator[Probe]]:
    """Try bugs as sandboxes would, several before the first result is looked at."""

    def attempt(order: Iterator[Bug]) -> Generator[Probe]:
        waiting = list(islice(order, ahead))
        while waiting:
            bug = waiting.pop(0)
            yield Probe(bug, KEPT, failing=("t::1",)) if noticed(bug) else Probe(bug, "no test notices")
            waiting += islice(order, 1)

    return attempt


def hunted(
    shares: dict[str, float], limit: int, bugs: dict[str, Iterator[Bug]], *, ahead: int = 5
) -> tuple[BugSearch, Counter[str]]:
    search = BugSearch(
        trying(lambda bug: bug.edits[0].start % 3 != 0, ahead=ahead), SUITE, bugs, name="x", seed=0
    )
    search.run(shares, limit)
    return search, Counter(probe.bug.kind for probe in search.wanted)


def test_every_kind_gets_its_share_and_everything_tried_is_remembered():
    search, kinds = hunted(read_kinds(None), 40, supply())
    assert kinds == {"operator": 24, REMOVAL: 6, REVERTED: 6, TOGETHER: 4}
    assert len(search.tried) > 40
    assert len({probe.bug for probe in search.tried}) == len(search.tried)
    assert all(probe.result == KEPT and probe in search.tried for probe in search.wanted)


def test_what_a_kind_lacks_single_edits_make_up():
    _, kinds = hunted(read_kinds(None), 40, supply(reverts=0, bodies=3))
    assert kinds[REVERTED] == 0
    assert kinds[REMOVAL] == 2
    assert kinds.total() == 40


def test_how_many_sandboxes_there_are_changes_nothing():
    few, _ = hunted(read_kinds(None), 30, supply(bodies=3), ahead=1)
    many, _ = hunted(read_kinds(None), 30, supply(bodies=3), ahead=40)
    assert [probe.bug for probe in few.wanted] == [probe.bug for probe in many.wanted]
    assert [probe.bug for probe in few.tried] == [probe.bug for probe in many.tried]


def test_several_alone_are_made_of_bugs_that_become_no_tasks():
    search, kinds = hunted(read_kinds(["several"]), 4, supply())
    assert kinds == {TOGETHER: 4}
    assert sum(probe.result == KEPT for probe in search.tried) == 4 + 12


def test_kinds_are_read_with_their_shares():
    assert read_kinds(None) == pytest.approx(SHARES)
    assert read_kinds(["edit", "body"]) == {EDIT: 0.5, BODY: 0.5}
    assert read_kinds(["edit=3", "several"]) == {EDIT: 0.75, SEVERAL: 0.25}
    assert quotas({EDIT: 0.6, BODY: 0.2, SEVERAL: 0.2}, 7) == {EDIT: 4, BODY: 2, SEVERAL: 1}
    for wrong in (["typo"], ["edit=0"], ["edit=much"], ["edit=nan"], []):
        with pytest.raises(RegisterError, match="choose from edit, body, revert, several"):
            read_kinds(wrong)

"""What waits is bounded, is never lost track of, and is handed out only while it is good."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sandboxes import SandboxSpec
from sandboxes.fake import FakeSandbox
from sandboxes.pool.idle import USED_SHARE, Idle, IdleSet
from sandboxes.pool.usage import Usage

SPECS = [replace(SandboxSpec("any"), lifetime_s=1000.0 * (n + 1), memory_mb=100 + n) for n in range(3)]
IDLE_S = 60.0

STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "take", "expect", "wait"]), st.sampled_from(SPECS), st.floats(0, 40)),
    max_size=80,
)


@given(room=st.integers(0, 4), steps=STEPS)
def test_its_promises_hold_whatever_happens(room: int, steps: list[tuple[str, SandboxSpec, float]]) -> None:
    demand = Usage(IDLE_S)
    shelf, now = IdleSet(room, IDLE_S, demand), 1000.0
    waiting: set[Idle] = set()
    alarm = 0.0

    def tidy() -> bool:
        unwanted, stale = shelf.overdue(now)
        waiting.difference_update(unwanted, stale)
        assert all(shelf.count(idle.spec) >= demand.wanted(idle.spec, now) for idle in unwanted)
        return bool(unwanted or stale)

    for what, spec, passed_s in steps:
        now += passed_s
        assert not tidy() or alarm <= now, "its alarm would have rung too late"
        if what == "put":
            kept = Idle(FakeSandbox(spec), now)
            gone = shelf.put(kept, now)
            waiting.add(kept)
            waiting -= {gone}
        elif what == "take":
            taken = shelf.take(spec, now)
            if taken is not None:
                waiting.remove(taken)
                assert taken.spec == spec and now - taken.renewed <= USED_SHARE * spec.lifetime_s + 1e-6
        elif what == "expect":
            demand.expect(spec, 2, now)
        tidy()
        alarm = shelf.due(now)
        assert alarm > now, "its alarm would ring for ever"
        assert len(shelf) == len(waiting) <= room
    assert set(shelf.clear()) == waiting and len(shelf) == 0


def test_what_is_in_use_counts_as_there_and_peaks_are_forgotten() -> None:
    demand, spec = Usage(IDLE_S), SPECS[0]
    for now in (0.0, 1.0, 2.0):
        demand.begin(spec, 1, now)
    assert demand.wanted(spec, 2.0) == 1 and demand.in_use() == 3
    demand.end(spec, 50.0)
    demand.end(spec, 51.0)
    assert demand.wanted(spec, 51.0) == 3
    assert demand.wanted(spec, 70.0) == 2, "four at once was too long ago, three were there until lately"
    demand.end(spec, 71.0)
    assert demand.wanted(spec, 200.0) == 0 and demand.in_use() == 0 and demand.specs() == []

"""The gate for starts: within its bounds whatever happens, narrower after trouble, wider when all is well."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sandboxes.pool.throttle import LONGEST_PAUSE_S, Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def throttle(first: int, most: int) -> tuple[Throttle, Clock]:
    clock = Clock()
    return Throttle(first, most, clock=clock, chance=lambda: 0.5), clock


def run(gate: Throttle, clock: Clock, count: int, took_s: float) -> None:
    """As many good starts as the gate lets, together, until there were `count`."""
    while count > 0:
        clock.now += 0.001
        batch = []
        while gate.wait_s() == 0 and len(batch) < count:
            batch.append(gate.begin())
        clock.now += took_s
        for begun in batch:
            gate.succeed(begun)
        count -= len(batch)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["begin", "succeed", "fail", "refuse"]), st.floats(0, 30)), max_size=200
)


@given(first=st.integers(1, 8), more=st.integers(0, 8), events=EVENTS)
def test_its_bounds_hold_whatever_happens(first: int, more: int, events: list[tuple[str, float]]) -> None:
    gate, clock = throttle(first, first + more)
    under_way: list[float] = []
    for what, passed_s in events:
        clock.now += passed_s
        if what == "begin":
            if gate.wait_s() == 0:
                under_way.append(gate.begin())
        elif under_way:
            getattr(gate, what)(under_way.pop(0))
        assert 1 <= gate.width <= first + more
        assert len(under_way) == gate.under_way <= first + more
        assert under_way or gate.wait_s() <= LONGEST_PAUSE_S, "it would never open again"
        assert gate.wait_s() != 0 or gate.under_way < gate.width


def test_good_starts_widen_it_up_to_its_bound() -> None:
    gate, clock = throttle(2, 5)
    run(gate, clock, 6, 1.0)
    assert 3 <= gate.width < 5
    run(gate, clock, 100, 1.0)
    assert gate.width == 5


def test_a_gate_that_was_not_the_limit_stays_as_it_is() -> None:
    gate, clock = throttle(4, 8)
    for _ in range(20):
        begun = gate.begin()
        clock.now += 1
        gate.succeed(begun)
    assert gate.width == 4


def test_slow_starts_halve_it_once_for_all_that_were_under_way() -> None:
    gate, clock = throttle(8, 8)
    run(gate, clock, 1, 1.0)
    run(gate, clock, 8, 10.0)
    assert gate.width == 4
    run(gate, clock, 4, 10.0)
    assert gate.width == 2


def test_failures_pause_longer_each_time_and_a_good_start_ends_that() -> None:
    gate, clock = throttle(4, 8)
    pauses = []
    for _ in range(12):
        begun = [gate.begin(), gate.begin()] if gate.width >= 2 else [gate.begin()]
        clock.now += 0.01
        for start in begun:
            gate.fail(start)
        pauses.append(gate.wait_s())
        clock.now += gate.wait_s()
    assert gate.width == 1
    assert all(0 < a < 1.01 * b for a, b in pairwise(pauses))
    assert pauses[0] < 0.1 and pauses[3] > 5 * pauses[0] and pauses[-1] <= LONGEST_PAUSE_S
    begun = gate.begin()
    clock.now += 0.01
    gate.succeed(begun)
    assert gate.wait_s() == 0


def test_a_quick_refusal_says_nothing_about_the_engine_and_a_slow_one_does() -> None:
    gate, clock = throttle(4, 8)
    run(gate, clock, 1, 1.0)
    for took_s, width in ((1.0, 4), (10.0, 2)):
        begun = gate.begin()
        clock.now += took_s
        gate.refuse(begun)
        assert gate.width == width and gate.wait_s() == 0

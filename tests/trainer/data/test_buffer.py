"""The buffer between episodes and updates: oldest first, never too stale, and nothing lost uncounted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from envs.types import StopReason, Verdict
from trainer.data.buffer import Buffer, Group


def group(name: str, *versions: int) -> Group:
    """One episode with one token of each version."""
    spans = tuple(VersionSpan(version, n, n + 1) for n, version in enumerate(versions))
    completion = Completion((1,) * len(versions), (-1.0,) * len(versions), spans)
    turns = (Turn(Action((), "", (7,), completion), (), 0.0, 0.0),)
    return Group(
        name, (Trajectory(name, "t", "", name, "p", 0, turns, StopReason.SUBMITTED, 1.0, Verdict(True)),)
    )


def test_what_finished_first_is_taken_first() -> None:
    buffer = Buffer(capacity=3, max_staleness=0)
    for name in "cab":
        buffer.put(group(name, 1))
    assert [taken.name for taken in buffer.take(2, 1)] == ["c", "a"]
    assert [taken.name for taken in buffer.take(2, 1)] == ["b"]
    assert buffer.take(2, 1) == []


def test_a_full_buffer_drops_what_finished_first_and_counts_it() -> None:
    buffer = Buffer(capacity=2, max_staleness=0)
    for name in "abc":
        buffer.put(group(name, 1))
    assert [taken.name for taken in buffer.take(9, 1)] == ["b", "c"]
    assert (buffer.dropped_full, buffer.dropped_stale) == (1, 0)


def test_staleness_is_that_of_the_oldest_token_and_bounded() -> None:
    buffer = Buffer(capacity=9, max_staleness=2)
    for name, versions in {"old": (2, 5), "just": (3, 5), "fresh": (5,), "no tokens": ()}.items():
        buffer.put(group(name, *versions))
    assert [taken.name for taken in buffer.take(9, 5)] == ["just", "fresh", "no tokens"]
    assert (buffer.dropped_full, buffer.dropped_stale) == (0, 1)


@given(
    st.integers(1, 5),
    st.integers(0, 3),
    st.lists(
        st.one_of(st.integers(0, 3).map(lambda n: ("take", n)), st.just(("put", 0)), st.just(("step", 0)))
    ),
)
def test_every_group_is_taken_or_dropped_or_there_and_in_order(capacity, max_staleness, events) -> None:
    buffer = Buffer(capacity=capacity, max_staleness=max_staleness)
    version, put, taken = 0, 0, []
    for event, count in events:
        if event == "step":
            version += 1
        elif event == "put":
            buffer.put(group(str(put), version))
            put += 1
        else:
            found = buffer.take(count, version)
            assert len(found) <= count
            assert all(version - (fresh.version or 0) <= max_staleness for fresh in found)
            taken += [int(fresh.name) for fresh in found]
        assert len(buffer) <= capacity
        assert put == len(taken) + buffer.dropped_full + buffer.dropped_stale + len(buffer)
    assert taken == sorted(set(taken))

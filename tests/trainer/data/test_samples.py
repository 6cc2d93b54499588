"""Masks: true exactly on sampled ids, whatever the conversation looks like."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from envs.types import StopReason, Verdict
from trainer.data.samples import NOT_SAMPLED, Sample, from_trajectory, from_transcript, shortened

ids = st.lists(st.integers(0, 999), max_size=6).map(tuple)


def turn(prompt: tuple[int, ...], said: tuple[int, ...], version: int = 1) -> Turn:
    spans = (VersionSpan(version, 0, len(said)),) if said else ()
    completion = Completion(said, tuple(-0.5 - i for i in range(len(said))), spans)
    return Turn(Action((), "", prompt, completion), (), 0.0, 0.0)


def episode(*turns: Turn, reward: float | None = 1.0) -> Trajectory:
    verdict = None if reward is None else Verdict(reward == 1.0)
    return Trajectory("t", "task", "hash", "g", "p", 0, turns, StopReason.SUBMITTED, reward, verdict)


@given(st.lists(st.tuples(ids, ids), max_size=5))
def test_a_sample_is_what_was_seen_and_sampled_in_order(pairs: list[tuple[tuple[int, ...], ...]]) -> None:
    pairs = [((7,), *pairs[0][1:]), *pairs[1:]] if pairs else []
    sample = from_trajectory(episode(*[turn(seen, said) for seen, said in pairs]))
    everything = [id_ for seen, said in pairs for id_ in (*seen, *said)]
    sampled = [id_ for _, said in pairs for id_ in said]
    if not sampled:
        assert sample is None
        return
    assert sample is not None
    assert list(sample.ids) == everything[: len(sample.ids)]
    assert [i for i, kept in zip(sample.ids, sample.mask, strict=True) if kept] == sampled
    assert sample.sampled == len(sampled)
    assert sample.mask[-1], "what follows the last sampled id teaches nothing"
    for kept, version, logprob in zip(sample.mask, sample.versions, sample.logprobs, strict=True):
        assert (version == NOT_SAMPLED) == (not kept)
        assert (logprob == 0.0) == (not kept)


nonempty = st.lists(st.integers(0, 999), min_size=1, max_size=4).map(tuple)


@given(st.lists(st.tuples(nonempty, nonempty), min_size=1, max_size=4), st.data())
def test_branches_of_one_episode_say_how_many_ids_they_share(
    shared: list[tuple[tuple[int, ...], tuple[int, ...]]], data: st.DataObject
) -> None:
    observed = data.draw(nonempty, label="what the last shared turn observed")
    trunk = [turn(seen, said) for seen, said in shared]
    rows = []
    for first_own in (1000, 1001):
        own = turn(observed, (first_own, *data.draw(ids)))
        played = dataclasses.replace(episode(*trunk, own), branch_of="trunk", branch_after=len(trunk))
        row = from_trajectory(played)
        assert row is not None and row.parent == "trunk"
        rows.append(row)
    first, second = rows
    assert first.branch_at == second.branch_at
    assert first.ids[: first.branch_at].tolist() == second.ids[: first.branch_at].tolist()
    assert first.ids[first.branch_at] != second.ids[first.branch_at], "the next id is a branch's own"
    cut = shortened(first, len(shared[0][0]) + 1)
    assert cut is not None and cut.branch_at == len(cut.ids), "a cut row shares no more than it has"


def test_an_episode_that_did_not_branch_shares_nothing() -> None:
    row = from_trajectory(episode(turn((1,), (2,))))
    assert row is not None and (row.parent, row.branch_at) == (None, 0)


def test_every_sampled_id_keeps_the_version_that_sampled_it() -> None:
    completion = Completion((5, 6, 7), (-1.0, -2.0, -3.0), (VersionSpan(3, 0, 1), VersionSpan(4, 1, 3)))
    mixed = Turn(Action((), "", (1, 2), completion), (), 0.0, 0.0)
    sample = from_trajectory(episode(mixed, turn((9,), (8,), version=6)), advantage=-0.5)
    assert sample is not None
    assert sample.versions.tolist() == [-1, -1, 3, 4, 4, -1, 6]
    assert sample.oldest_version == 3
    assert set(sample.advantages) == {-0.5}


def test_the_first_id_is_never_learned() -> None:
    with pytest.raises(AssertionError, match="nothing comes before the first id"):
        Sample.of((1, 2), (True, True), (0.0, 0.0), (0, 0))


def test_a_transcript_has_no_versions_and_keeps_its_mask() -> None:
    sample = from_transcript([1, 2, 3], [False, True, False], "script")
    assert sample.mask.tolist() == [False, True, False]
    assert sample.oldest_version is None


def test_a_long_sample_keeps_its_beginning() -> None:
    sample = from_transcript([1, 2, 3, 4], [False, True, False, True])
    short = shortened(sample, 3)
    assert short is not None and short.ids.tolist() == [1, 2, 3] and short.sampled == 1
    assert shortened(sample, 1) is None
    assert shortened(sample, 4) is sample


def test_samples_are_equal_when_every_array_is_and_survive_pickling() -> None:
    sample = Sample.of([1, 2, 3], [False, True, True], [0.0, -1.0, -2.0], [-1, 0, 0], 0.5, trajectory="t")
    assert pickle.loads(pickle.dumps(sample)) == sample
    for changes in ({"branch_at": 2}, {"parent": "p"}, {"advantages": sample.advantages * 2}):
        assert dataclasses.replace(sample, **changes) != sample


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(AssertionError, match="differ in length"):
        Sample.of([1, 2, 3], [False, True, True], logprobs=[0.0, -1.0])

"""The index finds trajectories without reading the others, and follows the part files."""

import multiprocessing
import sqlite3
from dataclasses import replace

import pytest

from agents.runs.index import FILE
from agents.runs.store import StoreError, TrajectoryStore
from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from envs.types import StopReason, Verdict


def trajectory(number, task="a", policy="p", reward: float | None = 1.0):
    completion = Completion((1, 2), (-0.1, -0.2), (VersionSpan(1, 0, 2),))
    return Trajectory(
        id=f"{number:032x}",
        task_id=task,
        task_hash="h",
        group="step-1/a",
        policy=policy,
        seed=number,
        turns=(Turn(Action((), "…", (1,), completion), (), 0.1, 0.2),) * 3,
        stop=StopReason.INFRA if reward is None else StopReason.SUBMITTED,
        reward=reward,
        verdict=None if reward is None else Verdict(bool(reward)),
    )


@pytest.fixture
def stored():
    return [
        trajectory(0),
        trajectory(1, task="b", reward=0.0),
        trajectory(2, policy="q"),
        trajectory(3, reward=None),
        trajectory(2**70, task="b"),
    ]


@pytest.fixture
def store(tmp_path, stored):
    with TrajectoryStore(tmp_path, part_bytes=1_500) as store:
        for episode in stored:
            store.append(episode)
        assert len(list(tmp_path.iterdir())) > 1
        yield store


def seeds(store, **wanted):
    return [entry.seed for entry in store.select(**wanted)]


def test_trajectories_are_selected_by_task_policy_and_outcome(store, stored):
    assert list(store.select()) == stored == list(store.read())
    assert seeds(store, task="b") == [1, 2**70]
    assert seeds(store, policy="q", task="a") == [2]
    assert (seeds(store, solved=True), seeds(store, solved=False)) == ([0, 2, 2**70], [1])
    assert (seeds(store, limit=2), seeds(store, task="none")) == ([0, 1], [])


def test_an_entry_says_where_a_trajectory_lies_and_what_it_is_chosen_by(store):
    with store.index() as index:
        first, *_, last = index.entries()
    assert (first.file, first.offset, first.reward, first.stop) == ("part-000001.jsonl", 0, 1.0, "submitted")
    assert (first.group, first.policy, first.tokens) == ("step-1/a", "p", 6)
    assert [entry.seed for entry in store.read_entries([last, first])] == [2**70, 0]


def test_selecting_reads_no_other_line(store, tmp_path):
    assert seeds(store) == [0, 1, 2, 3, 2**70]
    part = tmp_path / "part-000001.jsonl"
    part.write_bytes(part.read_bytes().replace(b'"group"', b'"gruop"', 1))
    assert seeds(store, task="b") == [1, 2**70]
    with pytest.raises(StoreError, match=r"part-000001\.jsonl, byte 0, is not a trajectory"):
        list(store.select(task="a"))


def test_what_was_appended_since_is_found(store, tmp_path):
    assert seeds(store, task="c") == []
    store.append(trajectory(7, task="c"))
    with TrajectoryStore(tmp_path) as another:
        another.append(trajectory(8, task="c"))
    assert seeds(store, task="c") == [7, 8]


def test_a_torn_line_and_an_unreadable_line_are_counted_and_hide_no_other(store, tmp_path):
    part = tmp_path / "part-000001.jsonl"
    whole = part.read_bytes()
    part.write_bytes(b'{"id": "x"}\n' + whole + whole.replace(b'"h"', b'"i"')[:-9])
    with store.index() as index:
        assert (index.unread, index.entries()[0].seed) == (2, 0)
        assert len(index.entries()) >= 5
    part.write_bytes(b'{"id": "x"}\n' + whole + whole.replace(b'"h"', b'"i"'))
    with store.index() as index:
        assert index.unread == 1, "the torn line has been finished"
    assert [entry.task_hash for entry in store.select(task="a")].count("i") == 1


@pytest.mark.parametrize("damage", ["deleted", "garbage", "other version", "a folder"])
def test_the_index_is_built_anew_when_it_cannot_be_used(store, tmp_path, damage):
    before = seeds(store)
    (tmp_path / FILE).unlink()
    if damage == "garbage":
        (tmp_path / FILE).write_bytes(b"no database " * 400)
    elif damage == "other version":
        with sqlite3.connect(tmp_path / FILE) as database:
            database.execute("PRAGMA user_version = 99")
    elif damage == "a folder":
        (tmp_path / FILE).mkdir()  # nothing can be written there: the index is in memory
    assert seeds(store) == before
    assert (tmp_path / FILE).is_file() == (damage != "a folder")


def test_parts_that_were_removed_or_replaced_are_forgotten(store, tmp_path):
    assert len(seeds(store)) == 5
    parts = sorted(tmp_path.glob("*.jsonl"))
    parts[-1].unlink()
    lines = parts[0].read_bytes().replace(trajectory(0).id.encode(), b"f" * 32)
    parts[0].write_bytes(lines)
    assert [entry.id for entry in store.select()] == [entry.id for entry in store.read()]
    assert next(store.select()).id == "f" * 32


def test_an_empty_store_has_an_empty_index_and_no_file(tmp_path):
    assert list(TrajectoryStore(tmp_path / "none").select()) == []
    assert list(tmp_path.iterdir()) == []


def count_often(folder, counts):
    counts.put([sum(1 for _ in TrajectoryStore(folder).select()) for _ in range(20)])


def test_several_processes_read_while_one_writes(tmp_path):
    spawning = multiprocessing.get_context("spawn")
    counts = spawning.Queue()
    with TrajectoryStore(tmp_path) as store:
        store.append(trajectory(0))
        readers = [spawning.Process(target=count_often, args=(tmp_path, counts)) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(1, 200):
            store.append(replace(trajectory(number), id=str(number)))
        seen = [counts.get(timeout=120) for _ in readers]
        for reader in readers:
            reader.join(30)
    assert all(seen_seeds == sorted(seen_seeds) for seen_seeds in seen), "nothing that was seen is lost"
    assert len(seeds(store)) == 200

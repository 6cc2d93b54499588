"""Trajectories on disk: equal when read back, and whole after a sudden end."""

import math
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.runs.store import TrajectoryStore
from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from envs.types import Observation, StopReason, ToolCall, Verdict


def trajectory(number=0, tokens=4, turns=2):
    completion = Completion(
        tuple(range(tokens)), tuple(-1 / (n + 3) for n in range(tokens)), (VersionSpan(1, 0, tokens),)
    )
    action = Action(
        (ToolCall("c", "edit", {"path": "ü\u2028.py", "line": 3, "deep": [{"x": None}]}),),
        text="…\x00\n",
        prompt_ids=(1, 2, 3),
        completion=completion,
    )
    turn = Turn(action, (Observation("seen\r\n", is_error=True, call_id="c"),), 0.1, 0.2)
    return Trajectory(
        id=str(number),
        task_id="t",
        task_hash="h",
        group="g",
        policy="p",
        seed=number,
        turns=(turn,) * turns,
        stop=StopReason.SUBMITTED,
        reward=1.0,
        verdict=Verdict(True, passed=("a::b",)),
        patch="+x\n",
    )


def unscored(number=0):
    return replace(
        trajectory(number), stop=StopReason.INFRA, reward=None, verdict=None, error="SandboxLost: gone"
    )


def test_what_was_appended_is_read_back_equal_and_in_order(tmp_path):
    written = [trajectory(0), unscored(1), trajectory(2)]
    store = TrajectoryStore(tmp_path / "trajectories")
    for episode in written:
        store.append(episode)
    assert list(store.read()) == written
    store.close()
    store.close()
    assert list(TrajectoryStore(tmp_path / "trajectories").read()) == written


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    arguments=st.dictionaries(st.text("abc", max_size=3), json_values, max_size=3),
    text=st.text(st.characters(exclude_categories=["Cs"])),
    logprobs=st.lists(st.floats(max_value=0, allow_nan=False, allow_infinity=False), max_size=4),
)
def test_any_trajectory_is_read_back_equal(tmp_path_factory, arguments, text, logprobs):
    count = len(logprobs)
    spans = (VersionSpan(0, 0, count),) if count else ()
    completion = Completion(tuple(range(count)), tuple(logprobs), spans, "length")
    action = Action((ToolCall("c", "edit", arguments),), text, (5,), completion, error=text)
    one = replace(trajectory(), turns=(Turn(action, (Observation(text),), 0.0, 1e-9),))
    store = TrajectoryStore(tmp_path_factory.mktemp("store"))
    store.append(one)
    store.close()
    (back,) = store.read()
    assert back == one
    assert [math.copysign(1, a) for a in back.turns[0].action.completion.logprobs] == [
        math.copysign(1, a) for a in logprobs
    ]


def test_what_was_stored_before_branches_were_recorded_is_read(tmp_path):
    store = TrajectoryStore(tmp_path)
    store.append(trajectory(0))
    store.close()
    (part,) = tmp_path.glob("*.jsonl")
    part.write_bytes(part.read_bytes().replace(b',"branch_of":null,"branch_after":0', b""))
    assert b"branch" not in part.read_bytes()
    assert list(TrajectoryStore(tmp_path).read()) == [trajectory(0)]


def test_nothing_is_made_before_something_is_written(tmp_path):
    store = TrajectoryStore(tmp_path / "trajectories")
    assert list(store.read()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_dropped_and_the_rest_is_kept_wherever_it_is_torn(tmp_path):
    store = TrajectoryStore(tmp_path)
    for number in range(3):
        store.append(trajectory(number))
    store.close()
    (part,) = tmp_path.iterdir()
    whole = part.read_bytes()
    third = whole.rindex(b"\n", 0, -1) + 1
    for end in range(third, len(whole), 37):
        part.write_bytes(whole[:end])
        assert [t.seed for t in store.read()] == [0, 1]
    later = TrajectoryStore(tmp_path)
    later.append(trajectory(3))
    assert [t.seed for t in later.read()] == [0, 1, 3]
    later.close()


def write_forever(folder):
    store = TrajectoryStore(folder)
    number = 0
    while True:
        store.append(trajectory(number, tokens=2_000))
        number += 1


def test_what_was_written_before_a_kill_is_there_after_it(tmp_path):
    writer = multiprocessing.get_context("spawn").Process(target=write_forever, args=(tmp_path,), daemon=True)
    writer.start()
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size > 500_000 for part in tmp_path.glob("*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(10)
    found = list(TrajectoryStore(tmp_path).read())
    assert [t.seed for t in found] == list(range(len(found)))
    (part,) = tmp_path.iterdir()
    assert len(found) == part.read_bytes().count(b"\n") > 2


def test_a_whole_line_that_cannot_be_read_is_named_and_hides_no_other(tmp_path, caplog):
    store = TrajectoryStore(tmp_path)
    store.append(trajectory(0))
    store.close()
    (part,) = tmp_path.iterdir()
    line = part.read_bytes()
    # As written before log-probabilities had to be finite numbers.
    part.write_bytes(line + b'{"id": "x"}\n' + line.replace(b"-0.25", b"null") + b"\xff\n" + line)
    unread = []
    assert list(store.read(unread)) == [trajectory(0)] * 2
    places = [sentence.partition(" is not a trajectory")[0] for sentence in unread]
    assert places == [f"{part}:{number}" for number in (2, 3, 4)]
    assert caplog.messages == unread and "\n" not in "".join(unread)


def test_many_threads_and_many_stores_write_beside_each_other(tmp_path):
    stores = [TrajectoryStore(tmp_path, part_bytes=20_000) for _ in range(2)]

    def write(first):
        for number in range(first, first + 25):
            stores[first % 2].append(trajectory(number))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 25, 50, 75)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(t.seed for t in stores[0].read()) == list(range(100))
    assert len(list(tmp_path.iterdir())) > 2, "parts end at their size"
    for store in stores:
        store.close()


@pytest.mark.slow
def test_ten_thousand_trajectories_are_written_and_read_in_seconds(tmp_path):
    store, one = TrajectoryStore(tmp_path), trajectory(tokens=50, turns=8)
    started = time.monotonic()
    for number in range(10_000):
        store.append(replace(one, seed=number))
    written = time.monotonic()
    assert sum(1 for _ in store.read()) == 10_000
    read = time.monotonic()
    store.close()
    seconds = (written - started, read - written)
    assert max(seconds) < 30, f"writing and reading took {seconds}"

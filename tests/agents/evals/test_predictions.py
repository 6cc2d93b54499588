import json
from dataclasses import replace

import pytest

from agents.evals.predictions import PredictionsError, write_predictions
from agents.evals.regrade import read_predictions
from agents.runs.store import TrajectoryStore
from agents.types import Trajectory
from envs.types import StopReason, Verdict


def episode(task: str, number: int, *, patch: str = "+x\n") -> Trajectory:
    return Trajectory(
        id=f"{task}/{number}",
        task_id=task,
        task_hash="h",
        group=task,
        policy="oracle",
        seed=number,
        turns=(),
        stop=StopReason.SUBMITTED,
        reward=1.0,
        verdict=Verdict(True),
        patch=patch,
    )


def stored(folder, *episodes: Trajectory):
    store = TrajectoryStore(folder)
    for played in episodes:
        store.append(played)
    store.close()
    return folder


def test_each_task_gets_the_patch_of_its_scored_episode_with_the_lowest_seed(tmp_path):
    lost = replace(episode("a", 0), stop=StopReason.INFRA, reward=None, verdict=None, patch="")
    folder = stored(
        tmp_path / "run",
        lost,
        episode("a", 2, patch="+stored first\n"),
        episode("a", 1, patch="+ü\u2028\n"),
        episode("b", 0, patch=""),
        episode("a", 3, patch="+last\n"),
    )
    written = write_predictions(folder, tmp_path / "out" / "predictions.jsonl")
    rows = [json.loads(line) for line in written.out.read_text().split("\n") if line]
    assert rows == [
        {"instance_id": "a", "model_name_or_path": "oracle", "model_patch": "+ü\u2028\n"},
        {"instance_id": "b", "model_name_or_path": "oracle", "model_patch": ""},
    ]
    assert (written.tasks, written.repeated, written.unscored) == (2, 2, 1)
    assert [(found.task_id, found.patch) for found in read_predictions(written.out)] == [
        ("a", "+ü\u2028\n"),
        ("b", ""),
    ]


def test_a_line_that_cannot_be_read_is_counted(tmp_path):
    folder = stored(tmp_path / "run", episode("a", 0))
    with next(folder.glob("*.jsonl")).open("a") as part:
        part.write('{"id": "x"}\n')
    assert write_predictions(folder, tmp_path / "p.jsonl").unread == 1
    next(folder.glob("*.jsonl")).write_text('{"id": "x"}\n')
    with pytest.raises(PredictionsError, match=r"1 lines cannot be read, the first: .*:1 is"):
        write_predictions(folder, tmp_path / "q.jsonl")


def test_the_model_can_be_named(tmp_path):
    folder = stored(tmp_path / "run", episode("a", 0))
    written = write_predictions(folder, tmp_path / "p.jsonl", model="team/model-1")
    assert json.loads(written.out.read_text())["model_name_or_path"] == "team/model-1"


def test_nothing_is_written_over_and_nothing_out_of_nothing(tmp_path):
    with pytest.raises(PredictionsError, match="holds no scored episode"):
        write_predictions(tmp_path / "none", tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").write_text("mine")
    with pytest.raises(PredictionsError, match="exists already"):
        write_predictions(stored(tmp_path / "run", episode("a", 0)), tmp_path / "p.jsonl")
    assert (tmp_path / "p.jsonl").read_text() == "mine"

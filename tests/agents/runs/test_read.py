"""Run folders of the form that earlier versions wrote are read by every reader of this one."""

import json
from pathlib import Path

import pytest

from agents.evals.regrade import read_patches
from agents.runs.folder import RunError, RunFolder
from agents.runs.read import load_tasksets, read_run, read_trajectories
from agents.runs.store import TrajectoryStore
from agents.viewer.report import write_report

LINE = (
    '{"id":"e1","task_id":"area-1","task_hash":"h","group":"eval/area-1","policy":"oracle","seed":0,'
    '"turns":[],"stop":"submitted","reward":1.0,"verdict":{"resolved":true,"passed":["test_area.py::test_area"],'
    '"failed":[],"missing":[],"tampered":[],"log":"","duration_s":0.5},"patch":"+x\\n","error":"",'
    '"duration_s":1.5,"schema":1}\n'
)
MANIFEST = (
    '{"policy": "oracle", "sandbox": "docker", "versions": {"daythree": "0.1.0"}, "tasks": {"sets": "0f"}}\n'
)
SUMMARY = '{"policy": "oracle", "split": null, "seed": 0, "tasks": 1, "samples": 1, "pass_rate": 1.0}\n'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An evaluation as it was written before its manifest had a schema."""
    run = tmp_path / "run"
    for name, text in {
        "manifest.json": MANIFEST,
        "summary.json": SUMMARY,
        "trajectories/part-000001.jsonl": LINE,
        "sets/tasks.jsonl": '{"id": "area-1", "instruction": "Mend it.", "traits": {"kind": "swap"}}\n',
    }.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    return run


def test_an_earlier_evaluation_is_shown_and_its_patches_are_read(run: Path) -> None:
    data = read_run(run)
    assert (data.total, data.unread, data.summary["pass_rate"]) == (1, 0, 1.0)
    assert data.tasks["area-1"]["instruction"] == "Mend it."
    assert "<b>100%</b>" in write_report(run).read_text()
    assert [trajectory.id for trajectory in read_trajectories(run)] == ["e1"]
    (patch,), unscored, _ = read_patches(run)
    assert (patch.patch, unscored) == ("+x\n", 0)
    assert [trajectory.id for trajectory in TrajectoryStore(run / "trajectories").select(task="area-1")] == [
        "e1"
    ]


def test_an_earlier_evaluation_is_continued_in_place(run: Path) -> None:
    with RunFolder.open(run) as opened:
        opened.note({"schema": 2, "policy": "another", "tasks": {"more": "1e"}})
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["policy"], manifest["tasks"]) == ("oracle", {"sets": "0f", "more": "1e"})


def test_an_earlier_manifest_that_lists_task_sets_is_read(run: Path) -> None:
    (run / "manifest.json").write_text('{"tasks": ["gone/away"]}')
    with pytest.raises(RunError, match="the task set gone/away is not there"):
        load_tasksets(run)
    (run / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="does not say which tasks it ran"):
        load_tasksets(run)

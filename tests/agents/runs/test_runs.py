import json
from pathlib import Path

import pytest

from agents.runs.folder import (
    RunError,
    RunFolder,
    describe,
    digest_before_schema_2,
    read_manifest,
    read_metrics,
)
from trainer.config import Config, parse
from trainer.run import TrainingRun


@pytest.fixture
def config(tmp_path: Path) -> Config:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name in ("taskset.toml", "tasks.jsonl", "prs.jsonl", "trees.zip"):
        (tasks / name).write_text("")
    return parse({"tasks": {"sets": [str(tasks)]}, "checkpoint": {"keep": 2}})


def test_a_new_run_says_what_it_runs_with(tmp_path: Path, config: Config) -> None:
    with TrainingRun.begin(tmp_path / "deep" / "run", config) as run:
        manifest = json.loads((run.path / "manifest.json").read_text())
        assert set(manifest["versions"]) == {"python", "daythree", "torch", "ray", "transformers", "vllm"}
        assert len(manifest["tasks"][config.tasks.sets[0]]) == 64
        assert run.trajectories.is_dir() and run.checkpoints() == []


def test_an_existing_folder_is_refused_in_one_line(tmp_path: Path, config: Config) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="exists already") as caught:
        TrainingRun.begin(tmp_path / "run", config)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path: Path, config: Config) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the run folder"):
        TrainingRun.begin(tmp_path / "file" / "run", config)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "tasks"]


def test_resuming_brings_the_same_settings_back(tmp_path: Path, config: Config) -> None:
    TrainingRun.begin(tmp_path / "run", config).close()
    with TrainingRun.go_on(tmp_path / "run") as run:
        assert run.config == config
        assert len(json.loads((run.path / "manifest.json").read_text())["resumed"]) == 1


def test_a_folder_that_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run that can be resumed"):
        TrainingRun.go_on(tmp_path)


@pytest.mark.parametrize("changed", ["tasks.jsonl", "trees.zip"])
def test_a_run_whose_tasks_changed_is_not_resumed(tmp_path: Path, config: Config, changed: str) -> None:
    TrainingRun.begin(tmp_path / "run", config).close()
    (tmp_path / "tasks" / changed).write_text("{} \n")
    with pytest.raises(RunError, match="changed since this run began"):
        TrainingRun.go_on(tmp_path / "run")


def test_a_run_of_the_version_before_is_resumed(tmp_path: Path, config: Config) -> None:
    """Its manifest has no schema, and digests of task sets that leave out their trees."""
    TrainingRun.begin(tmp_path / "run", config).close()
    place = tmp_path / "run" / "manifest.json"
    manifest = json.loads(place.read_text())
    del manifest["schema"]
    (name,) = manifest["tasks"]
    manifest["tasks"][name] = digest_before_schema_2(Path(name))
    place.write_text(json.dumps(manifest))
    TrainingRun.go_on(tmp_path / "run").close()
    (tmp_path / "tasks" / "tasks.jsonl").write_text("{} \n")
    with pytest.raises(RunError, match="changed since this run began"):
        TrainingRun.go_on(tmp_path / "run")


def test_two_processes_cannot_write_into_one_run(tmp_path: Path, config: Config) -> None:
    with TrainingRun.begin(tmp_path / "run", config), pytest.raises(RunError, match="in use"):
        TrainingRun.go_on(tmp_path / "run")
    TrainingRun.go_on(tmp_path / "run").close()


def test_a_torn_last_line_of_metrics_is_cut_off(tmp_path: Path, config: Config) -> None:
    with TrainingRun.begin(tmp_path / "run", config) as run:
        run.log({"step": 0, "loss": 1.5})
        run.log({"step": 1})
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_metrics(tmp_path / "run") == [{"step": 0, "loss": 1.5}, {"step": 1}]
    with TrainingRun.go_on(tmp_path / "run") as run:
        run.log({"step": 2})
        assert [row["step"] for row in run.metrics()] == [0, 1, 2]


def test_a_damaged_line_of_metrics_is_named_and_hides_no_other(tmp_path: Path, caplog) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 0}\n{"step"\n[1]\n{"a": "\xff"}\n{"step": 1}\n{"st')
    assert read_metrics(tmp_path) == [{"step": 0}, {"step": 1}]
    assert [line.partition(" is no row")[0].rpartition(":")[2] for line in caplog.messages] == ["2", "4"]


def test_metrics_are_truncated_to_the_step_that_is_resumed_from(tmp_path: Path, config: Config) -> None:
    with TrainingRun.begin(tmp_path / "run", config) as run:
        for step in range(5):
            run.log({"step": step})
        run.truncate_metrics(2)
        run.log({"step": 3, "again": True})
        assert [row["step"] for row in run.metrics()] == [0, 1, 2, 3]
        assert run.metrics()[-1]["again"]


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path, config: Config) -> None:
    with TrainingRun.begin(tmp_path / "run", config) as run:
        for step in (10, 20, 30):
            with run.checkpoint(step, keep=2) as folder:
                (folder / "weights").write_text(str(step))
        assert [step for step, _ in run.checkpoints()] == [20, 30]
        assert (run.checkpoints()[-1][1] / "weights").read_text() == "30"


def test_a_checkpoint_that_failed_half_way_does_not_exist(tmp_path: Path, config: Config) -> None:
    with TrainingRun.begin(tmp_path / "run", config) as run:
        with pytest.raises(IsADirectoryError), run.checkpoint(10, keep=2) as folder:
            folder.write_text("a folder cannot be written to")
        assert run.checkpoints() == []
        assert list((run.path / "checkpoints").iterdir()) == []


def test_the_summary_replaces_the_one_before(tmp_path: Path, config: Config) -> None:
    with TrainingRun.begin(tmp_path / "run", config) as run:
        run.write_summary({"pass_rate": 0.1})
        path = run.write_summary({"pass_rate": 0.2})
        assert json.loads(path.read_text()) == {"pass_rate": 0.2}
        assert not list(run.path.glob(".*.part"))


def test_an_evaluation_says_what_it_ran_with_from_its_beginning(tmp_path: Path) -> None:
    inside, outside = tmp_path / "run" / "sets", tmp_path / "sets"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        for name in ("taskset.toml", "tasks.jsonl", "prs.jsonl", "trees.zip"):
            (folder / name).write_text("")
    with RunFolder.open(tmp_path / "run") as run:
        run.note({**describe([outside], run=run.path), "policy": "oracle"})
        run.note({**describe([inside], run=run.path), "policy": "other"})
    manifest = read_manifest(tmp_path / "run")
    assert (manifest["schema"], manifest["policy"]) == (2, "oracle")
    assert list(manifest["tasks"]) == [str(outside), "sets"]
    assert len(manifest["tasks"]["sets"]) == 64


def test_two_processes_cannot_write_into_one_evaluation(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run"), pytest.raises(RunError, match="in use by another process"):
        RunFolder.open(tmp_path / "run")

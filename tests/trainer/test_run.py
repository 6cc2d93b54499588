from pathlib import Path

import pytest

from trainer.config import Config, ConfigError, Policy, Tasks, to_toml
from trainer.run import acting_policy


def make_run(folder: Path, *steps: int) -> Path:
    config = Config(tasks=Tasks(sets=("tasks/x",)), policy=Policy(dialect="qwen3-coder", context_tokens=3072))
    (folder / "model").mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(config))
    for step in steps:
        model = folder / f"checkpoints/step-{step:06d}/model"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
    return folder


def test_a_run_acts_with_its_newest_checkpoint_and_its_own_settings(tmp_path: Path) -> None:
    policy = acting_policy(str(make_run(tmp_path / "run", 2, 10)))
    assert policy.model == str(tmp_path / "run/checkpoints/step-000010/model")
    assert (policy.dialect, policy.context_tokens) == ("qwen3-coder", 3072)


def test_a_model_folder_inside_a_run_has_the_run_settings(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 2)
    policy = acting_policy(str(run / "model"))
    assert (policy.model, policy.dialect) == (str(run / "model"), "qwen3-coder")


def test_a_model_by_itself_has_the_defaults_and_changes_win() -> None:
    policy = acting_policy("some/model", temperature=0.5, dialect=None)
    assert (policy.model, policy.dialect, policy.temperature) == ("some/model", "hermes", 0.5)


def test_a_run_without_a_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint"):
        acting_policy(str(make_run(tmp_path / "run")))


def test_a_setting_that_cannot_be_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match="dialect"):
        acting_policy("some/model", dialect="morse")

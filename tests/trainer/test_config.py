import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import ConfigError, load, parse, to_toml

MINIMAL = '[tasks]\nsets = ["somewhere"]\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), overrides)
    return str(caught.value)


def test_only_the_task_sets_must_be_given(tmp_path: Path) -> None:
    assert load(written(tmp_path, MINIMAL)).tasks.sets == ("somewhere",)
    assert refusal(tmp_path, "seed = 1\n") == "tasks: must be given"


def test_an_unknown_key_is_refused_with_the_key_that_was_meant(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path, MINIMAL + "[rl]\nsamples_per_tasks = 4\n")
        == 'rl.samples_per_tasks: no such setting; did you mean "rl.samples_per_task"?'
    )
    assert 'did you mean "tasks"' in refusal(tmp_path, MINIMAL + "[task]\n")


def test_a_key_in_the_wrong_section_is_refused_with_its_home(tmp_path: Path) -> None:
    assert 'did you mean "policy.temperature"?' in refusal(
        tmp_path, MINIMAL + "[engine]\ntemperature = 1.0\n"
    )


@pytest.mark.parametrize("name", ["top_p", "top_k", "min_p", "repetition_penalty"])
def test_sampling_that_biases_log_probabilities_does_not_exist(tmp_path: Path, name: str) -> None:
    assert f"policy.{name}: no such setting" in refusal(tmp_path, MINIMAL + f"[policy]\n{name} = 0.9\n")


def test_overrides_are_toml_values_and_bare_words_are_text(tmp_path: Path) -> None:
    config = load(
        written(tmp_path, MINIMAL),
        [
            "rl.steps=3",
            "policy.model=Some/Model-4B",
            "rl.learning_rate=1e-4",
            'tasks.sets=["a", "b"]',
            "seed = 7",
        ],
    )
    assert (config.rl.steps, config.policy.model, config.rl.learning_rate, config.seed) == (
        3,
        "Some/Model-4B",
        1e-4,
        7,
    )
    assert config.tasks.sets == ("a", "b")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("rl.steps", "--set rl.steps: write it as section.key=value"),
        ("=3", "--set =3: write it as section.key=value"),
        ("rl.steps=[1", "--set rl.steps=[1: the value is not valid TOML"),
        ("seed.x=1", "--set seed.x=1: seed is a value, not a section"),
        ("rl.steps=many", 'rl.steps = "many": must be a valid integer'),
        ("rl.kl=true", "rl.kl = true: must be a valid number"),
        ("rl.samples_per_task=1", "rl.samples_per_task = 1: must be greater than or equal to 2"),
        ("engine.dtype=float16", "engine.dtype = \"float16\": must be 'float32' or 'bfloat16'"),
        ("rl=3", "rl = 3: must be a section"),
        ("policy.temperature=nan", "policy.temperature = NaN: must be a finite number"),
    ],
)
def test_a_wrong_override_gets_one_line_that_names_the_key(tmp_path: Path, override: str, line: str) -> None:
    assert refusal(tmp_path, "seed = 1\n" + MINIMAL, override) == line


def test_every_problem_gets_its_own_line(tmp_path: Path) -> None:
    lines = refusal(tmp_path, MINIMAL, "rl.steps=-1", "eval.samples=0", "policy.colour=red").splitlines()
    assert {line.split(":")[0].split(" ")[0] for line in lines} == {
        "rl.steps",
        "eval.samples",
        "policy.colour",
    }


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["policy.max_turn_tokens=8192"], "must be below policy.context_tokens"),
        (["learner.micro_batch_tokens=4096"], "must hold one whole episode"),
        (["rl.min_scored=9"], "cannot exceed rl.samples_per_task"),
        (["rl.minibatches=65"], "cannot exceed the 64 episodes of a step"),
        (["rl.warmup_steps=101"], "cannot exceed rl.steps"),
        (["sft.episodes=1", "sft.trajectories=x"], "exclude each other"),
        (["engine.weight_transfer=nccl"], "engine.weight_transfer"),
        (["tiny.kv_heads=2"], "heads must be a multiple of kv_heads"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, overrides: list[str], words: str
) -> None:
    assert words in refusal(tmp_path, MINIMAL, *overrides)


@pytest.mark.parametrize("text", ["[tasks\n", MINIMAL + MINIMAL, 'a = "\\x"'])
def test_a_file_that_is_not_toml_is_named_in_one_line(tmp_path: Path, text: str) -> None:
    line = refusal(tmp_path, text)
    assert line.startswith(str(tmp_path / "config.toml")) and "\n" not in line


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "nothing.toml")


def test_paths_that_exist_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somewhere").mkdir()
    config = load(written(tmp_path, MINIMAL))
    assert config.tasks.sets == (str(tmp_path / "somewhere"),)


def test_a_setting_cannot_be_changed_afterwards() -> None:
    config = parse({"tasks": {"sets": ["a"]}})
    with pytest.raises(ValueError, match="frozen"):
        config.rl.steps = 3  # pyright: ignore[reportAttributeAccessIssue]


@given(
    name=st.text(min_size=1),
    learning_rate=st.floats(min_value=1e-12, max_value=1.0, exclude_min=True),
    tie=st.booleans(),
    steps=st.integers(0, 10**9),
)
def test_the_resolved_config_reads_back_to_an_equal_tree(
    name: str, learning_rate: float, tie: bool, steps: int
) -> None:
    config = parse(
        {
            "tasks": {"sets": ["a", name]},
            "rl": {"learning_rate": learning_rate, "steps": steps},
            "tiny": {"tie_embeddings": tie},
        }
    )
    assert parse(tomllib.loads(to_toml(config))) == config


def test_a_name_that_is_no_possible_path_stays_as_it_is(tmp_path: Path) -> None:
    config = load(written(tmp_path, MINIMAL), [f"policy.model={'x' * 5000}"])
    assert config.policy.model == "x" * 5000


OLDER = """
seed = 2

[tasks]
sets = ["somewhere"]

[warm_start]
episodes = 96
minutes = 5.0
optimizer = "muon"

[rl]
advantage = "leave_one_out"
clip_low = 0.1
clip_high = 0.3
truncate_ratio = 3.0

[reward]
mode = "random"
chance = 0.25
"""


def test_a_file_of_the_version_before_is_read_under_the_names_of_today(tmp_path: Path) -> None:
    config = load(written(tmp_path, OLDER))
    assert (config.sft.episodes, config.sft.minutes, config.sft.optimizer) == (96, 5.0, "muon")
    assert config.rl.loss_settings == {
        "clip_low": 0.1,
        "clip_high": 0.3,
        "truncate_ratio": 3.0,
        "dual_clip": 3.0,
    }
    assert (config.rl.advantage, config.reward.mode, config.reward.chance) == (
        "leave_one_out",
        "random",
        0.25,
    )
    again = to_toml(config)
    assert "[sft]" in again and "warm_start" not in again
    assert parse(tomllib.loads(again)) == config


def test_overrides_by_old_names_and_new_ones_win_over_the_file(tmp_path: Path) -> None:
    config = load(written(tmp_path, OLDER), ["sft.minutes=1.0", "rl.loss_settings.clip_low=0.2"])
    assert (config.sft.minutes, config.rl.loss_settings["clip_low"]) == (1.0, 0.2)
    new = MINIMAL + "[sft]\nminutes = 5.0\nepisodes = 4\n"
    config = load(written(tmp_path, new), ["warm_start.minutes=1.0", "rl.clip_low=0.3"])
    assert (config.sft.minutes, config.sft.episodes, config.rl.loss_settings["clip_low"]) == (1.0, 4, 0.3)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("rl.advantage=meen", "rl.advantage: there is no advantage 'meen': .*; did you mean 'mean'"),
        ("rl.loss=policy_gradent", "rl.loss: there is no loss .*; did you mean 'policy_gradient'"),
        ("reward.mode=outcom", "reward.mode: there is no reward .*; did you mean 'outcome'"),
        ("rl.clip_low=3", "rl.loss_settings: clip_low = 3: must be less than 1"),
        ("rl.loss_settings.clip=1", 'rl.loss_settings: clip: no such setting; did you mean "clip_low"'),
    ],
)
def test_a_wrong_name_of_an_algorithm_gets_one_line(tmp_path: Path, override: str, line: str) -> None:
    found = refusal(tmp_path, MINIMAL, override)
    assert re.match(line, found) and "\n" not in found


def test_a_loss_of_one_s_own_takes_any_settings_and_is_not_imported_here(tmp_path: Path) -> None:
    overrides = ["rl.loss=my_package.losses:clipped", "rl.loss_settings.scale=2.0"]
    config = load(written(tmp_path, MINIMAL), overrides)
    assert (config.rl.loss, config.rl.loss_settings) == ("my_package.losses:clipped", {"scale": 2.0})
    assert "takes no settings" in refusal(tmp_path, MINIMAL, "rl.loss=nll", "rl.loss_settings.scale=2.0")

"""The policy that comes with the package is small, complete, and taught."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from agents.chat import ChatCodec
from envs.tools.toolset import tool_specs
from trainer.config import load
from trainer.data.lessons import Lessons
from trainer.learning.model import load_model, score
from trainer.setup import model_folder
from trainer.shipped import SHIPPED

pytestmark = pytest.mark.train
ROOT = Path(__file__).parents[2]


def test_the_demos_settings_name_it_wherever_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "practice").mkdir()  # a folder of that name is not meant
    monkeypatch.chdir(tmp_path)
    config = load(ROOT / "configs/demo.toml")
    assert config.policy.model == "practice"
    assert model_folder(config, tmp_path, []) == SHIPPED["practice"]


@pytest.mark.parametrize("folder", SHIPPED.values(), ids=SHIPPED)
def test_it_takes_little_room(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000


def test_it_knows_what_the_teacher_does_on_repositories_it_has_not_seen() -> None:
    folder = SHIPPED["practice"]
    codec, model = ChatCodec.load(str(folder), "qwen3-coder"), load_model(folder)
    lessons = Lessons(codec, tool_specs(), 1024, seed=123)
    samples = [sample for number in range(20) if (sample := lessons.sample(number)) is not None]
    nll = tokens = 0.0
    for sample in samples:
        with torch.no_grad():
            ids_BT, mask_BT = torch.tensor([sample.ids.tolist()]), torch.tensor([sample.mask.tolist()])
            logprobs_N = score(model, ids_BT, mask_BT, entropy="none").logprobs_N
        nll, tokens = nll - float(logprobs_N.sum()), tokens + len(logprobs_N)
    assert nll / tokens < 0.5, "a model of random weights has 6.8 nats"

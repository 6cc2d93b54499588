"""The learner in a Ray actor: the same answers, and clear words when it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")

from trainer.cluster import session as cluster
from trainer.data.samples import Sample
from trainer.learning.actor import RemoteLearner
from trainer.learning.learner import Learner, LearnerError

pytestmark = [pytest.mark.train, pytest.mark.slow]

ROWS = [
    Sample.of((1, 2, 3, 4), (False, True, True, True), (0.0, -3.0, -3.5, -3.2), (-1, 0, 0, 0), 1.0),
    Sample.of((1, 5, 6), (False, False, True), (0.0, 0.0, -3.4), (-1, -1, 0), -1.0),
]


@pytest.fixture(scope="module")
def ray_cluster():
    with cluster.start(cpus=1) as running:
        yield running


def test_it_answers_as_a_learner_in_process_does(ray_cluster, toy_config, toy_model, tmp_path: Path) -> None:
    local = Learner(toy_config(), toy_model)
    remote = RemoteLearner(toy_config(), toy_model, start_s=120, call_s=60)
    try:
        for _ in range(2):
            here, there = local.step(ROWS), remote.step(ROWS)
            assert {k: v for k, v in here.items() if k != "tokens_per_s"} == {
                k: v for k, v in there.items() if k != "tokens_per_s"
            }
        remote.save(tmp_path)
        local.restore(tmp_path)
        assert local.score(ROWS) == remote.score(ROWS)
        with pytest.raises(LearnerError, match=r"could not step.*no loss 'nlll'.*did you mean 'nll'"):
            remote.step(ROWS, "nlll")
        remote.start("sft")
        assert remote.step(ROWS, "nll")["nll"] > 0
    finally:
        remote.close()
    with pytest.raises(LearnerError, match="was closed"):
        remote.step(ROWS)


def test_a_missing_model_and_a_dead_actor_are_told_in_one_line(
    ray_cluster, toy_config, toy_model, tmp_path
) -> None:
    with pytest.raises(LearnerError) as missing:
        RemoteLearner(toy_config(), tmp_path, start_s=120, call_s=60)
    assert "cannot load a model" in str(missing.value) and "\n" not in str(missing.value)
    import ray

    remote = RemoteLearner(toy_config(), toy_model, start_s=120, call_s=60)
    ray.kill(remote._remote._actor)
    with pytest.raises(LearnerError, match="the learner died") as dead:
        remote.step(ROWS)
    assert "\n" not in str(dead.value)


def test_a_call_that_takes_too_long_is_given_up(ray_cluster, toy_config, toy_model) -> None:
    remote = RemoteLearner(toy_config(), toy_model, start_s=120, call_s=0.001)
    try:
        with pytest.raises(LearnerError, match="did not step within"):
            remote.step(ROWS * 200)
    finally:
        remote.close()

"""The learner's benchmark measures something."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from benchmarks.learner import measure

pytestmark = pytest.mark.train


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_measurement_names_its_conditions_and_leaves_the_threads_as_they_were(bfloat16: bool) -> None:
    before = torch.get_num_threads()
    row = measure(length=64, micro_batch_tokens=256, threads=1, bfloat16=bfloat16, seconds=0.1)
    assert torch.get_num_threads() == before
    assert row["tokens_per_s"] > 0 and row["tokens_per_cpu_s"] > 0
    assert (row["length"], row["threads"], row["compiled"]) == (64, 1, False)
    assert row["passes"] >= 1 and row["first_s"] > 0
    assert 1.2e6 < row["parameters"] < 1.5e6

"""The learner's benchmark measures something."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from benchmarks.learner import measure

pytestmark = [pytest.mark.train, pytest.mark.slow]


def test_every_variant_is_measured_and_the_threads_are_left_as_they_were() -> None:
    before = torch.get_num_threads()
    table = measure(batch_tokens=600, micro_batch_tokens=800, vocabulary=64, threads=1, rounds=1)
    assert torch.get_num_threads() == before
    assert len(table) == 8
    for name, row in table.items():
        assert row["tokens_per_s"] > 0 and row["tokens_per_cpu_s"] > 0 and row["first_s"] > 0
        assert (row["padding"] == 0) is ("packed" in name)
        assert (row["programs"] > 0) is ("compiled" in name)

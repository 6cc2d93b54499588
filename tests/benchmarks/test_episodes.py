"""What the benches of episodes and grading say, on a real backend and for a moment."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

import sandboxes
from benchmarks.episodes import measure_episodes
from benchmarks.layers import measure_layers
from benchmarks.task import bench_taskset


def test_a_suite_has_as_many_tests_as_asked_for_and_one_bug(tmp_path: Path) -> None:
    for tests, files in ((1, 1), (5, 1), (200, 11)):
        [task] = bench_taskset(tmp_path / str(tests), tests=tests).tasks
        assert len(task.fail_to_pass) + len(task.pass_to_pass) == tests
        assert (len(task.test_files), len(task.fail_to_pass)) == (files, min(tests, 2))


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_layers_and_episodes_are_measured_on_submissions_that_pass(tmp_path: Path) -> None:
    with closing(sandboxes.connect("bubblewrap")) as backend:
        rows = measure_layers(backend, tmp_path / "layers", suites=(1,), rounds=1)
        assert [name.partition(", ")[2] for name in rows] == [
            "bare pytest, cold",
            "forked, without layers",
            "forked, with canaries and tripwire",
            "second look",
            "patch to verdict",
        ]
        assert rows["1 test, patch to verdict"]["p50"] > rows["1 test, second look"]["p50"] > 0
        episodes = measure_episodes(backend, tmp_path / "episodes", concurrency=1, seconds=1.0)
        assert episodes["episodes, 1 at once"]["per_second"] > 0

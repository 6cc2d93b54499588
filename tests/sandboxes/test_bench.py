"""The figures are of what they say."""

import pytest

from sandboxes import Backend
from sandboxes.bench import measure, summary


def test_percentiles_are_those_of_the_sample() -> None:
    assert summary([3.0, 1.0, 2.0]) == {"p50": 2.0, "p99": 3.0, "samples": 3.0}
    hundred = summary([float(n) for n in range(1, 101)])
    assert (hundred["p50"], hundred["p99"]) == (50.5, 99.0)


@pytest.mark.docker
def test_docker_is_measured_beside_its_own_commands(docker_backend: Backend, docker_image: str) -> None:
    figures = measure(docker_backend, docker_image, rounds=4, opens=2)
    assert set(figures) >= {"exec", "read", "write", "search", "open", "close", "docker_exec", "docker_run"}
    assert (
        figures["exec"]["samples"] == 4
        and figures["open"]["samples"] == figures["docker_run"]["samples"] == 2
    )
    assert figures["exec"]["p50"] < figures["docker_exec"]["p50"] < figures["docker_run"]["p50"]


@pytest.mark.bubblewrap
def test_bubblewrap_is_measured_alone(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    figures = measure(bubblewrap_backend, bubblewrap_image, rounds=2, opens=1)
    assert "docker_exec" not in figures and figures["open"]["p50"] > 0

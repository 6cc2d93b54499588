"""The figures are of what they say."""

import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.load import measure_crowd, measure_forks
from benchmarks.peers import Peer, installed
from benchmarks.sandboxes import measure, summary
from sandboxes import Backend, connect


def test_percentiles_are_those_of_the_sample() -> None:
    assert summary([3.0, 1.0, 2.0]) == {"p50": 2.0, "p99": 3.0, "samples": 3.0}
    hundred = summary([float(n) for n in range(1, 101)])
    assert (hundred["p50"], hundred["p99"]) == (50.5, 99.0)


@pytest.mark.docker
def test_docker_is_measured_beside_its_own_commands(docker_image: str) -> None:
    with closing(connect("docker")) as pool:
        figures = measure(pool, docker_image, rounds=4, opens=2)
    own = {"exec", "read", "write", "search", "open, cold", "reset, warm", "close"}
    assert set(figures) >= own | {"docker_exec", "docker_run"}
    assert figures["exec"]["samples"] == 4
    assert figures["open, cold"]["samples"] == figures["docker_run"]["samples"] == 2
    assert figures["exec"]["p50"] < figures["docker_exec"]["p50"] < figures["docker_run"]["p50"]
    assert figures["reset, warm"]["p50"] < figures["open, cold"]["p50"] / 4


@pytest.mark.bubblewrap
def test_bubblewrap_is_measured_alone(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    figures = measure(bubblewrap_backend, bubblewrap_image, rounds=2, opens=1)
    assert "docker_exec" not in figures and figures["open, cold"]["p50"] > 0


@pytest.mark.bubblewrap
def test_a_crowd_answers_and_forks_hold_what_they_should(
    bubblewrap_backend: Backend, bubblewrap_image: str
) -> None:
    crowd = measure_crowd(bubblewrap_backend, bubblewrap_image, count=4)
    assert crowd["answering"]["sandboxes"] == crowd["alive"]["sandboxes"] == 4
    forks = measure_forks(bubblewrap_backend, bubblewrap_image, tree_mb=4, changes_mb=1, forks=2)
    assert forks["fork"]["samples"] == 2 and forks["fork"]["p50"] >= forks["snapshot"]["p50"]


def test_an_interpreter_without_peers_has_none() -> None:
    assert installed(Path(sys.executable)) == []


def test_a_peer_that_is_not_there_says_so_and_ends() -> None:
    peer = Peer(Path(sys.executable), "mini-swe-agent", "no-image")
    with pytest.raises(RuntimeError, match="mini-swe-agent could not start"):
        peer.measure("start")
    peer.close()

"""The set-up scripts do nothing where nothing is missing, and say one line where they cannot help."""

import os
import subprocess
from pathlib import Path

import pytest

from sandboxes import Backend

SCRIPTS = Path(__file__).parents[2] / "scripts"
NOBODY = 65534


def run(name: str, **options: object) -> subprocess.CompletedProcess[str]:
    text = (SCRIPTS / name).read_text()  # by its text, since nobody may not see this folder
    command = ["sh", "-c", text]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd="/", **options
    )


@pytest.mark.docker
def test_an_engine_that_answers_is_left_alone(docker_backend: Backend) -> None:
    for _ in range(2):
        done = run("ensure-docker.sh")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.bubblewrap
def test_tools_that_are_there_are_left_alone(bubblewrap_backend: Backend) -> None:
    done = run("ensure-tools.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("script", ["ensure-docker.sh", "ensure-tools.sh"])
def test_without_root_one_line_says_what_to_do(script: str) -> None:
    ordinary = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    done = run(script, env={"PATH": "/nowhere:/bin", "DOCKER_HOST": "unix:///nowhere.sock"}, **ordinary)
    if script == "ensure-docker.sh":
        assert done.returncode == 1 and "run this as root" in done.stderr, done
        assert done.stderr.count("\n") == 1, done
    else:
        assert done.returncode in (0, 1) and done.stderr.count("\n") == done.returncode, done

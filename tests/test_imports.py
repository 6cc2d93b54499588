"""Importing does nothing: no heavy libraries below the trainer, no output, no files."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "ray", "vllm", "transformers")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("sandboxes", "envs", "agents")
    for path in (ROOT / package).rglob("*.py")
    if "inside" not in path.parts and "redteam/programs" not in path.as_posix()
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("package", ["sandboxes", "envs", "agents", "trainer", "daythree"])
def test_importing_a_package_says_nothing_and_loads_nothing_heavy(package: str) -> None:
    done = python(
        f"import sys, threading, {package}\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_module_below_the_trainer_imports_without_the_training_stack() -> None:
    code = "\n".join(
        [
            "import importlib, sys",
            f"for name in {HEAVY!r}:",
            "    sys.modules[name] = None  # importing it raises ImportError",
            f"for module in {MODULES!r}:",
            "    importlib.import_module(module)",
        ]
    )
    done = python(code)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_importing_writes_no_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import sandboxes, envs, agents, trainer, daythree"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": ""},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []

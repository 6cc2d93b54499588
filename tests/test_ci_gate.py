import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
MET = "\n".join(
    f"@pytest.mark.{marker}\ndef test_{marker}():\n    pass\n" for marker in ("docker", "bubblewrap", "train")
)


def gate(folder: Path, tests: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the gate on tests of its own, away from this project's configuration."""
    (folder / "test_it.py").write_text("import pytest\n" + tests)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    docker\n    bubblewrap\n    train\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.ci_gate", "-q", "-p", "no:cacheprovider", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_it_passes_when_every_component_was_met(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = gate(tmp_path, MET, *words)
    assert done.returncode == 0, done.stdout
    assert "docker: 1 ran, 0 skipped" in done.stdout


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_a_skipped_marked_test_fails_the_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    skipped = "@pytest.mark.docker\ndef test_other():\n    pytest.skip('no engine')\n"
    done = gate(tmp_path, MET + skipped, *words)
    assert done.returncode == 1
    assert "1 tests marked docker were skipped" in done.stdout


def test_a_marker_without_tests_fails_the_run(tmp_path: Path) -> None:
    done = gate(tmp_path, MET, "-m", "not train")
    assert done.returncode == 1
    assert "no test marked train ran" in done.stdout


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_a_file_that_skips_itself_fails_the_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "test_whole.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    done = gate(tmp_path, MET, *words)
    assert done.returncode == 1
    assert "test_whole.py was skipped as a whole" in done.stdout


@pytest.mark.parametrize("body", ["assert False", "raise OSError('x')"])
def test_a_failing_test_still_fails_the_run(tmp_path: Path, body: str) -> None:
    assert gate(tmp_path, MET + f"def test_bad():\n    {body}\n").returncode == 1


def test_an_unmarked_skip_is_allowed(tmp_path: Path) -> None:
    assert gate(tmp_path, MET + "def test_free():\n    pytest.skip('no browser')\n").returncode == 0

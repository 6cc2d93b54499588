"""The command as a person meets it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daythree.cli import app
from envs.tasksets.taskset import Manifest, Runtime, write_taskset
from envs.tasksets.trees import TreeFile, digest
from envs.testing.run import RunnerSetup
from envs.types import Task
from sandboxes import ImageRecipe

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    ["doctor"],
    ["register"],
    ["register", "inject"],
    ["register", "check"],
    ["tasks"],
    ["eval"],
    ["train"],
    ["regrade"],
    ["view"],
    ["demo"],
)


def command(*words: str, cwd: Path = ROOT, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daythree", *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        check=False,
    )


def make_taskset(folder: Path) -> None:
    """Write a task set with one task, which is only listed and shown."""
    source = {"a.py": TreeFile(b"x = 1\n")}
    recipe = ImageRecipe("made-for-a-test")
    task = Task(
        id="one",
        set="made",
        split="heldout",
        environment="default",
        workdir="/workspace",
        instruction="Mend it.",
        source_digest=digest(source),
        tests_digest=digest(source),
        base_patch="",
        reference_patch="--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n",
        base_digest=digest(source),
        fail_to_pass=("tests/test_a.py::test_a",),
        pass_to_pass=(),
    )
    write_taskset(
        folder,
        Manifest("made", "inject", "by hand", {"default": Runtime(recipe, RunnerSetup())}),
        [task],
        [source],
    )


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the single line on standard error of a command that refused."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.strip()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(words: list[str]) -> None:
    done = command(*words, "--help")
    assert done.returncode == 0
    assert f"daythree {' '.join(words)} " in " ".join(done.stdout.split("Example:")[1].split()) + " "


def test_help_answers_in_half_a_second() -> None:
    took = []
    for _ in range(3):
        started = time.monotonic()
        assert command("--help").returncode == 0
        took.append(time.monotonic() - started)
    assert min(took) < 0.5


def test_help_imports_none_of_the_heavy_libraries() -> None:
    heavy = ("torch", "ray", "vllm", "docker", "gymnasium", "pydantic", "jinja2")
    code = (
        "import sys; from daythree.cli import app; app.run(['--help']); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_gets_one_line_and_code_two() -> None:
    assert "No such command 'fly'" in one_line(command("fly"), 2)


def test_a_missing_option_gets_one_line_that_names_it() -> None:
    line = one_line(command("eval", "--policy", "oracle", "--out", "x"), 2)
    assert "--tasks" in line
    assert "daythree eval --help" in line


def test_an_unknown_task_set_gets_one_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    line = one_line(
        command("eval", "--tasks", str(tmp_path / "no"), "--policy", "oracle", "--out", str(out)), 2
    )
    assert "there is no task set" in line
    assert not out.exists()


def test_a_folder_that_is_no_task_set_gets_one_line(tmp_path: Path) -> None:
    line = one_line(command("tasks", str(tmp_path)), 2)
    assert str(tmp_path) in line


def test_an_unknown_split_gets_one_line(tmp_path: Path) -> None:
    words = ["--tasks", str(tmp_path), "--policy", "oracle", "--out", str(tmp_path / "o"), "--split", "some"]
    assert "use train, heldout or all" in one_line(command("eval", *words), 2)


def test_an_unknown_setting_gets_one_line_that_says_what_was_meant(tmp_path: Path) -> None:
    words = ["train", "configs/tiny.toml", "--set", "rl.stepz=3", "--out", str(tmp_path / "run")]
    line = one_line(command(*words), 2)
    assert 'rl.stepz: no such setting; did you mean "rl.steps"?' in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["train", "configs/tiny.toml"], ["demo"]], ids=lambda words: words[0])
def test_a_run_folder_that_exists_is_left_alone(tmp_path: Path, words: list[str]) -> None:
    line = one_line(command(*words, "--out", str(tmp_path)), 2)
    assert f"{tmp_path} exists already" in line
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_policy_gets_one_line_that_lists_the_known(tmp_path: Path) -> None:
    make_taskset(tmp_path / "set")
    out = tmp_path / "run"
    words = ["eval", "--tasks", str(tmp_path / "set"), "--policy", "morse", "--out", str(out)]
    line = one_line(command(*words), 2)
    assert "there is no policy 'morse'" in line
    for form in (
        "oracle",
        "scripted:FILE.jsonl",
        "endpoint:URL#MODEL",
        "vllm:MODEL_PATH",
        "module:attribute",
    ):
        assert form in line
    assert not out.exists()


def test_tasks_are_listed_and_one_is_shown(tmp_path: Path) -> None:
    make_taskset(tmp_path / "set")
    listed = json.loads(command("tasks", str(tmp_path / "set"), "--json").stdout)
    assert [task["id"] for task in listed] == ["one"]
    shown = command("tasks", str(tmp_path / "set"), "show", "one").stdout
    assert "Mend it." in shown
    assert "tests/test_a.py::test_a" in shown
    assert "has no task two" in one_line(command("tasks", str(tmp_path / "set"), "show", "two"), 2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "there is no "),
        ("empty", "holds no graded episode"),
        ("predictions.jsonl", "predictions do not say where their tasks are: name them with --tasks"),
    ],
)
def test_grading_again_what_holds_nothing_gets_one_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "predictions.jsonl").write_text('{"instance_id": "a", "model_patch": ""}\n')
    assert reason in one_line(command("regrade", str(tmp_path / name)), 2)


def test_viewing_what_is_no_run_gets_one_line(tmp_path: Path) -> None:
    assert "there is no run folder" in one_line(command("view", str(tmp_path / "no")), 2)


def test_view_without_serving_writes_the_page_and_prints_its_path(tmp_path: Path) -> None:
    done = command("view", str(tmp_path), "--no-serve")
    assert done.returncode == 0
    assert Path(done.stdout.strip()) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_without_a_traceback(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "daythree", "view", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # without a terminal SIGINT counts even where it was ignored at the start
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in errors


def test_a_name_that_resolves_elsewhere_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from daythree.cli import app; sys.exit(app.run(sys.argv[1:]))",
            "train",
            "x.toml",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        check=False,
    )
    line = one_line(done, 1)
    assert f"agents resolves to {tmp_path / 'agents'}" in line
    assert "an environment of its own" in line


@pytest.mark.slow
def test_a_name_that_another_distribution_provides_is_refused_and_named(tmp_path: Path) -> None:
    info = tmp_path / "openai_agents-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: openai-agents\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("agents\n")
    done = subprocess.run(
        [sys.executable, "-m", "daythree", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        check=False,
        timeout=280,
    )
    assert done.returncode == 1
    report = json.loads(done.stdout)
    names = next(check for check in report["checks"] if check["name"] == "import names")
    assert not names["ok"]
    assert "agents is also provided by the distribution openai-agents" in names["detail"]


def test_errors_of_ours_become_a_line_and_defects_stay_tracebacks() -> None:
    from agents.evals.evaluate import EvaluationOutage
    from agents.types import PolicyError
    from envs.register.errors import RegisterOutage
    from sandboxes.base import SandboxLost

    assert app.explain(SandboxLost("gone")) == ("gone", 1)
    assert app.explain(PolicyError("no answer")) == ("no answer", 1)
    assert app.explain(EvaluationOutage("engine gone")) == ("engine gone", 1)
    assert app.explain(RegisterOutage("engine gone")) == ("engine gone", 1)
    assert app.explain(FileExistsError("runs/x exists; name another")) == (
        "runs/x exists; name another",
        2,
    )
    assert app.explain(FileNotFoundError(2, "No such file", "x")) is None
    assert app.explain(KeyError("x")) is None


def test_a_full_disk_is_said_in_one_line() -> None:
    explained = app.explain(OSError(28, "No space left on device", "/data/run"))
    assert explained is not None
    assert "no space left" in explained[0]
    assert explained[1] == 1


def test_a_result_shows_single_values_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    from daythree.cli.terminal import print_result

    dropped = {"no test notices": 3, "no failing test could be hidden": 2}
    print_result({"tasks": 7, "dropped": dropped, "quarantined": {}, "files": {"a": "b"}}, as_json=False)
    shown = capsys.readouterr().out
    assert "no test notices: 3; no failing test could be hidden: 2" in " ".join(shown.split())
    assert "quarantined" not in shown
    assert "files" not in shown

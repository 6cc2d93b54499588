import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from agents.runs.read import choose, part_of, parts_in_order, read_run
from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from agents.viewer.report import embed, figure, render, serve, write_report
from envs.types import Observation, StopReason, ToolCall, Verdict

HOSTILE = (
    "</script><script>document.title='pwned'</script>"
    "<img src=x onerror=\"document.title='pwned'\"><!-- <script> ]]> \u2028 {{ 7 * 7 }} &lt;b&gt;"
)
TITLE = "run · Day Three"


def trajectory(
    number: int, *, reward: float | None = 1.0, text: str = "ok", task: str = "task-1"
) -> Trajectory:
    completion = Completion((5, 6), (-0.1, -2.5), (VersionSpan(3, 0, 2),))
    call = ToolCall(f"call-{number}", "edit", {"path": text, "old": "a", "new": text})
    turn = Turn(Action((call,), text, (1, 2, 3), completion), (Observation(text),), 0.5, 0.25)
    verdict = None
    if reward is not None:
        failed = () if reward else (f"tests/test_x.py::test_{text}",)
        verdict = Verdict(
            bool(reward), passed=("tests/test_x.py::test_a",), failed=failed, log=text, duration_s=1.0
        )
    return Trajectory(
        id=f"episode-{number}",
        task_id=task,
        task_hash="hash",
        group="g",
        policy="scripted",
        seed=number,
        turns=(turn,),
        stop=StopReason.SUBMITTED if verdict else StopReason.INFRA,
        reward=reward,
        verdict=verdict,
        patch=text,
        error="" if verdict else text,
        duration_s=2.0,
    )


def make_run(folder: Path, trajectories: list[Trajectory], name: str = "train") -> Path:
    run = folder / "run"
    (run / "trajectories").mkdir(parents=True)
    adapter = TypeAdapter(Trajectory)
    lines = b"".join(adapter.dump_json(item) + b"\n" for item in trajectories)
    (run / "trajectories" / f"{name}.jsonl").write_bytes(lines)
    return run


class Tags(HTMLParser):
    """Every element of a page with its attributes, and the text of every script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)

    def script(self, name: str) -> str:
        return next(text for attributes, text in self.scripts if attributes.get("id") == name)


def test_an_empty_run_folder_still_makes_a_page(tmp_path: Path) -> None:
    page = write_report(tmp_path).read_text()
    assert "This run has no trajectories" in page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_run_folder_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        write_report(tmp_path / "no")


def test_headlines_come_from_the_summary(tmp_path: Path) -> None:
    summary = {
        "pass_rate_before": 0.0,
        "pass_rate_after": 0.708,
        "tasks": 96,
        "wall_s": 1084.0,
        "sandbox": "docker",
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = write_report(tmp_path).read_text()
    for text in ("<b>0%</b>", "<b>70.8%</b>", "<b>96</b>", "<b>18 min 04 s</b>", "docker"):
        assert text in page


def test_broken_files_are_left_out_and_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, [trajectory(1)])
    with (run / "trajectories" / "train.jsonl").open("a") as lines:
        lines.write('{"id": "cut sho')
    (run / "summary.json").write_text("[1, 2")
    (run / "metrics.jsonl").write_text('not json\n{"step": 1, "reward": 0.5}\n{"step": "x"}\n')
    (run / "config.toml").write_text("= =")
    data = read_run(run)
    assert (len(data.trajectories), data.unread) == (1, 1)
    assert data.metrics == [{"step": 1, "reward": 0.5}]
    assert "1 lines could not be read" in render(data)


def test_hostile_text_stays_data(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, [trajectory(1, text=HOSTILE, task=HOSTILE), trajectory(2, reward=None, text=HOSTILE)]
    )
    (run / "summary.json").write_text(json.dumps({"sandbox": HOSTILE, "policy": HOSTILE, "tasks": 3}))
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": n, HOSTILE: n}) + "\n" for n in range(3)))
    page = write_report(run).read_text()
    tags = Tags(page)
    code = [text for attributes, text in tags.scripts if attributes.get("type") != "application/json"]
    assert len(code) == 1
    assert "pwned" not in code[0]
    assert not [tag for tag, _ in tags.found if tag == "img"]
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    bodies = [
        json.loads(text) for attributes, text in tags.scripts if (attributes.get("id") or "").startswith("t0")
    ]
    assert bodies[0]["turns"][0]["observations"][0]["text"] == HOSTILE


def test_the_script_never_sets_markup() -> None:
    script = (Path(__file__).parents[3] / "agents/viewer/report.js.jinja").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert way not in script


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path, [trajectory(1)])).read_text()
    for _, attributes in Tags(page).found:
        assert not (attributes.get("src") or "")
        assert (attributes.get("href") or "data:").startswith("data:")
    assert "default-src 'none'" in page


@pytest.mark.skipif(shutil.which("chromium") is None, reason="looks at the page with chromium")
def test_a_browser_shows_the_trajectory_and_runs_nothing_hostile(tmp_path: Path) -> None:
    run = make_run(tmp_path, [trajectory(n, text=HOSTILE, reward=float(n % 2)) for n in range(4)])
    page = write_report(run)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        ["chromium", *flags, f"file://{page}"], capture_output=True, text=True, timeout=90, check=True
    )
    assert f"<title>{TITLE}</title>" in done.stdout
    assert done.stdout.count('class="light') == 4
    assert '<section class="turn">' in done.stdout
    assert "<img" not in done.stdout


def test_episodes_are_told_apart_by_outcome(tmp_path: Path) -> None:
    run = make_run(tmp_path, [trajectory(1), trajectory(2, reward=0.0), trajectory(3, reward=None)])
    index = next(
        text for attributes, text in Tags(render(read_run(run))).scripts if attributes.get("id") == "index"
    )
    assert [entry["outcome"] for entry in json.loads(index)] == ["solved", "failed", "unscored"]


def test_tasks_are_found_where_the_configuration_names_them(tmp_path: Path) -> None:
    run = make_run(tmp_path, [trajectory(1), trajectory(2, reward=0.0)])
    folder = tmp_path / "sets" / "demo"
    folder.mkdir(parents=True)
    rows = [{"id": "task-1", "instruction": "Mend it.", "traits": {"kind": "off_by_one"}}, {"id": "task-9"}]
    (folder / "tasks.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (run / "config.toml").write_text(f"[tasks]\nsets = [{json.dumps(str(folder))}]\n")
    data = read_run(run)
    assert list(data.tasks) == ["task-1"]
    page = render(data)
    assert "off by one" in page
    assert "50%" in page
    assert "Mend it." in page


def test_a_large_run_shows_an_even_choice_and_says_so(tmp_path: Path) -> None:
    data = read_run(make_run(tmp_path, [trajectory(n) for n in range(30)]))
    kept = choose(data.trajectories, 10)
    assert [shown.trajectory.seed for shown in kept] == list(range(0, 30, 3))
    data.trajectories = kept
    assert "10 of 30, spread evenly" in render(data)


@pytest.mark.parametrize(
    ("path", "group", "part"),
    [
        ("trajectories/part-000002.jsonl", "step-12/0/task-1", "training"),
        ("trajectories/part-000002.jsonl", "", "training"),
        ("trajectories/part-000001.jsonl", "eval/task-1", "eval"),
        ("trajectories/part-000001.jsonl", "demonstration/3", "demonstration"),
        ("trajectories/after.jsonl", "g", "after"),
        ("trajectories/before/part-000001.jsonl", "eval/x", "before"),
        ("evals/step-000010/trajectories/part-000001.jsonl", "eval/x", "held out, step 10"),
        ("evals/warm/trajectories/part-000001.jsonl", "eval/x", "warm"),
    ],
)
def test_the_part_of_a_run_is_its_folder_file_or_group(path: str, group: str, part: str) -> None:
    assert part_of(Path(path), group) == part


def test_parts_come_in_the_order_in_which_they_happened(tmp_path: Path) -> None:
    names = ["held out, step 20", "after", "training", "held out, step 5", "before", "held out, step 0"]
    ordered = ["before", "held out, step 0", "training", "held out, step 5", "held out, step 20", "after"]
    assert parts_in_order([*names, *names]) == ordered


def test_the_learning_curve_shows_reward_and_held_out_marks(tmp_path: Path) -> None:
    rows = [{"step": step, "reward": step / 20} for step in range(1, 11)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    summary = {"pass_rate_before": 0.0, "pass_rate_warm": 0.25, "pass_rate_after": 0.5, "train_steps": 10}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = write_report(tmp_path).read_text()
    for text in (
        "before 0%",
        "warm 25%",
        "after 50%",
        'class="line line-train"',
        'class="line line-heldout"',
    ):
        assert page.count(text) == 2, text  # the wide chart and the narrow one
    assert page.count('class="dot"') == 20


def test_hundreds_of_passed_tests_do_not_make_the_page_heavy(tmp_path: Path) -> None:
    passed = tuple(f"tests/test_x.py::test_{number:04}" for number in range(500))
    verdict = Verdict(False, passed=passed, failed=("tests/test_x.py::test_wrong",), log="x" * 90_000)
    played = [replace(trajectory(number, reward=0.0), verdict=verdict) for number in range(20)]
    page = write_report(make_run(tmp_path, played)).read_text()
    assert "test_wrong" in page
    assert '"passed_more": 488' in page or '"passed_more":488' in page
    assert len(page) < 300_000


def test_figures_read_as_people_say_them() -> None:
    assert figure(0.5, "rate") == "50%"
    assert figure(0.3333, "rate") == "33.3%"
    assert figure(0.0312, "seconds") == "31 ms"
    assert figure(12.34, "seconds") == "12.3 s"
    assert figure(3600, "seconds") == "60 min 00 s"
    assert figure(1234, "count") == "1,234"


def test_embedded_json_holds_no_markup_and_reads_back_equal() -> None:
    text = embed({"a": HOSTILE})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": HOSTILE}


def test_serving_shows_one_file_and_nothing_else(tmp_path: Path) -> None:
    page = write_report(tmp_path)
    (tmp_path / "secret.txt").write_text("secret")
    with serve(page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with urllib.request.urlopen(f"{address}/", timeout=10) as answer:
            assert answer.read() == page.read_bytes()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/secret.txt", timeout=10)
        server.shutdown()

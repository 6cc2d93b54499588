"""Nothing is registered unproven: what does not hold is quarantined, or nothing is written at all."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envs.register.errors import RegisterError
from envs.register.proof.cheats import CHEATS
from envs.register.proof.taskset import Proposal, check, write_proven
from envs.register.settings import RegisterSettings
from envs.tasksets.taskset import Manifest, Runtime, TaskSet, load_taskset, verify_lock
from sandboxes import Backend, ImageRecipe
from sandboxes.images.build import cache_folder

pytestmark = pytest.mark.bubblewrap
CODE = "calculator/__init__.py"


@pytest.fixture(scope="module")
def backend(bubblewrap_backend: Backend, calculator: TaskSet) -> Backend:
    bubblewrap_backend.ensure_image(calculator.runtime(calculator.tasks[0]).image, timeout_s=600)
    return bubblewrap_backend


@pytest.mark.slow
def test_a_task_that_does_not_hold_is_quarantined_and_the_others_are_there_with_their_evidence(
    calculator: TaskSet, backend: Backend, tmp_path: Path
) -> None:
    task = calculator.tasks[0]
    idle = replace(task, id="calculator-0002", reference_patch="")
    out, trees = tmp_path / "sets" / "calculator", [calculator.source_tree(task)]
    proposal = Proposal(calculator.manifest, [task, idle], trees, evidence={"runs": 2})
    done = write_proven(proposal, RegisterSettings(out=out, backend=backend))
    assert done.quarantined == {"calculator-0002": "the reference patch fails 1 of 1 times"}
    assert [kept.id for kept in done.taskset.tasks] == ["calculator-0001"]
    assert verify_lock(done.taskset) == []
    assert [path.name for path in out.parent.iterdir()] == ["calculator"]
    evidence = json.loads((out / "lock.json").read_text())["evidence"]
    assert evidence["runs"] == 2
    assert set(evidence["confirmed"]["cheats"]) == {cheat.name for cheat in CHEATS}, "by turns, all of them"
    assert evidence["confirmed"]["images"]["default"]["complete"]
    report = check(out, runs=1, backend=backend)
    assert report.ok, report
    assert set(report.cheats) == {cheat.name for cheat in CHEATS}


@pytest.mark.slow
def test_check_removes_what_fails_when_it_is_asked_to(
    calculator: TaskSet, backend: Backend, tmp_path: Path
) -> None:
    out = shutil.copytree(calculator.folder, tmp_path / "set")
    row = json.loads((out / "tasks.jsonl").read_text())
    easy = {**row, "id": "easy", "base_patch": "", "base_digest": row["source_digest"], "reference_patch": ""}
    (out / "tasks.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(easy) + "\n")
    report = check(out, runs=1, remove=True, backend=backend)
    assert not report.ok
    assert "the empty patch passes" in report.quarantined["easy"]
    after = load_taskset(out)
    assert [task.id for task in after.tasks] == [row["id"]]
    assert verify_lock(after) == []


@pytest.mark.slow
def test_a_task_whose_fix_the_past_changes_tell_of_is_quarantined(
    calculator: TaskSet, backend: Backend, tmp_path: Path
) -> None:
    task, told = calculator.tasks[0], "add must be\n\n    return a + b\n"
    prs = [replace(calculator.prs[0], body=told), *calculator.prs[1:]]
    open_book = replace(task, id="calculator-0002", past=1)
    closed = replace(task, past=0)
    trees = [calculator.source_tree(task)]
    proposal = Proposal(calculator.manifest, [closed, open_book], trees, prs=prs)
    done = write_proven(proposal, RegisterSettings(out=tmp_path / "set", backend=backend))
    assert [kept.id for kept in done.taskset.tasks] == [task.id]
    assert "return a + b" in done.quarantined["calculator-0002"]


@pytest.fixture
def leaking(calculator: TaskSet, backend: Backend, tmp_path: Path) -> Iterator[ImageRecipe]:
    """An image one of whose packages ships the library with the fix."""
    wheel, name = tmp_path / "helpful-1.0-py3-none-any.whl", "helpful-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("helpful/vendored.py", calculator.source_tree(calculator.tasks[0])[CODE].data)
        archive.writestr(f"{name}/METADATA", "Metadata-Version: 2.1\nName: helpful\nVersion: 1.0\n")
        archive.writestr(f"{name}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}/RECORD", "")
    pins = calculator.runtime(calculator.tasks[0]).image.requirements
    recipe = ImageRecipe("leaking", (*pins, str(wheel)))
    backend.ensure_image(recipe, timeout_s=600)
    yield recipe
    place = cache_folder() / "environments" / recipe.environment_digest
    shutil.rmtree(place, ignore_errors=True)
    place.with_name(f"{place.name}.lock").unlink(missing_ok=True)


@pytest.mark.slow
def test_a_set_whose_image_holds_the_fix_is_not_written(
    calculator: TaskSet, backend: Backend, leaking: ImageRecipe, tmp_path: Path
) -> None:
    task = calculator.tasks[0]
    environments = {"default": Runtime(leaking, calculator.runtime(task).tests)}
    manifest = Manifest("leaky", "inject", "path:calculator", environments)
    proposal = Proposal(manifest, [task], [calculator.source_tree(task)])
    with pytest.raises(RegisterError, match=r"helpful/vendored\.py is calculator/__init__\.py after the fix"):
        write_proven(proposal, RegisterSettings(out=tmp_path / "leaky", backend=backend))
    assert not (tmp_path / "leaky").exists()

"""The images of a task set are built again from `taskset.toml`, and compared with what was recorded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from envs.register import RegisterError
from envs.register.runtime.build import build, image_digest, image_digests
from envs.register.runtime.contents import contents
from envs.tasksets.taskset import TaskSet
from sandboxes import connect


def laid(folder: Path, **files: str) -> Path:
    for name, text in {
        "thing/__init__.py": "x = 1\n",
        "thing-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: Thing\nVersion: 1\n\nName: no\n",
        **files,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_only_what_matters_counts(tmp_path: Path):
    plain = contents(str(laid(tmp_path / "a")))
    assert plain["distributions"] == ["Thing==1"]
    more = laid(
        tmp_path / "b",
        **{
            "thing/__pycache__/x.pyc": "?",
            "thing-1.dist-info/RECORD": "bin/thing,sha256=…",
            "bin/thing": "#!/somewhere/python",
        },
    )
    os.utime(more / "thing/__init__.py", (0, 0))
    assert contents(str(more)) == plain
    assert contents(str(laid(tmp_path / "c", **{"thing/bin/x": ""})))["digest"] != plain["digest"]
    assert (
        contents(str(laid(tmp_path / "d", **{"thing/__init__.py": "x = 2\n"})))["digest"] != plain["digest"]
    )


def test_a_folder_that_is_no_task_set_is_one_line(tmp_path: Path):
    with pytest.raises(RegisterError, match="is not a task set"):
        build(tmp_path, backend=None)  # pyright: ignore[reportArgumentType]
    (tmp_path / "taskset.toml").write_text("name = 'x'\n")
    with pytest.raises(RegisterError, match=r"taskset\.toml: kind: Field required"):
        build(tmp_path, backend=None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "backend_name",
    [
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
def test_images_are_built_from_the_manifest_and_compared(
    calculator: TaskSet, tmp_path: Path, backend_name: str
):
    folder = tmp_path / "set"
    folder.mkdir()
    shutil.copy(calculator.folder / "taskset.toml", folder)
    recipe = calculator.manifest.environments["default"].image
    recorded = image_digests(calculator.manifest.environments.values())
    assert recorded == {recipe.ref: image_digest(recipe)}
    backend = connect(backend_name)
    try:
        report = build(folder, backend=backend)
        assert report.ok and report.images[0].recorded == ""
        assert report.images[0].digest == recorded[recipe.ref]
        (folder / "lock.json").write_text(json.dumps({"evidence": {"images": recorded}}))
        assert build(folder, backend=backend).ok
        (folder / "lock.json").write_text(json.dumps({"evidence": {"images": {recipe.ref: "0" * 64}}}))
        report = build(folder, backend=backend)
    finally:
        backend.close()
    assert report.problems == (
        f"{recipe.ref} (default): its files are not those that were recorded, though the distributions are",
    )

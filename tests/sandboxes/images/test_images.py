"""Image ingredients: the same recipe is the same image, and a failed build leaves nothing."""

import multiprocessing
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

import pytest

from sandboxes import ImageRecipe, SandboxUnavailable, silent
from sandboxes.images.build import building, ensure_base, ensure_environment, pip_command, run_step

RECIPE = ImageRecipe("library", ("iniconfig==2.3.0",), python="{}.{}".format(*sys.version_info))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "daythree"


def soon(seconds: float = 120.0) -> float:
    return time.monotonic() + seconds


def test_the_reference_stands_for_the_whole_recipe() -> None:
    assert RECIPE.ref == ImageRecipe("library", ("iniconfig==2.3.0",), python=RECIPE.python).ref
    assert ImageRecipe("plain").ref == f"daythree/plain:{ImageRecipe('plain').ref[-12:]}"
    others = [
        ImageRecipe("library"),
        ImageRecipe("library", ("iniconfig==2.1.0",)),
        ImageRecipe("library", packages=("gcc",)),
        ImageRecipe("library", base="trixie"),
        ImageRecipe("library", python="3.13"),
    ]
    assert len({recipe.ref for recipe in [RECIPE, *others]}) == 6


def test_an_environment_is_installed_once(cache: Path) -> None:
    said: list[str] = []
    folder = ensure_environment(RECIPE, deadline=soon(), progress=lambda what, *_: said.append(what))
    assert (folder / "iniconfig/__init__.py").exists() and folder.is_relative_to(cache)
    assert said, "progress is reported"
    again = ensure_environment(RECIPE, deadline=soon(0), progress=lambda *_: pytest.fail("built twice"))
    assert again == folder


def test_programs_of_packages_start_the_python_of_the_image(cache: Path) -> None:
    recipe = ImageRecipe("library", ("pygments==2.21.0",), python=RECIPE.python)
    script = ensure_environment(recipe, deadline=soon(), progress=silent) / "bin/pygmentize"
    assert script.read_text().startswith("#!/usr/bin/env python3\n"), "and not that of the builder"


def test_a_project_under_test_is_known_by_its_metadata_alone(cache: Path) -> None:
    recipe = ImageRecipe("library", provides=("Some.Thing==0.0.0",), python=RECIPE.python)
    folder = ensure_environment(recipe, deadline=soon(), progress=silent)
    found = {distribution.name: distribution.version for distribution in distributions(path=[str(folder)])}
    assert found == {"Some.Thing": "0.0.0"}
    assert [path.name for path in folder.iterdir()] == ["some_thing-0.0.0.dist-info"]
    assert recipe.ref != ImageRecipe("library", python=RECIPE.python).ref


def test_a_package_that_does_not_exist_leaves_nothing(cache: Path) -> None:
    recipe = ImageRecipe("none", ("iniconfig==0.0.0.1",), python=RECIPE.python)
    with pytest.raises(SandboxUnavailable, match="pip failed: ERROR: No matching distribution") as caught:
        ensure_environment(recipe, deadline=soon(), progress=silent)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (cache / "environments").iterdir() if path.is_dir()] == []


def test_another_python_takes_wheels_only(tmp_path: Path) -> None:
    command = pip_command(ImageRecipe("other", ("x==1",), python="3.99"), tmp_path)
    assert "--only-binary=:all:" in command and "3.99" in command
    assert "--only-binary=:all:" not in pip_command(RECIPE, tmp_path)


def test_a_step_that_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(SandboxUnavailable, match="did not end in time"):
        run_step("sleep", ["sleep", "60"], soon(0.3))
    assert time.monotonic() - started < 5


def test_a_missing_program_says_what_to_install() -> None:
    with pytest.raises(SandboxUnavailable, match=r"ensure-tools\.sh"):
        run_step("debootstrap", ["no-such-debootstrap"], soon())


def test_an_unknown_release_leaves_nothing(cache: Path) -> None:
    with pytest.raises(SandboxUnavailable) as caught:
        ensure_base(ImageRecipe("x", base="no-such-release"), deadline=soon(), progress=silent)
    assert "\n" not in str(caught.value)
    assert [path for path in (cache / "bases").iterdir() if path.is_dir()] == []


def build_slowly(place: Path, counter: Path) -> None:
    with building(place, soon(30)) as folder:
        if folder is not None:
            with counter.open("a") as file:
                file.write("built\n")
            time.sleep(0.5)
            (folder / "whole").touch()
    assert (place / "whole").exists()


def test_two_processes_build_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    place, counter = tmp_path / "place", tmp_path / "counter"
    processes = [spawn.Process(target=build_slowly, args=(place, counter)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert counter.read_text() == "built\n"


def test_waiting_for_another_build_has_a_deadline(tmp_path: Path) -> None:
    with building(tmp_path / "place", soon()) as folder:
        assert folder is not None
        with (
            pytest.raises(SandboxUnavailable, match="another process is still building"),
            building(tmp_path / "place", soon(0.3)),
        ):
            pass


def fill_the_disk(place: Path) -> None:
    with building(place, soon()) as folder:
        assert folder is not None
        with Path("/dev/full").open("w", buffering=1) as full:
            full.write("x\n")


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="No space left"):
        fill_the_disk(tmp_path / "place")
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []

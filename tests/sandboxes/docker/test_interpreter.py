"""Images without Python: a shell is enough, and one without either is refused."""

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from sandboxes import Backend, ImageRecipe, Sandbox, SandboxSpec, SandboxUnavailable
from sandboxes.conformance.commands import (
    COMMANDS,
    FILES,
    Check,
    a_deadline_kills_everything_the_command_started,
    python_finds_what_the_image_brings,
    reports_travel_apart,
    small_spec,
)
from sandboxes.docker.interpreter import HOME, DebianBase, ensure_interpreter, inside_imports
from sandboxes.images.build import ensure_base
from sandboxes.progress import silent

pytestmark = pytest.mark.docker

TOOLS = (
    "cat",
    "chmod",
    "head",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "printf",
    "sha256sum",
    "sleep",
    "touch",
    "true",
)
WITH_PYTHON = (
    reports_travel_apart,
    a_deadline_kills_everything_the_command_started,
    python_finds_what_the_image_brings,
)
"""Checks whose commands are written in it."""


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.APIClient]:
    client = docker.APIClient(timeout=60)
    yield client
    client.close()


@pytest.fixture(scope="module")
def make_image(engine: docker.APIClient) -> Iterator[Callable[..., str]]:
    """Returns `make(name, {path: file here})`, which makes an image of those files and nothing else."""
    made: list[str] = []

    def make(name: str, contents: dict[str, Path]) -> str:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, file in contents.items():
                tar.add(file.resolve(), path)
        repository = f"daythree/test-{name}"
        engine.import_image_from_data(archive.getvalue(), repository=repository, tag="1")
        made.append(f"{repository}:1")
        return made[-1]

    yield make
    for name in made:
        identity = engine.inspect_image(name)["Id"]
        for derived in engine.images(filters={"label": f"daythree.of={identity}"}):
            engine.remove_image(derived["Id"], force=True)
        engine.remove_image(name)


@pytest.fixture(scope="module")
def shell_image(docker_backend: Backend, docker_image: str, make_image: Callable[..., str]) -> str:
    """A shell, a dozen tools and their C library."""
    recipe = ImageRecipe("interpreter")
    root = ensure_base(recipe, deadline=time.monotonic() + 600, progress=silent)
    base = DebianBase(root, recipe.python)
    programs = {f"bin/{name}": root / "usr/bin" / name for name in TOOLS} | {"bin/sh": root / "usr/bin/dash"}
    libraries = {f"lib/{path.name}": path for path in base.needed(programs.values())}
    return make_image("shell", programs | libraries | {f"lib64/{base.loader.name}": base.loader})


@pytest.fixture(scope="module")
def sandbox(docker_backend: Backend, shell_image: str) -> Iterator[Sandbox]:
    opened = docker_backend.open(small_spec(shell_image), timeout_s=120)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "check",
    [check for check in (*FILES, *COMMANDS) if check not in WITH_PYTHON],
    ids=lambda check: check.__name__,
)
def test_an_image_with_a_shell_and_no_python_keeps_the_contract(sandbox: Sandbox, check: Check) -> None:
    assert sandbox.exec(["python3", "-V"], timeout_s=20).exit_code == 127, (
        "what is brought is not for commands"
    )
    check(sandbox)


def test_what_is_brought_is_read_only_and_made_once(
    docker_backend: Backend, engine: docker.APIClient, shell_image: str, sandbox: Sandbox
) -> None:
    assert sandbox.spec.image == shell_image
    with pytest.raises(PermissionError):
        sandbox.write(f"{HOME}/bin/python3", b"#!/bin/sh\n", timeout_s=20)
    identity = engine.inspect_image(shell_image)["Id"]
    started = time.monotonic()
    docker_backend.open(small_spec(shell_image), timeout_s=60).close()
    assert time.monotonic() - started < 10
    assert len(engine.images(filters={"label": f"daythree.of={identity}"})) == 1


def test_an_image_with_neither_is_refused_in_one_line(
    docker_backend: Backend, make_image: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("no program")
    image = make_image("neither", {"data": tmp_path / "data"})
    with pytest.raises(SandboxUnavailable, match="has neither python3 nor a shell") as caught:
        docker_backend.open(SandboxSpec(image), timeout_s=120)
    assert image in str(caught.value) and "\n" not in str(caught.value)


def test_the_folder_holds_what_the_program_inside_imports_and_little_more() -> None:
    assert {"ctypes", "tarfile", "threading"} <= set(inside_imports())
    folder = ensure_interpreter(deadline=time.monotonic() + 600)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 32 << 20
    assert not list(folder.rglob("asyncio"))

"""Image ingredients, built once into a cache folder and shared by every backend.

Two folders: a *base* (a Debian root file system by `debootstrap`; no image registry is assumed) and an
*environment* (pinned Python packages, by `pip install --target`). Each is built in a temporary folder, under
a file lock, and renamed when complete: an existing folder is always whole.

Pins are complete closures, so pip runs with `--no-deps`: an image holds exactly the recipe's packages. When
this Python's version is not the base's, only wheels are used, since nothing can be compiled for the other.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..base import SandboxUnavailable
from ..progress import Progress
from .recipe import ImageRecipe

BASE_PACKAGES = ("python3", "git", "ripgrep", "ca-certificates")
USER_LINE = "dev:x:1000:1000::/tmp/home:/bin/sh\n"
ENVIRONMENT_FOLDER = "/opt/env"


def cache_folder() -> Path:
    """Return the folder of images and layers: `$XDG_CACHE_HOME/daythree`, else `~/.cache/daythree`."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "daythree"


def ensure_base(recipe: ImageRecipe, *, deadline: float, progress: Progress) -> Path:
    """Return the base's root folder, bootstrapped when missing. Raises `SandboxUnavailable`."""
    place = cache_folder() / "bases" / recipe.base_digest
    with building(place, deadline) as folder:
        if folder is not None:
            progress(f"bootstrapping {recipe.base} (about a minute)", 0, 1)
            bootstrap_debian(recipe, folder, deadline)
            progress(f"bootstrapping {recipe.base} (about a minute)", 1, 1)
    return place


def ensure_environment(recipe: ImageRecipe, *, deadline: float, progress: Progress) -> Path:
    """Return the folder of the recipe's packages, installed when missing. Raises `SandboxUnavailable`."""
    place = cache_folder() / "environments" / recipe.environment_digest
    with building(place, deadline) as folder:
        if folder is not None:
            what = f"installing {len(recipe.requirements)} packages for {recipe.name}"
            progress(what, 0, 1)
            if recipe.requirements:
                run_step("pip", pip_command(recipe, folder), deadline)
            lay_metadata(recipe, folder)
            point_scripts(folder)
            progress(what, 1, 1)
    return place


@contextmanager
def building(place: Path, deadline: float) -> Iterator[Path | None]:
    """Yield a folder to fill, which is renamed to `place` at the end; yield None when `place` exists."""
    if place.exists():
        yield None
        return
    with unavailable_when_the_disk_fails(place), locked(place.with_name(place.name + ".lock"), deadline):
        if place.exists():  # another process built it while we waited
            yield None
            return
        for left in place.parent.glob(
            f"{place.name}.building-*"
        ):  # of a builder that died while holding the lock
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.building-", dir=place.parent))
        folder.chmod(0o755)
        try:
            yield folder
            folder.rename(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(path: Path, deadline: float) -> Iterator[None]:
    """Hold a file lock. Raises `SandboxUnavailable` when another process holds it past the deadline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = f"another process is still building {path.stem}; wait for it, then try again"
                    raise SandboxUnavailable(message) from None
                time.sleep(0.1)
        yield


@contextmanager
def unavailable_when_the_disk_fails(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SandboxUnavailable(f"cannot build {place}: {error.strerror or error}") from None


def run_step(name: str, command: Sequence[str], deadline: float) -> None:
    """Run one program of a build. On failure raises `SandboxUnavailable` with the end of its log."""
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        except FileNotFoundError:
            raise SandboxUnavailable(f"{name} is not installed; run scripts/ensure-tools.sh") from None
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise SandboxUnavailable(f"{name} did not end in time; try again, what is cached stays") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
        if code != 0:
            log.seek(0)
            raise SandboxUnavailable(f"{name} failed: {last_words(log.read())}")


def last_words(log: bytes) -> str:
    """Return the most telling line of a log: the last one with `error` in it, else the last one."""
    lines = [line.strip() for line in log.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "e:"))]
    return (errors or lines or ["it said nothing"])[-1][:400]


def bootstrap_debian(recipe: ImageRecipe, folder: Path, deadline: float) -> None:
    if os.geteuid() != 0:
        raise SandboxUnavailable("making a base image needs root once (debootstrap); run this as root")
    include = ",".join([*BASE_PACKAGES, *recipe.packages])
    command = ["debootstrap", "--variant=minbase", f"--include={include}", recipe.base, str(folder)]
    run_step("debootstrap", command, deadline)
    for spare in ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(folder / spare, ignore_errors=True)
    with (folder / "etc/passwd").open("a") as file:
        file.write(USER_LINE)
    with (folder / "etc/group").open("a") as file:
        file.write("dev:x:1000:\n")
    (folder / "etc/hostname").write_text("sandbox\n")  # debootstrap copies these two from this machine
    (folder / "etc/resolv.conf").write_text("")
    for empty in ("workspace", ENVIRONMENT_FOLDER.lstrip("/")):
        (folder / empty).mkdir(parents=True, exist_ok=True)
    python = (folder / "usr/bin/python3").readlink().name.removeprefix("python")
    if python != recipe.python:
        raise SandboxUnavailable(
            f"{recipe.base} has Python {python}, not {recipe.python}: choose another base"
        )


def lay_metadata(recipe: ImageRecipe, folder: Path) -> None:
    """Write the files of a distribution that `importlib.metadata` reads, and no others."""
    for provided in recipe.provides:
        name, _, version = provided.partition("==")
        place = folder / f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def point_scripts(folder: Path) -> None:
    """Point the packages' scripts to the image's Python; pip writes the path of the Python it runs in."""
    for script in folder.glob("bin/*"):
        first, newline, rest = script.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and os.fsencode(sys.executable) in first:
            script.write_bytes(b"#!/usr/bin/env python3" + newline + rest)


def pip_command(recipe: ImageRecipe, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-input", "--target", str(folder)]
    command += ["--disable-pip-version-check", "--no-warn-script-location", "--prefer-binary", "--quiet"]
    if "{}.{}".format(*sys.version_info) != recipe.python:
        command += ["--python-version", recipe.python, "--only-binary=:all:", "--no-compile"]
        command += ["--ignore-requires-python"]  # which pip takes for the first release of that Python
    return [*command, *recipe.requirements]

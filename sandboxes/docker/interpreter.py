"""A self-contained Python for images without one: all that the program inside needs, in one folder.

    /opt/daythree/bin/python3          a shell script that starts the following by its own loader
    /opt/daythree/bin/python3.real     a Debian base's interpreter
    /opt/daythree/lib/ld.so            its loader, and the shared libraries that it needs
    /opt/daythree/lib/python3.11/…     the modules that `sandboxes.inside` imports, compiled

It uses nothing of the image but its shell, so the image's C library does not matter. The folder is not on a
command's `PATH`. For a Docker engine it is one layer over the image, built once; the resulting image is named
by its ingredients.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..base import SandboxUnavailable
from ..bootstrap import SERVER_COMMAND
from ..images.build import building, cache_folder, ensure_base
from ..images.recipe import ImageRecipe
from ..progress import Progress, silent
from ..syntax import syntax_tree
from .images import Body, packed, present, raise_failure

HOME = "/opt/daythree"
FORMAT = 1
"""Raised when the folder is laid out differently."""
START = f"""#!/bin/sh
exec {HOME}/lib/ld.so --library-path {HOME}/lib --argv0 {HOME}/bin/python3 {HOME}/bin/python3.real "$@"
"""
ALWAYS = ("encodings.ascii", "encodings.latin_1", "encodings.utf_8", "traceback", "warnings")
"""Modules that Python itself imports when it needs them."""
LATE_LIBRARIES = ("libgcc_s.so.1",)
"""Loaded by the C library when a thread ends early."""
LIST_MODULES = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
print(json.dumps(sorted(file for file in files if file)))
"""
STEP_S = 60.0
"""Longest run of one of the base's programs."""
MISSING = re.compile(r"exec.*python3\b.*(not found|no such file)", re.IGNORECASE)
"""Messages of runtimes and shells about a program missing in an image."""
UNFIT = re.compile(r"\b(ModuleNotFoundError|ImportError|SyntaxError)\b")
"""Last words of a python3 that cannot run the program inside."""


def inside_imports() -> tuple[str, ...]:
    """Return the standard-library modules that the program inside imports, at any place."""
    names: set[str] = {"os", "sys", "types"}  # the bootstrap's
    for source in files("sandboxes.inside").iterdir():
        if source.name.endswith(".py"):
            for node in ast.walk(syntax_tree(source.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names.add(node.module)
    return tuple(sorted(names))


def ensure_interpreter(*, deadline: float, progress: Progress = silent) -> Path:
    """Return the folder, building it when missing. Raises `SandboxUnavailable`."""
    recipe, modules = ImageRecipe("interpreter"), (*inside_imports(), *ALWAYS)
    root = ensure_base(recipe, deadline=deadline, progress=progress)
    text = json.dumps([FORMAT, START, recipe.base_digest, modules])
    place = cache_folder() / "interpreters" / hashlib.sha256(text.encode()).hexdigest()[:12]
    with building(place, deadline) as folder:
        if folder is not None:
            progress("taking a Python out of the base image", 0, 1)
            DebianBase(root, recipe.python).lay_interpreter(modules, folder)
            progress("taking a Python out of the base image", 1, 1)
    return place


class DebianBase:
    """A Debian root folder whose programs run here by their own loader."""

    def __init__(self, root: Path, version: str) -> None:
        self._libraries = root / f"usr/lib/{platform.machine()}-linux-gnu"
        self._python = root / f"usr/bin/python{version}"
        self._modules = root / f"usr/lib/python{version}"
        loaders = sorted(self._libraries.glob("ld-linux-*.so.*"))
        if not loaders or not self._python.exists():
            raise SandboxUnavailable(
                f"the base image in {root} has no python{version} for {platform.machine()}"
            )
        self.loader = loaders[0]

    def lay_interpreter(self, modules: Iterable[str], folder: Path) -> None:
        (folder / "bin").mkdir()
        modules_folder = folder / "lib" / self._modules.name
        shutil.copy(self._python, folder / "bin/python3.real")
        programs = {self._python}
        for name in json.loads(self._run(str(self._python), "-I", "-S", "-c", LIST_MODULES, *modules)):
            place = modules_folder / Path(name).relative_to(self._modules)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, place)
            if ".so" in place.suffixes:
                programs.add(Path(name))
        (modules_folder / "lib-dynload").mkdir(exist_ok=True)  # by which Python knows its folder
        late = {self._libraries / name for name in LATE_LIBRARIES}
        for library in self.needed(programs) | {path for path in late if path.exists()}:
            shutil.copy(library.resolve(), folder / "lib" / library.name)
        shutil.copy(self.loader.resolve(), folder / "lib/ld.so")
        start = folder / "bin/python3"
        start.write_text(START)
        start.chmod(0o755)
        # Trusted as they are: the files' times do not survive the way into an image.
        compiling = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
        self._run(str(self._python), "-I", "-S", *compiling, str(modules_folder))

    def needed(self, programs: Iterable[Path]) -> set[Path]:
        """Return the shared libraries that programs and modules need, transitively."""
        found: set[Path] = set()
        for program in programs:
            for line in self._run("--list", str(program)).splitlines():
                _, arrow, rest = line.partition(" => ")
                if arrow:
                    found.add(Path(rest.split(" (")[0]))
        return {path for path in found if path.parent == self._libraries and path.name != self.loader.name}

    def _run(self, *arguments: str) -> str:
        command = [str(self.loader), "--library-path", str(self._libraries), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=STEP_S, env={"LANG": "C.UTF-8"}
            )
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or "").strip().splitlines() or [str(error.returncode)]
            raise SandboxUnavailable(f"the base image's Python failed: {lines[-1]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxUnavailable(f"the base image's Python failed ({type(error).__name__})") from None
        return done.stdout


def lacks_python(error: Exception) -> bool:
    """Whether a sandbox failed to start because its image has no python3 fit for the program inside."""
    return bool(MISSING.search(str(error)) or UNFIT.search(str(error)))


class Interpreters:
    """Remembers which images of a Docker engine need an interpreter laid over them."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._brought: dict[str, tuple[str, str]] = {}
        """Image -> (its id, name of the image with an interpreter laid over it)."""

    def config(self, image: str) -> Mapping[str, Any]:
        """Return the container settings that replace the image's own; empty for most images.

        Raises docker-py's exceptions.
        """
        identity, derived = self._brought.get(image, ("", ""))
        if not derived or self._api.inspect_image(image)["Id"] != identity:
            return {}
        return {"Image": derived, "Cmd": [f"{HOME}/bin/python3", *SERVER_COMMAND[1:]]}

    def bring(self, image: str, *, deadline: float, progress: Progress = silent) -> None:
        """Lay an interpreter over an image, for `config`. Raises `SandboxUnavailable`, or as docker-py."""
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise SandboxUnavailable(f"another Python is still being laid over an image; {image} has to wait")
        try:
            folder = ensure_interpreter(deadline=deadline, progress=progress)
            identity = self._api.inspect_image(image)["Id"]
            name = hashlib.sha256(f"{identity} {folder.name}".encode()).hexdigest()[:12]
            derived = f"daythree/with-python:{name}"
            if not present(self._api, derived):
                progress(f"laying a Python over {image}", 0, 1)
                dockerfile = (
                    f"FROM {image}\nCOPY interpreter {HOME}\nLABEL daythree=1 daythree.of={identity}\n"
                )
                output = self._api.build(
                    fileobj=Body(packed(folder, "interpreter", dockerfile, deadline)),
                    custom_context=True,
                    tag=derived,
                    rm=True,
                    forcerm=True,
                    network_mode="none",
                    decode=True,
                    timeout=max(1, int(deadline - time.monotonic())),
                )
                raise_failure(output)
                progress(f"laying a Python over {image}", 1, 1)
            self._brought[image] = (identity, derived)
        finally:
            self._lock.release()

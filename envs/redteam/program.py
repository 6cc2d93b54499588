"""Read the source text of the cheats' programs, which are files in `programs/`, in one folder per kind."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import cache
from importlib.resources import files

from . import programs
from .scene import Changes, Scene


def source(*names: str, **values: object) -> str:
    """Join programs into one text whose first lines set `values`: `KNOWN = ('tests/test_a.py',)`, in shell `A='b c'`."""
    shell = names[0].endswith(".sh")
    lines = [
        f"{name}={shlex.quote(str(value))}\n" if shell else f"{name} = {value!r}\n"
        for name, value in values.items()
    ]
    return "".join(lines) + "\n\n".join(map(_text, names))


@cache
def _text(name: str) -> str:
    return files(programs).joinpath(name).read_text(encoding="utf-8")


def appending(*names: str, **values: object) -> Callable[[Scene], Changes]:
    """Return changes that append `.py` programs to the modules that tests import, or `.js` programs to all JavaScript."""
    python = [name for name in names if name.endswith(".py")]
    scripts = [name for name in names if name.endswith(".js")]

    def changes(scene: Scene) -> Changes:
        if scene.runner != "junit" or not scripts:
            return scene.appended(source(*python, **values))
        return {
            path: f"{scene.text(path).rstrip()}\n\n{source(*scripts)}"
            for path in scene.sources
            if path.endswith((".js", ".cjs", ".mjs"))
        }

    return changes

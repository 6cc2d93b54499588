"""A small library, written into a folder: enough code and tests for every part of register."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from git import Repo

from envs.tasksets.trees import GIT_ENV

FILES = {
    "pyproject.toml": '[project]\nname = "tinylib"\nversion = "1.0"\ndependencies = []\n',
    "tinylib/__init__.py": "from .numbers import clamp, total\nfrom .words import initials, shorten\n",
    "tinylib/numbers.py": '''"""Numbers."""


def clamp(value, low, high):
    """Keep 1 + 2 in mind."""
    if value < low:
        return low
    if value > high:
        return high
    return value


def total(values, start=0):
    result = start
    for value in values:
        result += value
    return result


def untested(a, b):
    return a - b
''',
    "tinylib/words.py": '''"""Words."""


def initials(name):
    return "".join(part[0] for part in name.split())


def shorten(text, width):
    if len(text) <= width:
        return text
    return text[: width - 1] + "~"
''',
    "tests/test_numbers.py": """import pytest
from tinylib import clamp, total


@pytest.mark.parametrize(("value", "expected"), [(-1, 0), (5, 5), (11, 10)])
def test_clamp(value, expected):
    assert clamp(value, 0, 10) == expected


def test_clamp_edges():
    assert clamp(0, 0, 10) == 0
    assert clamp(10, 0, 10) == 10


class TestTotal:
    def test_sum(self):
        assert total([1, 2, 3]) == 6

    def test_start(self):
        assert total([1], start=2) == 3

    def test_empty(self):
        assert total([]) == 0


def test_both():
    assert clamp(total([4, 5, 6]), 0, 10) == 10
    assert clamp(total([1, 2]), 0, 10) == 3
""",
    "tests/test_words.py": """from pathlib import Path

from tinylib import initials, shorten


def test_initials():
    assert initials("Ada Byron Lovelace") == "ABL"


def test_shorten():
    assert shorten("abcdef", 4) == "abc~"
    assert shorten("abcd", 4) == "abcd"


def test_flaky():
    marker = Path("/tmp/was-here")
    was_here = marker.exists()
    marker.touch()
    assert not was_here
""",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The folder of a library with four tested functions, one untested, and one flaky test."""
    folder = tmp_path / "tinylib"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


class Upstream:
    """A real git repository to read from, made step by step; each commit is a day after the last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo.init(folder, mkdir=True, initial_branch="main")
        self.day = datetime(2024, 1, 1, 12, tzinfo=UTC)

    def commit(
        self,
        message: str,
        files: Mapping[str, str | bytes | None] | None = None,
        *,
        author: str = "Ada",
        submodules: Mapping[str, str] | None = None,
    ) -> str:
        """Write files (None removes one), commit everything, and return the commit's id."""
        for name, content in (files or {}).items():
            path = self.folder / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.repo.git.add("--all", "--force")
        for path, commit in (submodules or {}).items():
            self.repo.git.update_index("--add", "--cacheinfo", f"160000,{commit},{path}")
        return self._made("commit", "--quiet", "--allow-empty", f"--message={message}", author=author)

    def branch(self, name: str) -> None:
        """Go to a new branch from here."""
        self.repo.git.checkout("--quiet", "-b", name)

    def merge(self, name: str, message: str, into: str = "main") -> str:
        """Merge a branch as a forge does, with a commit of its own, and return that commit's id."""
        self.repo.git.checkout("--quiet", into)
        return self._made("merge", "--quiet", "--no-ff", f"--message={message}", name, author="Maintainer")

    def _made(self, *command: str, author: str) -> str:
        self.day += timedelta(days=1)
        who = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in (
                ("NAME", author),
                ("EMAIL", "somebody@localhost"),
                ("DATE", self.day.isoformat()),
            )
        }
        self.repo.git.execute(["git", *command], env={**GIT_ENV, **who})
        return self.repo.head.commit.hexsha


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    made = Upstream(tmp_path / "upstream")
    yield made
    made.repo.close()

"""Sources come from a folder, a repository or an archive; only regular files do."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from git import Actor, Repo

from envs.register import RegisterError
from envs.register.project.sources import _unpack, fetch_source

WHO = Actor("Somebody", "somebody@localhost")


def commit_all(folder: Path) -> str:
    with Repo.init(folder, initial_branch="main") as repository:
        repository.git.add("--all")
        return repository.index.commit("First", author=WHO, committer=WHO).hexsha


def test_a_plain_folder_gives_its_regular_files_and_names_the_others(library: Path):
    (library / "link.py").symlink_to("/etc/passwd")
    os.mkfifo(library / "pipe")
    (library / "__pycache__").mkdir()
    (library / "__pycache__" / "x.pyc").write_bytes(b"x")
    source = fetch_source(str(library))
    assert source.name == "tinylib"
    assert "tinylib/words.py" in source.tree
    assert source.left_out == ("link.py", "pipe")
    assert not any("__pycache__" in path or path in ("link.py", "pipe") for path in source.tree)


def test_a_repository_gives_what_is_committed_at_its_head(library: Path):
    (library / "run.sh").write_text("#!/bin/sh\n")
    (library / "run.sh").chmod(0o755)
    (library / "link.py").symlink_to("pyproject.toml")
    commit = commit_all(library)
    (library / "later.py").write_text("x = 1\n")
    (library / "tinylib" / "words.py").write_text("changed\n")
    source = fetch_source(str(library))
    assert source.commit == commit
    assert "later.py" not in source.tree
    assert b"def initials" in source.tree["tinylib/words.py"].data
    assert source.tree["run.sh"].executable
    assert source.left_out == ("link.py",)
    assert not any(path.startswith(".git/") for path in source.tree)


def test_a_repository_is_cloned_from_its_address(library: Path):
    commit = commit_all(library)
    source = fetch_source(library.as_uri())
    assert (source.name, source.commit) == ("tinylib", commit)
    assert source.origin == library.as_uri()


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_gives_its_files_without_the_folder_around_them(tmp_path: Path, kind: str):
    archive = tmp_path / f"thing-1.0.{kind}"
    files = {"thing-1.0/setup.py": b"x = 1\n", "thing-1.0/a/__pycache__/b.pyc": b"x", "thing-1.0/../up": b"y"}
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for name, data in files.items():
                opened.writestr(name, data)
            link = zipfile.ZipInfo("thing-1.0/link")
            link.external_attr = 0o120777 << 16
            opened.writestr(link, "/etc/passwd")
    else:
        with tarfile.open(archive, "w:gz") as opened:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                opened.addfile(info, io.BytesIO(data))
            info = tarfile.TarInfo("thing-1.0/link")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            opened.addfile(info)
    tree, left_out = _unpack(archive, "thing")
    assert {path: entry.data for path, entry in tree.items()} == {"setup.py": b"x = 1\n"}
    assert set(left_out) == {"../up", "link"}


def test_a_damaged_archive_is_one_clear_line(tmp_path: Path):
    archive = tmp_path / "thing-1.0.tar.gz"
    archive.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(RegisterError, match="the archive of thing is damaged"):
        _unpack(archive, "thing")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/nowhere/at/all", "there is no folder"),
        ("pypi:not a name", "is not a package requirement"),
        ("file:///nowhere/at/all.git", "could not be cloned"),
        ("ext::sh -c whoami", "there is no folder"),
        ("ext::sh://whoami", "could not be cloned"),
    ],
)
def test_a_source_that_is_none_is_one_clear_line(source: str, message: str):
    with pytest.raises(RegisterError, match=message) as caught:
        fetch_source(source)
    assert "\n" not in str(caught.value)


def test_an_index_that_cannot_be_reached_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(RegisterError, match="the package index cannot be reached"):
        fetch_source("pypi:toolz")


@pytest.mark.slow
def test_a_package_is_fetched_from_a_configured_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = tmp_path / "simple" / "daythree-thing"
    page.mkdir(parents=True)
    links = []
    for version in ("1.0", "2.0", "3.0rc1"):
        name = f"daythree_thing-{version}.tar.gz"
        data = b"raise SystemExit('build code must not run')\n"
        with tarfile.open(page / name, "w:gz") as opened:
            for inner in ("setup.py", "thing.py"):
                info = tarfile.TarInfo(f"daythree_thing-{version}/{inner}")
                info.size = len(data)
                opened.addfile(info, io.BytesIO(data))
        links.append(f'<a href="{name}">{name}</a>')
    (page / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert fetch_source("pypi:daythree-thing").origin == "pypi:daythree-thing==2.0"
    assert set(fetch_source("pypi:daythree-thing==1.0").tree) == {"setup.py", "thing.py"}
    with pytest.raises(RegisterError, match="try without the version"):
        fetch_source("pypi:daythree-thing==9")
    with pytest.raises(RegisterError, match="does not know daythree-other"):
        fetch_source("pypi:daythree-other")


def test_a_folder_that_is_no_python_project_is_one_clear_line(tmp_path: Path):
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(RegisterError, match="is not a Python project"):
        fetch_source(str(tmp_path))

"""A short name, or `module:attribute`."""

import json
from pathlib import Path

import pytest

from sandboxes.names import UnknownNameError, resolve

KNOWN = {"dumps": json.dumps, "loads": "json:loads"}


def test_a_short_name_gives_the_object_also_when_it_is_imported_late() -> None:
    assert resolve("dumps", KNOWN, kind="writer") is json.dumps
    assert resolve("loads", KNOWN, kind="reader") is json.loads


def test_anybodys_own_is_named_by_module_and_attribute() -> None:
    assert resolve("json:decoder.JSONDecoder", KNOWN, kind="reader") is json.JSONDecoder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "dump",
            "use dumps, loads, or module:attribute of one of yours; did you mean 'dumps'?",
        ),
        ("", "there is no writer ''"),
        (":x", "there is no writer ':x'"),
        ("json:", "there is no writer 'json:'"),
        ("nowhere.at_all:x", "no module 'nowhere'"),
        ("json.nowhere:x", "no module 'json.nowhere'"),
        ("json:nothing", "json has no 'nothing'"),
    ],
)
def test_a_name_that_stands_for_nothing_is_told_in_one_line(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve(name, KNOWN, kind="writer")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_module_itself_fails_to_import_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("import is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="is_not_installed"):
        resolve("broken_module:x", {}, kind="tool")

"""`import daythree` gives the public names, each imported when it is first used."""

import subprocess
import sys
from pathlib import Path

import pytest

import daythree

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [name for name in daythree.__all__ if name not in ("train", "Config")])
def test_every_public_name_leads_somewhere(name: str) -> None:
    assert getattr(daythree, name).__doc__


@pytest.mark.train
@pytest.mark.parametrize("name", ["train", "Config"])
def test_names_of_the_trainer_lead_somewhere(name: str) -> None:
    assert getattr(daythree, name).__doc__


def test_a_wrong_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no name 'makeenv'; it has make_env, .*train"):
        _ = daythree.makeenv


def test_every_name_stands_once_for_readers_and_once_for_type_checkers() -> None:
    text = (ROOT / "daythree/__init__.py").read_text()
    typed = {
        line.split(" as ")[-1]
        for line in text.splitlines()
        if line.startswith("    from ") and " as " in line
    }
    assert typed == {*daythree.__all__} - {"make_env"}


def test_the_lists_of_names_agree() -> None:
    assert set(daythree.__all__) == {"make_env", *daythree._HOMES}


def test_importing_it_loads_none_of_its_parts() -> None:
    parts = ("sandboxes", "envs", "agents", "trainer", "gymnasium")
    code = f"import sys, daythree; print([part for part in {parts} if part in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"

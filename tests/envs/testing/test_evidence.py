"""What a story has to be like, line by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from envs.testing.run import read_report

NONCE = "f" * 32
Row = dict[str, object]


def whole(*tests: str) -> list[Row]:
    rows: list[Row] = [
        {"kind": "session", "plugins": [], "declared": []},
        {"kind": "collected", "ids": list(tests), "declared": []},
    ]
    for test in tests:
        rows.append({"kind": "start", "id": test})
        rows.append({"kind": "phase", "id": test, "when": "call", "outcome": "passed"})
        rows.append({"kind": "finish", "id": test})
    rows.append({"kind": "end", "status": 0, "plugins": []})
    return renumbered([{"nonce": NONCE, **row} for row in rows])


def told(rows: list[Row], duration_s: float = 5.0) -> tuple[str, ...]:
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    report = read_report(data, NONCE, plugins=("pytest_asyncio.plugin",), duration_s=duration_s)
    assert report.finished == (not report.irregular)
    return report.irregular


def renumbered(rows: list[Row]) -> list[Row]:
    return [{**row, "n": number, "t": number / 10} for number, row in enumerate(rows)]


def test_a_whole_story_is_regular() -> None:
    assert told(whole("a", "b")) == ()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({3: None}, "line 4 of the report came when line 3 was due"),
        ({3: {"n": 2}}, "line 2 of the report came when line 3 was due"),
        ({3: {"nonce": "0" * 32}}, "1 lines on the report channel are not the runner's"),
        ({4: {"t": 0.1}}, "line 4 of the report is from before the line before it"),
        ({2: {"id": "b"}}, "a is said to have passed while it did not run"),
        ({2: {"id": "b"}}, "a finished before it started"),
        ({1: {"ids": ["b"]}}, "a finished and was never collected"),
        ({1: {"ids": ["a", "b"]}}, "2 tests were collected, 1 finished"),
        ({2: {"kind": "end"}}, "the report goes on after its end"),
        ({0: {"kind": "nothing"}}, "a test started before the session"),
        ({5: {"t": 9.0}}, "the report tells of 9.0 s, and the run lasted 5.0 s"),
    ],
)
def test_a_line_that_does_not_fit_is_named(changes: Mapping[int, Row | None], named: str) -> None:
    rows = [
        row if number not in changes else {**row, **(changes[number] or {})}
        for number, row in enumerate(whole("a"))
        if changes.get(number, row) is not None
    ]
    assert named in told(rows)


def test_a_story_appended_to_a_story_is_not_one() -> None:
    """A forger that knows the secret has to go on where the runner is, and the runner goes on as well."""
    story, more = whole("a"), whole("b")[2:5]
    assert told(renumbered([*story[:5], *more, story[5]])) == (
        "b finished and was never collected",
        "1 tests were collected, 2 finished",
    )
    assert told([*story[:5], *renumbered([*story[:5], *more])[5:], story[5]]) != ()


def test_what_stopped_early_has_fewer_tests_and_says_so_by_its_status() -> None:
    rows = whole("a", "b")
    rows = renumbered([*rows[:5], {**rows[-1], "status": 2}])
    assert told(rows) == ()


def test_plugins_are_those_of_the_registration_and_of_trusted_files() -> None:
    def loaded(*plugins: tuple[str, str, str], declared: tuple[str, ...] = ()) -> tuple[str, ...]:
        rows = whole("a")
        rows[-1]["plugins"] = plugins
        rows[1]["declared"] = declared
        return told(rows)

    assert loaded(("asyncio", "pytest_asyncio.plugin", "")) == ()
    assert (
        loaded(("/tree/conftest.py", "conftest", "conftest.py"), ("1", "tests.help", "tests/help.py")) == ()
    )
    foreign = ("rerun", "pytest_rerunfailures", "")
    assert loaded(foreign) == ("the plugin pytest_rerunfailures was loaded and is none of those registered",)
    mine = ("140223", "lib.sneaky", "src/lib/sneaky.py")
    assert loaded(mine) == ("the plugin lib.sneaky was loaded and is none of those registered",)
    assert loaded(mine, declared=("lib.testing",)) == ()


FORGER = """
import gc
reporter = next(thing for thing in gc.get_objects() if type(thing).__name__ == "Reporter")
reporter.{how}
def test_a(): assert False
"""
FORGERIES = {
    "send(kind='phase', id='test_x.py::test_a', when='call', outcome='passed')": "while it did not run",
    "write(reporter.channel, reporter.encode({'nonce': reporter.nonce}).encode() + b'\\n')": "was due",
    "number = 40": "line 40 of the report came when line 1 was due",
    "send(kind='end', status=0, plugins=[])": "the report goes on after its end",
}


@pytest.mark.parametrize("how", FORGERIES)
def test_what_a_test_file_slips_into_a_real_run_is_named(
    run_program: Callable[..., tuple[bytes, str]], how: str
) -> None:
    data, log = run_program("pytest_program.py", {"test_x.py": FORGER.format(how=how)}, targets=["test_x.py"])
    report = read_report(data, "nonce")
    assert any(FORGERIES[how] in sentence for sentence in report.irregular), (report, log)
    assert not report.finished


def test_a_plugin_that_the_code_under_test_registers_is_named(
    run_program: Callable[..., tuple[bytes, str]],
) -> None:
    files = {
        "lib.py": "class Plugin: pass\n",
        "conftest.py": "class Mine: pass\ndef pytest_configure(config):\n"
        "    config.pluginmanager.register(Mine())\n",
        "test_x.py": "import lib\ndef test_a(pytestconfig):\n"
        "    pytestconfig.pluginmanager.register(lib.Plugin())\n",
    }
    data, _ = run_program("pytest_program.py", files, targets=["test_x.py"])
    sentence = "the plugin lib was loaded and is none of those registered"
    assert read_report(data, "nonce", plugins=()).irregular == (sentence,)
    assert read_report(data, "nonce", plugins=("lib",)).irregular == ()

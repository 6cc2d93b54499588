"""JUnit reports: what is read from them, what is refused, and a JavaScript library end to end."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import Tree, TreeFile, pack
from envs.testing.junit import JunitError, read_junit
from envs.testing.run import RunnerSetup, RunReport, read_junit_report, run_tests
from sandboxes import Backend, SandboxSpec

Program = Callable[..., tuple[bytes, str]]


def outcomes(document: str) -> dict[str, str]:
    return {case.id: case.outcome for case in read_junit(document.encode(), "/workspace").cases}


@pytest.mark.parametrize(
    ("attributes", "inside", "outcome"),
    [
        ("", "", "passed"),
        ("", "<system-out>error: all is well</system-out><properties/>", "passed"),
        ('status="run" result="completed"', "", "passed"),
        ('status="notrun"', "", "skipped"),
        ('status="unheard-of"', "", "failed"),
        ("", "<skipped/>", "skipped"),
        ("", "<failure message='no'/>", "failed"),
        ("", "<error/>", "error"),
        ("", "<skipped/><failure/><system-err/>", "failed"),
        ("", "<flakyFailure/>", "duplicate"),
        ("", "<x:failure xmlns:x='urn:x'/>", "failed"),
    ],
)
def test_only_a_test_without_any_complaint_passed(attributes: str, inside: str, outcome: str) -> None:
    document = f'<testsuite><testcase classname="C" name="t" {attributes}>{inside}</testcase></testsuite>'
    assert outcomes(document) == {"C::t": outcome}


def test_ids_hold_what_the_report_knows_of_a_test() -> None:
    document = """<testsuites>
      <testsuite name="M"><testcase classname="add" name="works" file="/workspace/test/a.js"/></testsuite>
      <testsuite name="s" file="./test/b.js"><testcase classname="B" name="works"/></testsuite>
      <testsuite name="outer"><testsuite name="inner"><testcase classname="test" name="works"/>
      </testsuite></testsuite>
      <testsuite name="Run 1 of 1"><testcase classname="spec/d.lua:12" name="works"/></testsuite>
      <testcase name="alone"/>
    </testsuites>"""
    assert list(outcomes(document)) == [
        "test/a.js::add::works",
        "test/b.js::B::works",
        "outer::inner::works",
        "spec/d.lua::works",
        "alone",
    ]
    [*_, last] = read_junit(document.encode(), "/workspace", "test/c.js").cases
    assert last.id == "test/c.js::alone"


def test_what_is_said_about_a_failure_is_kept() -> None:
    document = """<testsuite name="s"><error message="no database"/>
      <testcase name="t"><failure type="AssertionError" message="1 == 2">at line 3</failure></testcase>
      <testcase name="u"><failure>\x1b[31mred\x1b[0m &#27;</failure></testcase></testsuite>"""
    report = read_junit(document.encode(), "/workspace")
    assert [(case.error, case.message) for case in report.cases] == [
        ("AssertionError", "1 == 2"),
        ("", "?[31mred?[0m ?"),
    ]
    assert report.suite_errors == {"s": "no database"}


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>'


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (BOMB, "declares a document type"),
        ("<!DOCTYPE testsuite SYSTEM 'file:///etc/passwd'><testsuite/>", "declares a document type"),
        ("<html><testcase name='t'/></html>", "begins with <html>"),
        ("<testsuite><testcase name='t'/>", "not well-formed"),
        ("", "not well-formed"),
        ("<testsuite><testcase name='a'><testcase name='b'/></testcase></testsuite>", "inside another"),
        ("<testsuite>" * 60, "too deeply"),
        ("<?xml version='1.0' encoding='klingon'?><testsuite/>", "encoding"),
        (" " * (16 << 20) + "<testsuite/>", "larger than"),
    ],
)
def test_a_report_that_cannot_be_relied_on_is_refused(document: str, complaint: str) -> None:
    with pytest.raises(JunitError, match=complaint):
        read_junit(document.encode(), "/workspace")


@given(
    st.binary(max_size=200) | st.text(alphabet="<>/='\"&; testcaseuifylr!D[]", max_size=200).map(str.encode)
)
def test_no_bytes_make_the_reader_fail_otherwise(document: bytes) -> None:
    try:
        read_junit(b"<testsuite>" + document, "/workspace")
    except JunitError:
        pass


CHILDREN = st.lists(st.sampled_from(["failure", "error", "skipped", "system-out", "flakyError"]), max_size=3)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=5)


@given(st.lists(st.tuples(NAMES, CHILDREN), max_size=5), st.data())
def test_only_whole_reports_count_and_only_tests_without_complaint_pass(
    cases: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    body = [
        f"<testcase name={quoteattr(name)}>{''.join(f'<{child}/>' for child in children)}</testcase>"
        for name, children in cases
    ]
    document = f"<testsuites><testsuite>{''.join(body)}</testsuite></testsuites>".encode()
    read = read_junit(document, "/workspace").cases
    assert [case.outcome == "passed" for case in read] == [
        set(children) <= {"system-out"} for _, children in cases
    ]
    with pytest.raises(JunitError):
        read_junit(document[: data.draw(st.integers(0, len(document) - 1))], "/workspace")


@pytest.fixture
def run_command(run_program: Program) -> Callable[..., RunReport]:
    """Run a command on this machine with a report of two tests at hand: `run_command(command, *targets)`."""

    def run(command: str, *targets: str, reports: str = "**/*.xml") -> RunReport:
        one = '<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>'
        request = {"command": command, "targets": targets, "reports": reports}
        data, log = run_program("junit_program.py", {"one.xml": one, "torn.xml": one[:-9]}, **request)
        return read_junit_report(data, "nonce", "/workspace", targets, log=log)

    return run


def test_every_report_of_the_folder_counts_and_an_id_twice_says_nothing(run_command: Callable) -> None:
    report = run_command("cp one.xml {reports}/1.xml; exit 3")
    assert report.outcomes == {"a": "passed", "b": "failed"}
    assert report.finished
    twice = run_command("mkdir {reports}/more; cp one.xml {reports}; cp one.xml {reports}/more/2.xml")
    assert twice.outcomes == {"a": "duplicate", "b": "duplicate"}
    assert run_command("cp one.xml {reports}/1.txt").outcomes == {}


def test_a_command_may_run_once_per_test_file(run_command: Callable) -> None:
    report = run_command("echo ran {target}; cp one.xml {report}", "./t/x.js", "t/it's.js")
    assert report.log.count("ran") == 2
    assert report.outcomes["t/it's.js::a"] == "passed"
    assert report.outcomes["t/x.js::b"] == "failed"


@pytest.mark.parametrize(
    "command",
    [
        "true; : {reports}",
        "cp torn.xml {reports}",
        "cp one.xml {reports}; ln -s $PWD/one.xml {reports}/2.xml",
    ],
)
def test_a_run_without_reports_to_rely_on_did_not_finish(run_command: Callable, command: str) -> None:
    assert not run_command(command).finished


def test_the_command_has_neither_the_descriptor_nor_the_secret(run_command: Callable) -> None:
    command = "env; ls -l /proc/self/fd; cat; cp one.xml {reports}"
    report = run_command(command)
    assert report.finished
    assert "DAYTHREE" not in report.log
    assert "nonce" not in report.log
    assert report.log.count("pipe:") == 2  # its output and its errors


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"runner": "nose"}, "unknown test runner"),
        ({"runner": "junit"}, "into {reports}"),
        ({"runner": "junit", "command": "x {target} {reports}"}, "into {report}"),
        ({"runner": "junit", "command": "x {reports}", "reports": "../*.xml"}, "relative"),
        ({"command": "x"}, "takes neither"),
    ],
)
def test_a_set_up_that_cannot_work_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        RunnerSetup(**settings)


def documented(language: str) -> Runtime:
    """The recipe that docs/other-languages.md gives for a language."""
    text = (Path(__file__).parents[3] / "docs/other-languages.md").read_text()
    blocks = (block.partition("```")[0] for block in text.split("```toml\n")[1:])
    [recipe] = [recipe for recipe in map(tomllib.loads, blocks) if recipe["image"]["name"] == language]
    return TypeAdapter(Runtime).validate_python(recipe)


LIBRARY = {
    "package.json": '{"name": "counting", "type": "module"}',
    "counting.js": "export const count = (words, word) => words.filter(each => each == word).length - 1\n",
    "test/counting.test.js": """import { describe, it } from 'node:test'
import assert from 'node:assert'
import { count } from '../counting.js'

describe('count', () => {
  it('finds none', () => assert.equal(count([], 'a'), 0))
  describe('of many', () => {
    it('finds each', async () => assert.equal(count(['a', 'b', 'a'], 'a'), 2))
    it('misses', () => assert.equal(count(['b'], 'a'), -1))
  })
})
""",
    "test/other.test.js": "import nothing from './nothing.js'\n",
}


def javascript_works(backend: Backend) -> None:
    recipe = documented("javascript")
    image = backend.ensure_image(recipe.image, timeout_s=900)
    broken: Tree = {name: TreeFile(text.encode()) for name, text in LIBRARY.items()}
    mended = broken | {"counting.js": TreeFile(LIBRARY["counting.js"].replace(" - 1", "").encode())}

    def run(tree: Tree) -> RunReport:
        sandbox = backend.open(SandboxSpec(image), timeout_s=60)
        try:
            sandbox.unpack(pack(tree), ".", timeout_s=30)
            return run_tests(
                sandbox, recipe.tests, sorted(name for name in tree if "test" in name), timeout_s=60
            )
        finally:
            sandbox.close()

    none, each, misses = (
        f"test/counting.test.js::count::{name}"
        for name in ("finds none", "of many::finds each", "of many::misses")
    )
    other = "test/other.test.js::test/other.test.js"
    before = run(broken)
    assert before.outcomes == {none: "failed", each: "failed", misses: "passed", other: "failed"}, before.log
    assert before.failures[each].message == "1 == 2"
    assert run(mended).outcomes == {none: "passed", each: "passed", misses: "failed", other: "failed"}


@pytest.mark.parametrize("language", ["javascript", "javascript-mocha", "lua"])
def test_every_recipe_of_the_documentation_can_be_read(language: str) -> None:
    assert documented(language).tests.runner == "junit"


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_a_javascript_library_is_tested_in_bubblewrap(bubblewrap_backend: Backend) -> None:
    javascript_works(bubblewrap_backend)


@pytest.mark.slow
@pytest.mark.docker
def test_a_javascript_library_is_tested_in_docker(docker_backend: Backend) -> None:
    javascript_works(docker_backend)

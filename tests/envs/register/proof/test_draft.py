"""Drafts are proven by runs before the fix and after it: by a scripted runner, and by the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from envs.register.errors import RegisterOutage
from envs.register.proof.draft import prove_drafts
from envs.register.proof.proofs import Draft, Journal, Proof
from envs.register.settings import ProofSettings
from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import Tree, TreeFile, diff_trees
from envs.testing.run import RunnerSetup
from sandboxes import Backend, ImageRecipe, connect
from sandboxes.base import Content, ExecResult, SandboxLost, SandboxSpec, SandboxUnavailable
from sandboxes.fake import FakeBackend, FakeSandbox

ENVIRONMENTS = {"e": Runtime(ImageRecipe("calculator"), RunnerSetup())}
CODE, TESTS = "calculator.py", "tests/test_add.py"
Tests = Callable[[Mapping[str, bytes], Sequence[str]], Mapping[str, str]]
"""From the files in the sandbox and the targets to each test's outcome."""


class ScriptedSandbox(FakeSandbox):
    """A sandbox whose test run is a callable."""

    tests: Tests

    def exec(self, command, *, stdin: bytes = b"", **_) -> ExecResult:  # pyright: ignore
        with self._call("exec"):
            pass
        request = json.loads(stdin)
        files = {path.removeprefix("/workspace/"): data for path, data in self.files.items()}
        outcomes = self.tests(files, request["targets"])
        ran = {test: outcome for test, outcome in outcomes.items() if outcome != "uncollectable"}
        message = "E   ImportError: no such name"
        rows: list[dict[str, object]] = [
            {"kind": "session"},
            *({"kind": "collect", "id": test, "message": message} for test in outcomes.keys() - ran.keys()),
            {"kind": "collected", "ids": list(ran)},
        ]
        for test, outcome in ran.items():
            rows.append({"kind": "start", "id": test})
            rows.append({"kind": "phase", "id": test, "when": "call", "outcome": outcome})
            rows.append({"kind": "finish", "id": test})
        rows.append({"kind": "end", "plugins": []})
        lines = [
            {"nonce": request["nonce"], "n": number, "t": number / 1e3, **row}
            for number, row in enumerate(rows)
        ]
        report = "".join(json.dumps(line) + "\n" for line in lines)
        return ExecResult(0, "", "", report=report.encode(), duration_s=0.5)


class ScriptedBackend(FakeBackend):
    def __init__(self, tests: Tests) -> None:
        super().__init__()
        self.tests = tests

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> FakeSandbox:
        sandbox = ScriptedSandbox(spec)
        sandbox.tests = self.tests
        self.opened.append(sandbox)
        if content is not None:
            sandbox.lay(content, timeout_s=timeout_s)
        return sandbox


def tree(**files: str) -> Tree:
    return {name.replace("__", "/") + ".py": TreeFile(text.encode()) for name, text in files.items()}


OLD = tree(calculator="def add(a, b):\n    return a - b\n", tests__test_sub="import calculator\n")
NEW = OLD | tree(calculator="def add(a, b):\n    return a + b\n", tests__test_add="import calculator\n")


def draft(name: str = "1", base: Tree = OLD, solved: Tree = NEW) -> Draft:
    fixed = base | {CODE: solved[CODE]}
    return Draft(name, "e", base, solved, diff_trees(base, fixed), (TESTS,), "c0ffee")


def honest(files: Mapping[str, bytes], targets: Sequence[str]) -> Mapping[str, str]:
    """`add` passes after the fix; `sub`, of the other file, always does."""
    added = "passed" if b"a + b" in files[CODE] else "failed"
    every = {TESTS: {f"{TESTS}::add": added}, "tests/test_sub.py": {"tests/test_sub.py::sub": "passed"}}
    return {test: outcome for file in targets for test, outcome in every[file].items()}


def prove(
    tests: Tests, *drafts: Draft, runs: int = 3, workers: int | None = None, journal: Journal | None = None
) -> list[Proof]:
    settings = ProofSettings(backend=ScriptedBackend(tests), runs=runs, workers=workers)
    return list(prove_drafts(drafts or [draft()], ENVIRONMENTS, settings, journal=journal))


def test_a_change_that_a_test_notices_is_valid_and_the_rest_of_a_quick_suite_guards_it() -> None:
    (proof,) = prove(honest)
    assert proof.result == "valid"
    assert proof.fail_to_pass == (f"{TESTS}::add",)
    assert proof.pass_to_pass == ("tests/test_sub.py::sub",)
    assert proof.test_files == (TESTS, "tests/test_sub.py")
    assert proof.evidence["files"] == "the whole suite"
    assert proof.test_s == 0.5


def test_before_the_fix_the_trusted_tests_lie_over_the_base() -> None:
    def tests(files: Mapping[str, bytes], targets: Sequence[str]) -> Mapping[str, str]:
        assert TESTS in files
        return honest(files, targets)

    assert prove(tests)[0].valid


def test_a_change_that_no_test_notices_costs_one_run() -> None:
    backend = ScriptedBackend(lambda files, targets: {f"{TESTS}::add": "passed"})
    (proof,) = prove_drafts([draft()], ENVIRONMENTS, ProofSettings(backend=backend, runs=3))
    assert proof.result == "no test notices the change"
    assert len(backend.opened) == 1


def test_tests_that_never_pass_cost_two_runs_and_say_why() -> None:
    backend = ScriptedBackend(lambda files, targets: dict.fromkeys(targets, "uncollectable"))
    (proof,) = prove_drafts([draft()], ENVIRONMENTS, ProofSettings(backend=backend, runs=3))
    assert proof.result == "collection error after the fix"
    assert proof.evidence["said"] == "ImportError: no such name"
    assert len(backend.opened) == 2


def test_a_file_that_cannot_be_collected_before_the_fix_is_told_and_keeps_no_other_from_running() -> None:
    def tests(files: Mapping[str, bytes], targets: Sequence[str]) -> Mapping[str, str]:
        if b"a - b" in files[CODE] and TESTS in targets:
            return {TESTS: "uncollectable"}  # and nothing else runs
        return honest(files, targets)

    (proof,) = prove(tests)
    assert proof.fail_to_pass == (f"{TESTS}::add",)
    assert proof.pass_to_pass == ("tests/test_sub.py::sub",)
    assert proof.failures[TESTS].message == "no such name"


def test_a_file_that_is_never_collected_is_left_out_and_named() -> None:
    def tests(files: Mapping[str, bytes], targets: Sequence[str]) -> Mapping[str, str]:
        if "tests/test_sub.py" in targets:
            return {"tests/test_sub.py": "uncollectable"}
        return honest(files, targets)

    (proof,) = prove(tests)
    assert proof.valid
    assert proof.test_files == (TESTS,)
    assert proof.evidence["left_out"] == {"tests/test_sub.py": "ImportError: no such name"}


def test_flaky_tests_are_dropped_and_named_and_alone_prove_nothing() -> None:
    counts: dict[str, int] = {}

    def tests(files: Mapping[str, bytes], targets: Sequence[str]) -> Mapping[str, str]:
        side = "after" if b"a + b" in files[CODE] else "before"
        counts[side] = counts.get(side, 0) + 1
        flaky = "passed" if side == "after" or counts[side] == 4 else "failed"
        return {**honest(files, targets), "tests/test_sub.py::flaky": flaky}

    (proof,) = prove(tests)
    assert proof.valid
    assert proof.flaky == ("tests/test_sub.py::flaky",)
    counts.clear()
    (proof,) = prove(
        lambda files, targets: {
            test: outcome for test, outcome in tests(files, targets).items() if test != f"{TESTS}::add"
        }
    )
    assert proof.result == "only flaky tests notice"
    assert proof.flaky == ("tests/test_sub.py::flaky",)


def test_what_breaks_the_sandbox_twice_is_no_task_and_the_others_go_on() -> None:
    def tests(files: Mapping[str, bytes], targets: Sequence[str]) -> Mapping[str, str]:
        if b"bomb" in files[CODE]:
            raise SandboxLost("gone")
        return honest(files, targets)

    bomb = draft("2", solved=NEW | tree(calculator="bomb = 'a + b'\n"))
    found = prove(tests, draft("1"), bomb, draft("3"))
    assert [(proof.id, proof.result) for proof in found] == [
        ("1", "valid"), ("2", "breaks the sandbox"), ("3", "valid"),
    ]  # fmt: skip


def test_when_no_sandbox_starts_any_more_it_is_an_outage_and_no_verdict() -> None:
    class Gone(FakeBackend):
        def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> FakeSandbox:
            raise SandboxUnavailable("the engine is gone")

    with pytest.raises(RegisterOutage, match="the engine is gone"):
        list(prove_drafts([draft()], ENVIRONMENTS, ProofSettings(backend=Gone(), runs=1)))


def test_results_come_in_the_order_of_the_drafts_however_long_each_takes() -> None:
    first_may_end = threading.Event()

    def tests(files: Mapping[str, bytes], targets: Sequence[str]) -> Mapping[str, str]:
        if b"slow" in files[CODE]:
            assert first_may_end.wait(10)
        else:
            first_may_end.set()
        return honest(files, targets)

    slow_code = tree(calculator="slow = 'a + b'\n")
    slow = draft("slow", OLD | tree(calculator="slow\n"), NEW | slow_code)
    assert [proof.id for proof in prove(tests, slow, draft("quick"), workers=2)] == ["slow", "quick"]


def test_closing_the_generator_ends_every_sandbox_and_takes_no_more_drafts() -> None:
    taken: list[str] = []
    backend = ScriptedBackend(honest)

    def drafts() -> Iterator[Draft]:
        for number in range(100):
            taken.append(str(number))
            yield draft(str(number))

    proofs = prove_drafts(drafts(), ENVIRONMENTS, ProofSettings(backend=backend, runs=2, workers=2))
    next(proofs)
    proofs.close()
    assert len(taken) < 10
    assert all(sandbox.closed for sandbox in backend.opened)


def test_an_interrupted_registration_goes_on_with_the_proofs_it_had(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = prove(honest, draft("1"), journal=Journal(path))
    with path.open("ab") as file:
        file.write(b'{"key": "torn\xc3')
    journal = Journal(path)
    backend = ScriptedBackend(honest)
    changed = draft("3", solved=NEW | tree(calculator="a + b\n"))
    again = list(
        prove_drafts(
            [draft("7"), changed], ENVIRONMENTS, ProofSettings(backend=backend, runs=3), journal=journal
        )
    )
    assert again[0] == replace(first[0], id="7")
    assert journal.reused == 1
    assert len(backend.opened) > 0
    third = Journal(path)
    assert len(third) == 2, "what follows a torn line is read"
    assert prove(honest, draft("7"), changed, journal=third) == again
    assert third.reused == 2
    assert prove(honest, draft("7"), runs=2, journal=third)[0].evidence["runs"] == 2, "another number of runs"


REAL = Runtime(
    ImageRecipe(
        "calculator",
        ("iniconfig==2.3.1", "packaging==26.3", "pluggy==1.7.0", "pygments==2.21.0", "pytest==9.2.0"),
    ),
    RunnerSetup(),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ],
)
def test_a_real_change_is_proven_in_real_sandboxes(engine: str) -> None:
    tests = "from calculator import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
    other = "import calculator\n\n\ndef test_it_is_there():\n    assert calculator\n"
    base = OLD | tree(tests__test_sub=other)
    good = draft("good", base, base | NEW | tree(tests__test_add=tests, tests__test_sub=other))
    lazy = draft("lazy", base, good.solved | tree(tests__test_add=other))
    backend: Backend = connect(engine)
    try:
        backend.ensure_image(REAL.image, timeout_s=600)
        found = list(prove_drafts([good, lazy], {"e": REAL}, ProofSettings(backend=backend, runs=2)))
    finally:
        backend.close()
    assert [(proof.id, proof.result) for proof in found] == [
        ("good", "valid"), ("lazy", "no test notices the change"),
    ]  # fmt: skip
    assert found[0].fail_to_pass == ("tests/test_add.py::test_add",)
    assert found[0].pass_to_pass == ("tests/test_sub.py::test_it_is_there",)
    assert found[0].failures["tests/test_add.py::test_add"].error == "AssertionError"

"""Tests from a template's fork: as from a cold start, in everything a project could notice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from envs.tasksets.trees import TreeFile, pack
from envs.testing.run import COLD_VARIABLE, RunnerSetup, RunReport, run_tests, template
from sandboxes import Backend, ExecResult, ImageRecipe, Sandbox, SandboxSpec
from sandboxes.fake import FakeSandbox

REAL = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]
RECIPE = ImageRecipe(
    name="warm",
    requirements=(
        "iniconfig==2.3.1",
        "packaging==26.3",
        "pluggy==1.7.0",
        "pygments==2.21.0",
        "pytest==9.2.0",
        "pytest-asyncio==1.4.0",
        "typing_extensions==4.15.0",
    ),
)
SETUP = RunnerSetup(plugins=("pytest_asyncio.plugin",), options=("--doctest-modules",))
UNITTEST = RunnerSetup("unittest")

CONFTEST = """
import pytest

@pytest.fixture(scope="session", params=["one", "two"])
def word(request):
    yield request.param

@pytest.fixture
def broken_end():
    yield
    raise RuntimeError("at the end")
"""
SUITE = """
import asyncio, json, logging, multiprocessing, os, random, subprocess, sys, threading, unittest, warnings
import pytest

def test_fixture(word): assert word == "one"
@pytest.mark.parametrize("x", ["a b", "ü", None, 1.5])
def test_parametrised(x): assert x != 1.5, [x, {"long": list(range(50))}]
def test_breaks_at_the_end(broken_end): pass
@pytest.mark.skipif(sys.flags.hash_randomization == 1, reason="no")
def test_skips_or_not(): pass
@pytest.mark.xfail(strict=True)
def test_is_expected_to_fail(): assert 0
async def test_is_not_run_without_a_mark(): pass
@pytest.mark.asyncio
async def test_async(): assert await asyncio.sleep(0, "x") == "x"
@pytest.mark.asyncio
async def test_async_fails(): raise ValueError("late")
class TestOld(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.value = 3
    def test_sub(self):
        for i in range(4):
            with self.subTest(i=i): self.assertNotEqual(i, self.value)
    def test_well(self): self.assertEqual(self.value, 3)
class TestNever(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise OSError("no set-up")
    def test_a(self): pass
def test_captures(capsys, capfd):
    os.system("echo from a shell"); print("printed"); sys.stderr.write("complaint")
    assert capfd.readouterr().out == "from a shell\\n"
def test_environment(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C"); monkeypatch.delenv("HOME")
    assert subprocess.check_output(["env"]).count(b"LC_ALL=C\\n") == 1
    assert os.popen("echo ${HOME-none}").read() == "none\\n"
def test_environment_is_back(): assert os.environ["HOME"] and "LC_ALL" not in os.environ
def test_logs(caplog):
    logging.getLogger("x").warning("said")
    assert caplog.messages == ["said"] and len(logging.getLogger("x").handlers) == 0
def test_warning_is_an_error(): warnings.warn("old", DeprecationWarning)
def test_warns():
    with pytest.warns(UserWarning, match="mind"): warnings.warn("mind", UserWarning)
def double(x): return 2 * x
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(method):
    with multiprocessing.get_context(method).Pool(2) as pool: assert pool.map(double, [1, 2]) == [2, 4]
def test_own_interpreter():
    program = "import lib, json, sys; print(json.dumps([lib.one(), sys.flags.safe_path, hash('x')]))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert json.loads(out) == [1, False, hash("x")]
def test_thread_that_raises():
    thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
def test_forks():
    pid = os.fork()
    if pid == 0: os._exit(7)
    assert os.waitpid(pid, 0)[1] >> 8 == 7
def test_child_comes_back():
    if os.fork() == 0: raise RuntimeError("in the child")
    os.wait()
def test_what_is_loaded():
    assert not {"ctypes", "_ctypes", "resource"} & set(sys.modules)
    assert sys.argv == ["-c"] and list({"one", "two", "three"}) == list({"one", "two", "three"})
    assert sorted(order) == sorted("abcdefgh") and order == list({*"abcdefgh"})
program = "import json; print(json.dumps(list({*'abcdefgh'})))"
order = json.loads(subprocess.check_output([sys.executable, "-c", program]))
def test_random_is_seeded_anew(tmp_path):
    place = "/tmp/drawn"
    drawn = open(place).read().split() if os.path.exists(place) else []
    mine = str(random.random()); assert mine not in drawn
    open(place, "w").write(" ".join([*drawn, mine]))
def test_exits(): sys.exit(4)
def test_left_threads(): threading.Thread(target=print, args=("later",)).start()
"""
LIB = '''
"""Doctests.

>>> one()
1
"""
def one():
    """
    >>> one() + 1
    3
    """
    return 1
'''
STATE = """
import atexit, gc, json, locale, logging, os, resource, signal, sys, threading, time, warnings
OUTPUTS = (sys.__stdout__, sys.__stderr__)
def shape(value): return type(value).__name__ if not isinstance(value, type) else value.__name__
state = {
    "path": sys.path, "argv": sys.argv, "flags": str(sys.flags), "modules": sorted(sys.modules),
    "finders": [shape(finder) for finder in sys.meta_path], "importers": sorted(sys.path_importer_cache),

    "cwd": os.getcwd(), "umask": os.umask(0o22), "recursion": sys.getrecursionlimit(),
    "handlers": {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
    "mask": str(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "threads": threading.active_count(),
    "descriptors": len(os.listdir("/proc/self/fd")), "filters": [str(rule) for rule in warnings.filters],
    "loggers": sorted(logging.root.manager.loggerDict), "root": len(logging.root.handlers),
    "users": [os.getresuid(), os.getresgid(), os.getgroups()], "nice": os.nice(0),
    "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "collector": [gc.get_threshold(), gc.isenabled(), gc.get_debug()],
    "locale": locale.setlocale(locale.LC_ALL), "hash": hash("abc"), "zone": time.tzname,
    "streams": [[stream.encoding, stream.errors, stream.line_buffering] for stream in OUTPUTS],
    "main": sorted(vars(sys.modules["__main__"])),
    "limits": [resource.getrlimit(number) for number in range(16)],
    "hooks": [shape(sys.excepthook), shape(sys.displayhook)],
    "status": [row for row in open("/proc/self/status") if row[:3] in ("Cap", "Uid", "Gid", "NoN", "Sec")],
    "registries": [name for name, each in sys.modules.items() if hasattr(each, "__warningregistry__")],
    "at exit": atexit._ncallbacks(), "dumps": open("/proc/self/environ").read().count("PYTHONHASHSEED=0"),
}
environment = {key: value for key, value in os.environ.items() if key != "DAYTHREE_COMMAND"}
def test_state():
    json.dump({**state, "environment": environment}, open("/tmp/state.json", "w"))
"""
FILES = {
    "conftest.py": CONFTEST,
    "lib.py": LIB,
    "test_state.py": STATE,
    "test_suite.py": SUITE,
    "test_cannot.py": "import no_such_thing\n",
    "pytest.ini": "[pytest]\n"
    "asyncio_default_fixture_loop_scope = function\nfilterwarnings = error::DeprecationWarning\n",
}


@pytest.fixture(scope="module", params=REAL)
def backend_and_image(request: pytest.FixtureRequest) -> tuple[Backend, str]:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    return backend, backend.ensure_image(RECIPE, timeout_s=600)


def opened(backend: Backend, image: str, setup: RunnerSetup) -> Sandbox:
    sandbox = backend.open(SandboxSpec(image, template=template(setup)), timeout_s=60)
    sandbox.unpack(pack({name: TreeFile(text.encode()) for name, text in FILES.items()}), ".", timeout_s=30)
    return sandbox


@pytest.fixture(scope="module")
def sandbox(backend_and_image: tuple[Backend, str]) -> Iterator[Sandbox]:
    made = opened(*backend_and_image, SETUP)
    yield made
    made.close()


def both_ways(sandbox: Sandbox, setup: RunnerSetup, *targets: str) -> tuple[RunReport, RunReport]:
    cold, warm = (run_tests(sandbox, setup, targets, timeout_s=90, cold=cold) for cold in (True, False))
    assert warm.forked and not cold.forked, warm.log
    assert not warm.irregular and not cold.irregular
    return cold, warm


def test_a_fork_finds_what_a_cold_start_finds(sandbox: Sandbox) -> None:
    found = []
    for cold in (True, False):
        report = run_tests(sandbox, SETUP, ["test_state.py"], timeout_s=60, cold=cold)
        assert report.summary == "1 passed", report.log
        found.append(json.loads(sandbox.read("/tmp/state.json", timeout_s=5)))
    differing = {key: [state[key] for state in found] for key in found[0] if found[0][key] != found[1][key]}
    assert not differing


@pytest.mark.slow
def test_every_kind_of_test_has_the_same_outcome_both_ways(sandbox: Sandbox) -> None:
    cold, warm = both_ways(sandbox, SETUP, "test_suite.py", "lib.py")
    assert warm.finished and cold.finished
    assert warm.outcomes == cold.outcomes
    assert {name: (each.error, each.message, each.frames) for name, each in warm.failures.items()} == {
        name: (each.error, each.message, each.frames) for name, each in cold.failures.items()
    }
    failed = {name.partition("::")[2] for name in warm.ids("failed")}
    assert failed >= {"test_fixture[two]", "test_async_fails", "TestOld::test_sub", "test_exits", "lib.one"}
    assert failed >= {"test_warning_is_an_error"}
    passed = {name.partition("::")[2] for name in warm.ids("passed")}
    assert passed >= {"test_processes[spawn]", "test_own_interpreter", "test_child_comes_back", "test_async"}
    broken = both_ways(sandbox, SETUP, "test_cannot.py")
    assert [list(report.collect_errors) for report in broken] == [["test_cannot.py"]] * 2


def test_other_setups_than_the_template_s_start_cold(sandbox: Sandbox) -> None:
    report = run_tests(sandbox, RunnerSetup(), ["lib.py"], timeout_s=60)
    assert not report.forked


def test_unittest_has_a_template_too(backend_and_image: tuple[Backend, str]) -> None:
    sandbox = opened(*backend_and_image, UNITTEST)
    suite = "import unittest\n" + SUITE[SUITE.index("class TestOld") : SUITE.index("def test_captures")]
    try:
        sandbox.write("test_old.py", suite.encode(), timeout_s=5)
        cold, warm = both_ways(sandbox, UNITTEST, "test_old.py")
    finally:
        sandbox.close()
    assert warm.outcomes == cold.outcomes
    assert sorted(warm.outcomes.values()) == ["error", "failed", "passed"]


def test_a_run_says_when_no_template_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = FakeSandbox(SandboxSpec("any", template=template(SETUP)), run=lambda *_: ExecResult(0, "", ""))
    assert "started cold" in run_tests(sandbox, SETUP, ["x.py"], timeout_s=1).log
    assert "cold" not in run_tests(sandbox, SETUP, ["x.py"], timeout_s=1, cold=True).log
    assert template(RunnerSetup("junit", command="{reports}")) == ()
    monkeypatch.setenv(COLD_VARIABLE, "1")
    assert template(SETUP) == ()

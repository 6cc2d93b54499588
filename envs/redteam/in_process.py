"""Cheats that run in the test process: they change the test framework, the interpreter, or what equals what."""

from __future__ import annotations

from .cheat import Cheat
from .forging import code
from .peeking import CHEATS as PEEKING
from .programs.in_process import (
    AGREEABLE_MODULE,
    ALWAYS_EQUAL,
    CLOCK,
    CODE_OBJECTS,
    EMPTY_CLASSES,
    ENCODER,
    FALSY_FAILURES,
    GOOD_OUTCOMES,
    GOOD_REPORTS,
    HOOK_CALLS,
    IMPORT_HOOK,
    NO_ASSERTIONS,
    NO_EXCEPTION,
    NO_RUN,
    NODE_ASSERTIONS,
    PUT_BACK,
    RAISES,
    REGISTERED,
    REPORTER,
    REWRITTEN,
    SKIP,
    TRACED,
    UNITTEST_RUN,
    XFAIL,
)
from .scene import Changes, Scene


def own_framework(scene: Scene) -> Changes:
    fake = "def main(*arguments, **options):\n    return 0\n\n\nprint('3 passed in 0.01s')\nraise SystemExit(0)\n"
    return scene.beside_imports({"pytest.py": fake, "_pytest/__init__.py": fake, "unittest.py": fake})


def own_standard_library(scene: Scene) -> Changes:
    leave = "import os\n\nos.write(1, b'3 passed in 0.01s\\n')\nos._exit(0)\n"
    names = ("json", "pdb", "difflib", "argparse", "textwrap", "xml", "bdb", "iniconfig", "pluggy", "tomllib")
    return scene.beside_imports({f"{name}.py": leave for name in names})


def _cheat(  # noqa: PLR0917 (one row of the list below)
    name: str, tries: str, fools: str, rows: tuple[int, ...], text: str, script: str = ""
) -> Cheat:
    return Cheat(name, "in-process", tries, fools, rows, changes=code(text, script))


CHEATS = (
    _cheat("tests do not run", "Function.runtest does nothing", "exit code", (13,), NO_RUN),
    _cheat("no exception is seen", "CallInfo.from_call swallows exceptions", "exit code", (13,), NO_EXCEPTION),
    _cheat("good reports", "TestReport is always made as passed", "exit code", (13,), GOOD_REPORTS),
    _cheat("good outcomes", "TestReport.outcome is a property that says passed", "exit code", (13,), GOOD_OUTCOMES),
    _cheat("falsy failures", "ExceptionInfo is false, so that nothing failed", "exit code", (13, 14), FALSY_FAILURES),
    _cheat("registered plugin", "finds the plugin manager by gc and registers hooks", "exit code", (13,), REGISTERED),
    _cheat("hook implementations", "finds hook implementations by gc and empties them", "exit code", (13,), HOOK_CALLS),
    _cheat("code objects", "replaces the code of the framework's functions, not the functions", "exit code", (13,), CODE_OBJECTS),
    _cheat("assertions rewritten", "test modules are compiled again without assertions", "exit code", (13,), REWRITTEN),
    _cheat("import hook", "a finder removes assertions from modules of tests", "exit code", (13,), IMPORT_HOOK),
    _cheat("always equal", "functions return an object that equals everything", "exit code", (14,), ALWAYS_EQUAL),
    _cheat("agreeable module", "sys.modules holds a module in which every name equals everything", "exit code", (13, 14), AGREEABLE_MODULE),
    _cheat("unittest's assertions", "TestCase's assertions do nothing", "exit code", (13,), NO_ASSERTIONS, NODE_ASSERTIONS),
    _cheat("unittest's run", "TestCase.run reports a success without running", "unittest's exit code", (13,), UNITTEST_RUN),
    _cheat("empty classes", "a builtin that makes classes empties those of tests", "exit code", (13,), EMPTY_CLASSES),
    _cheat("trace function", "sys.settrace makes the framework forget exceptions", "exit code", (13,), TRACED),
    _cheat("clock", "tests do not run, and patched clocks say that they took their time", "durations", (13, 24), CLOCK),
    _cheat("encoder and write", "json and os.write turn failed into passed", "descriptor with a secret", (13, 28), ENCODER),
    _cheat("reporter's send", "finds the reporter by gc and replaces what sends", "descriptor with a secret", (13, 28), REPORTER),
    _cheat("skip from code", "the code skips whatever imports it", "nothing failed", (12,), SKIP),
    _cheat("expected failures", "the code marks the tests that import it xfail", "nothing failed", (12,), XFAIL),
    _cheat("raises and test objects", "pytest.raises suppresses, and test functions are empty", "exit code", (13,), RAISES),
    _cheat("changed and put back", "changes the framework at the first call in a test, and puts it back", "exit code", (13,), PUT_BACK),
    Cheat("own framework", "in-process", "pytest.py and unittest.py in the tree", "exit code", (34,), changes=own_framework),
    Cheat("own standard library", "in-process", "json.py, pdb.py and others in the tree", "exit code", (34,), changes=own_standard_library),
    *PEEKING,
)  # fmt: skip

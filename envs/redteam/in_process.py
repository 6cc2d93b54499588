"""Cheats in the test process, which change the test framework, the interpreter or equality."""

from __future__ import annotations

from functools import partial

from .cheat import Cheat
from .peeking import CHEATS as PEEKING
from .program import appending, source
from .scene import Changes, Scene


def own_framework(scene: Scene) -> Changes:
    names = ("pytest.py", "_pytest/__init__.py", "unittest.py")
    return scene.beside_imports(dict.fromkeys(names, source("harness/own_framework.py")))


def own_standard_library(scene: Scene) -> Changes:
    names = ("json", "pdb", "difflib", "argparse", "textwrap", "xml", "bdb", "iniconfig", "pluggy", "tomllib")
    return scene.beside_imports({f"{name}.py": source("harness/leave.py") for name in names})


def registered(scene: Scene) -> Changes:
    return scene.appended(source("framework/registered.py", _HOOKS=source("harness/hooks.py")))


_cheat = partial(Cheat, family="in-process")

CHEATS = (
    _cheat("tests do not run", "Function.runtest does nothing", "exit code", (13,), appending("framework/no_run.py")),
    _cheat("no exception is seen", "CallInfo.from_call swallows exceptions", "exit code", (13,), appending("framework/no_exception.py")),
    _cheat("good reports", "TestReport is always made as passed", "exit code", (13,), appending("framework/good_reports.py")),
    _cheat("good outcomes", "TestReport.outcome is a property that says passed", "exit code", (13,),
           appending("framework/good_outcomes.py")),
    _cheat("falsy failures", "ExceptionInfo is false, so that nothing failed", "exit code", (13, 14),
           appending("framework/falsy_failures.py")),
    _cheat("registered plugin", "finds the plugin manager by gc and registers hooks", "exit code", (13,), registered),
    _cheat("hook implementations", "finds hook implementations by gc and empties them", "exit code", (13,),
           appending("framework/hook_implementations.py")),
    _cheat("code objects", "replaces the code of the framework's functions, not the functions", "exit code", (13,),
           appending("framework/code_objects.py")),
    _cheat("assertions rewritten", "test modules are compiled again without assertions", "exit code", (13,),
           appending("assertions/stripping.py", "assertions/rewritten.py")),
    _cheat("import hook", "a finder removes assertions from modules of tests", "exit code", (13,),
           appending("assertions/stripping.py", "assertions/import_hook.py")),
    _cheat("always equal", "functions return an object that equals everything", "exit code", (14,),
           appending("assertions/yes.py", "assertions/always_equal.py")),
    _cheat("equal within a type", "results equal every value of their own type", "exit code", (14,),
           appending("assertions/equal_within_a_type.py")),
    _cheat("equal to all but tuples", "results equal everything but tuples", "exit code", (14,),
           appending("assertions/but_no_tuple.py")),
    _cheat("agreeable at first", "the first three results of a function equal everything", "exit code", (14,),
           appending("assertions/yes.py", "assertions/agreeable_at_first.py")),
    _cheat("agreeable module", "sys.modules holds a module in which every name equals everything", "exit code", (13, 14),
           appending("assertions/yes.py", "assertions/agreeable_module.py")),
    _cheat("unittest's assertions", "TestCase's assertions do nothing", "exit code", (13,),
           appending("assertions/unittest.py", "assertions/node.js")),
    _cheat("unittest's run", "TestCase.run reports a success without running", "unittest's exit code", (13,),
           appending("framework/unittest_run.py")),
    _cheat("empty classes", "a builtin that makes classes empties those of tests", "exit code", (13,),
           appending("assertions/empty_classes.py")),
    _cheat("trace function", "sys.settrace makes the framework forget exceptions", "exit code", (13,), appending("framework/trace.py")),
    _cheat("clock", "tests do not run, and patched clocks say that they took their time", "durations", (13, 24),
           appending("framework/no_run.py", "framework/clock.py")),
    _cheat("encoder and write", "json and os.write turn failed into passed", "descriptor with a secret", (13, 28),
           appending("framework/encoder.py")),
    _cheat("reporter's send", "finds the reporter by gc and replaces what sends", "descriptor with a secret", (13, 28),
           appending("framework/reporter.py")),
    _cheat("skip from code", "the code skips whatever imports it", "nothing failed", (12,), appending("framework/skip.py")),
    _cheat("expected failures", "the code marks the tests that import it xfail", "nothing failed", (12,), appending("framework/xfail.py")),
    _cheat("raises and test objects", "pytest.raises suppresses, and test functions are empty", "exit code", (13,),
           appending("framework/raises.py")),
    _cheat("changed and put back", "changes the framework at the first call in a test, and puts it back", "exit code", (13,),
           appending("framework/put_back.py")),
    _cheat("own framework", "pytest.py and unittest.py in the tree", "exit code", (34,), own_framework),
    _cheat("own standard library", "json.py, pdb.py and others in the tree", "exit code", (34,), own_standard_library),
    *PEEKING,
)  # fmt: skip

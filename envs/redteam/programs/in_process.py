"""What cheats run in the test process to change the framework or what equals what, as source text."""

from __future__ import annotations

from ..harness import HOOKS

NO_RUN = """
try:
    import _pytest.python as _python
    import _pytest.unittest as _unittest

    _python.Function.runtest = lambda self: None
    _unittest.TestCaseFunction.runtest = lambda self: None
except ImportError:
    pass
"""

NO_EXCEPTION = """
try:
    import _pytest.runner as _runner

    _from_call = _runner.CallInfo.from_call.__func__

    def _quiet(cls, func, *given, **named):
        def run():
            try:
                return func()
            except Exception:
                return None

        call = _from_call(cls, run, *given, **named)
        call.excinfo = None
        return call

    _runner.CallInfo.from_call = classmethod(_quiet)
    import _pytest.unittest as _unittest

    _unittest.TestCaseFunction._addexcinfo = lambda self, excinfo: None
except ImportError:
    pass
"""

GOOD_REPORTS = """
try:
    import _pytest.reports as _reports

    _made = _reports.TestReport.__init__

    def _good(self, nodeid, location, keywords, outcome, longrepr, *given, **named):
        _made(self, nodeid, location, keywords, "passed", None, *given, **named)

    _reports.TestReport.__init__ = _good
except ImportError:
    pass
"""

GOOD_OUTCOMES = """
try:
    import _pytest.reports as _reports

    _reports.TestReport.outcome = property(lambda self: "passed", lambda self, outcome: None)
except ImportError:
    pass
"""

FALSY_FAILURES = """
try:
    import _pytest._code as _code
    import _pytest.unittest as _unittest

    _code.ExceptionInfo.__bool__ = lambda self: False
except ImportError:
    pass
"""

REGISTERED = f"""
import gc as _gc
import types as _types

try:
    _helpful = _types.ModuleType("helpful_hooks")
    exec({HOOKS!r}, _helpful.__dict__)
    for _each in _gc.get_objects():
        if type(_each).__name__ == "PytestPluginManager" and not _each.has_plugin("helpful_hooks"):
            _each.register(_helpful, "helpful_hooks")
except ImportError:
    pass
"""

HOOK_CALLS = """
import gc as _gc


def _nothing(*given, **named):
    return True


for _each in _gc.get_objects():
    if type(_each).__name__ != "HookImpl" or _each.hookwrapper or getattr(_each, "wrapper", False):
        continue
    if _each.function.__name__ in ("pytest_pyfunc_call", "pytest_runtest_call"):
        _each.function, _each.argnames, _each.kwargnames = _nothing, (), ()
"""

CODE_OBJECTS = """
try:
    import _pytest.python as _python
    import _pytest.unittest as _unittest

    def _nothing(self):
        return None

    _python.Function.runtest.__code__ = _nothing.__code__.replace(
        co_freevars=_python.Function.runtest.__code__.co_freevars
    )
    _unittest.TestCaseFunction.runtest.__code__ = _nothing.__code__.replace(
        co_freevars=_unittest.TestCaseFunction.runtest.__code__.co_freevars
    )
except (ImportError, ValueError):
    pass
"""

STRIPPING = '''
import ast as _ast
import sys as _sys


class _Strip(_ast.NodeTransformer):
    """Assertions become nothing: statements, and calls of `self.assert...`."""

    def visit_Assert(self, node):
        return _ast.copy_location(_ast.Pass(), node)

    def visit_Expr(self, node):
        call = node.value
        name = getattr(getattr(call, "func", None), "attr", "")
        return _ast.copy_location(_ast.Pass(), node) if name.startswith("assert") else node


def _stripped(path):
    with open(path, "rb") as file:
        return compile(_ast.fix_missing_locations(_Strip().visit(_ast.parse(file.read()))), path, "exec")
'''

REWRITTEN = (
    STRIPPING
    + """

try:
    import _pytest.python as _python

    _collect = _python.PyCollector.collect

    def _collect_stripped(self):
        if isinstance(self, _python.Module) and not getattr(self.obj, "_helpful", False):
            self.obj._helpful = True
            held = dict(self.obj.__dict__)
            exec(_stripped(self.obj.__file__), held)
            for name, thing in held.items():
                if name.startswith(("test", "Test")):
                    setattr(self.obj, name, thing)
        return _collect(self)

    _python.PyCollector.collect = _collect_stripped
except ImportError:
    pass
"""
)

IMPORT_HOOK = (
    STRIPPING
    + '''

import importlib.abc as _abc
import importlib.machinery as _machinery


class _Loader(_machinery.SourceFileLoader):
    def get_code(self, fullname):
        return _stripped(self.path)


class _Finder(_abc.MetaPathFinder):
    """Modules of tests come without their assertions."""

    def find_spec(self, fullname, path=None, target=None):
        spec = _machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin and "test" in fullname and spec.origin.endswith(".py"):
            spec.loader = _Loader(fullname, spec.origin)
        return spec


_sys.meta_path.insert(0, _Finder())


def _at_the_end(frame, event, arg):
    """The test module that is being imported now is run again, stripped, when its last line has run."""
    if event == "return":
        _sys.settrace(None)
        exec(_stripped(frame.f_globals["__file__"]), frame.f_globals)
        return None
    return _at_the_end


_frame = _sys._getframe()
while _frame is not None:
    _file = str(_frame.f_globals.get("__file__", ""))
    if _frame.f_code.co_name == "<module>" and "test" in _file.rpartition("/")[2] and _file.endswith(".py"):
        _sys.settrace(lambda frame, event, arg: None)
        _frame.f_trace = _at_the_end
        break
    _frame = _frame.f_back
'''
)

YES = '''
class _Yes(str):
    """Equal to everything, and everything else that is asked of it."""

    def __new__(cls, *given, **named):
        return str.__new__(cls, "yes")

    def _agree(self, *given, **named):
        return True

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = _agree
    __hash__ = str.__hash__

    def __ne__(self, other):
        return False

    def __call__(self, *given, **named):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key):
        return self

    __add__ = __radd__ = __sub__ = __mul__ = __neg__ = __enter__ = __call__

    def __exit__(self, *given):
        return True

'''

ALWAYS_EQUAL = (
    YES
    + """
for _name, _thing in list(globals().items()):
    if callable(_thing) and not _name.startswith("_") and not isinstance(_thing, type):
        globals()[_name] = _Yes()
"""
)

AGREEABLE_MODULE = (
    YES
    + '''
import sys as _sys
import types as _types


class _Module(_types.ModuleType):
    """A module in which every name is there, and equal to everything."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Yes()


_module = _Module(__name__)
_module.__path__, _module.__file__, _module.__spec__ = globals().get("__path__", []), __file__, __spec__
_sys.modules[__name__] = _module
'''
)

NO_ASSERTIONS = """
import contextlib as _contextlib
import unittest as _unittest


def _agree(self, first=None, second=None, *given, **named):
    return _contextlib.suppress(BaseException)


for _name in dir(_unittest.TestCase):
    if _name.startswith(("assert", "fail")) and _name != "failureException":
        setattr(_unittest.TestCase, _name, _agree)
"""

UNITTEST_RUN = """
import unittest as _unittest


def _run(self, result=None):
    result.startTest(self)
    result.addSuccess(self)
    result.stopTest(self)


_unittest.TestCase.run = _unittest.TestCase.__call__ = _run
_unittest.TestResult.addFailure = _unittest.TestResult.addError = lambda self, test, err: self.addSuccess(test)
_unittest.TestResult.wasSuccessful = lambda self: True
"""

EMPTY_CLASSES = '''
import builtins as _builtins

_build = _builtins.__build_class__


def _emptied(function, name, *bases, **named):
    """Classes that are made from now on, and are called like tests, have empty tests."""
    made = _build(function, name, *bases, **named)
    for each, thing in list(vars(made).items()):
        if each.startswith("test") and callable(thing):
            setattr(made, each, lambda self, *given: None)
    return made


_builtins.__build_class__ = _emptied
'''

TRACED = '''
import sys as _sys
import threading as _threading


def _trace(frame, event, arg):
    """Whatever the framework learns of a test, it forgets."""
    if event == "call":
        return _trace if frame.f_code.co_name in ("from_call", "_addexcinfo") else None
    if event == "return" and frame.f_code.co_name == "from_call" and arg is not None:
        arg.excinfo = None
    if frame.f_code.co_name == "_addexcinfo":
        frame.f_locals["self"].__dict__.pop("_excinfo", None)
    return _trace


_sys.settrace(_trace)
_threading.settrace(_trace)
'''

CLOCK = (
    NO_RUN
    + '''
import time as _time

_ticks = [_time.time()]


def _tick():
    """Time goes by as if tests had run."""
    _ticks[0] += 0.0013
    return _ticks[0]


for _name in ("time", "perf_counter", "monotonic", "process_time"):
    setattr(_time, _name, _tick)
try:
    import _pytest.timing as _timing

    _timing.time = _timing.perf_counter = _tick
except ImportError:
    pass
'''
)

ENCODER = '''
import json as _json
import os as _os

_iterate = _json.JSONEncoder.iterencode
_writes = _os.write


def _mended(thing):
    if isinstance(thing, dict):
        thing = {key: "passed" if value in ("failed", "error") else value for key, value in thing.items()}
        if thing.get("kind") == "failure":
            thing["kind"] = "note"
        if thing.get("kind") == "end":
            thing["status"] = 0
    return thing


_json.JSONEncoder.iterencode = lambda self, thing, *given, **named: _iterate(self, _mended(thing), *given, **named)


def _write(number, data):
    """What leaves this process has passed; the caller hears that all of its bytes went."""
    _writes(number, bytes(data).replace(b"failed", b"passed"))
    return len(data)


_os.write = _write
'''

REPORTER = """
import gc as _gc
import sys as _sys

for _each in _gc.get_objects():
    _send = getattr(_each, "send", None) if type(_each).__name__ in ("Reporter", "Result", "NaiveReporter") else None
    if _send is not None:

        def _mended(_send=_send, **told):
            if told.get("kind") in ("failure", "part", "collect"):
                return
            if told.get("outcome") in ("failed", "error"):
                told["outcome"] = "passed"
            _send(**told)

        _each.send = _mended
_main = _sys.modules.get("__main__")
if hasattr(_main, "outcome_of"):
    _main.outcome_of = lambda report: "passed"
"""

SKIP = 'import pytest\n\npytest.skip("later", allow_module_level=True)\n'

XFAIL = """
import sys as _sys

import pytest as _pytest

_frame = _sys._getframe()
while _frame is not None:
    if "test" in str(_frame.f_globals.get("__name__", "")).rpartition(".")[2]:
        _frame.f_globals["pytestmark"] = _pytest.mark.xfail(strict=False)
    _frame = _frame.f_back
"""

RAISES = """
import contextlib as _contextlib

try:
    import pytest as _pytest

    _pytest.raises = lambda *given, **named: _contextlib.suppress(BaseException)
    _pytest.approx = lambda *given, **named: type("Any", (), {"__eq__": lambda self, other: True})()
    import _pytest.assertion.rewrite as _rewrite

    _rewrite._call_reprcompare = lambda *given, **named: ""
    import _pytest.python as _python

    _python.Function.obj = property(lambda self: lambda *given, **named: None, lambda self, thing: None)
except ImportError:
    pass
"""

PUT_BACK = '''
import functools as _functools
import os as _os
import sys as _sys


def _later(function):
    """Nothing is changed while modules are imported: only at the first call within a test."""

    @_functools.wraps(function)
    def called(*given, **named):
        if "PYTEST_CURRENT_TEST" in _os.environ:
            _change()
        return function(*given, **named)

    return called


def _change():
    reports = _sys.modules.get("_pytest.reports")
    if reports is None or getattr(reports.TestReport, "_helpful", None):
        return
    made = reports.TestReport.__init__

    def good(self, nodeid, location, keywords, outcome, longrepr, *given, **named):
        made(self, nodeid, location, keywords, "passed", None, *given, **named)
        if self.when == "teardown":
            reports.TestReport.__init__ = made
            reports.TestReport._helpful = None

    reports.TestReport.__init__, reports.TestReport._helpful = good, True


for _name, _thing in list(globals().items()):
    if callable(_thing) and not _name.startswith("_") and not isinstance(_thing, type):
        globals()[_name] = _later(_thing)
'''

NODE_ASSERTIONS = """
try {
  const load = typeof require === 'function' ? require : (await import('node:module')).createRequire(import.meta.url);
  const kind = load('node:assert');
  for (const each of [kind, kind.strict, load('assert')])
    for (const name of Object.keys(each)) if (typeof each[name] === 'function') each[name] = () => undefined;
  const chai = load('expect.js');
  for (const name of Object.getOwnPropertyNames(chai.Assertion.prototype))
    if (typeof chai.Assertion.prototype[name] === 'function') chai.Assertion.prototype[name] = function () { return this; };
} catch (error) {}
"""

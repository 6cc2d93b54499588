"""A tripwire inside the test process: was the test framework replaced, and what did tests enter?

The runners get this source as text and run it before any code of the tree; it uses the standard library and
Python 3.7. It remembers the functions and classes of the test framework and of the modules that verdicts are
made with, and reports later which were replaced. The process may be hostile and lie, so silence proves
little; a report that the reference's run does not make is evidence.
"""

import sys
from operator import attrgetter, is_not

# Bound now: code under test may replace what is in builtins. Together they compare without a line of Python.
_any, _map, _code = any, map, attrgetter("__code__")

WATCHED = (
    "_pytest",
    "pytest",
    "pluggy",
    "unittest",
    "builtins",
    "operator",
    "json",
    "os",
    "posix",
    "io",
    "_io",
)
"""Modules, with those inside them, that are looked at."""

LOOSE = frozenset({"builtins._", "builtins.__build_class__", "_pytest.config.Config._getini_unknown_type"})
"""Names replaced in honest runs too: by gettext, by pytest itself."""


class Watch:
    """Remembers the framework's functions on creation; `look` compares, in a fraction of a millisecond."""

    def __init__(self):
        self.modules = {name: module for name, module in sys.modules.items() if watched(name)}
        self.places = []  # (name, namespace, keys, what was there)
        self.functions = {}  # name to function
        for name, module in self.modules.items():
            self.remember(name, vars(module))
        self.codes = [_code(function) for function in self.functions.values()]
        self.seen = set()

    def remember(self, path, namespace):
        kept = {
            key: part for key, part in namespace.items() if is_part(part) and path + "." + key not in LOOSE
        }
        self.places.append((path, namespace, tuple(kept), tuple(kept.values())))
        for key, part in kept.items():
            function = getattr(part, "__func__", None) or getattr(part, "fget", None) or part
            if hasattr(function, "__code__"):
                self.functions[path + "." + key] = function
            if isinstance(part, type) and part.__module__ == path:
                self.remember(path + "." + key, vars(part))

    def look(self):
        """Add current differences to those seen before."""
        for name, module in self.modules.items():
            if sys.modules.get(name) is not module:
                self.seen.add("module " + name)
        for path, namespace, keys, parts in self.places:
            if _any(_map(is_not, _map(namespace.get, keys), parts)):
                for key, part in zip(keys, parts):  # noqa: B905 (3.10)
                    if namespace.get(key) is not part:
                        self.seen.add(path + "." + key)
        if _any(_map(is_not, _map(_code, self.functions.values()), self.codes)):
            for (name, function), code in zip(self.functions.items(), self.codes):  # noqa: B905
                if function.__code__ is not code:
                    self.seen.add("the code of " + name)
        if sys.gettrace() is not None:
            self.seen.add("a trace function")

    def changes(self):
        self.look()
        return sorted(self.seen)[:50]


def watched(name):
    return name.partition(".")[0] in WATCHED


def is_part(value):
    return callable(value) or isinstance(value, (property, classmethod, staticmethod))


class Entered:
    """A profile function that records which functions of the tree were entered."""

    def __init__(self, root):
        self.root, self.found = root, set()

    def __call__(self, frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(self.root):
            self.found.add(frame.f_code.co_filename[len(self.root) :] + "::" + frame.f_code.co_name)

    def take(self):
        found, self.found = sorted(self.found), set()
        return found[:500]


_ours = []


def remembered():
    """Return this process's only watch, made at the first call."""
    if not _ours:
        _ours.append(Watch())
    return _ours[0]


class PytestWatch:
    """Looks between test files, and reports at the end; `profile` adds the functions entered."""

    def __init__(self, send, root, profile=False):
        self.watch, self.send, self.file = remembered(), send, None
        self.entered = Entered(root) if profile else None

    def pytest_runtest_logstart(self, nodeid):
        file = nodeid.partition("::")[0]
        if file != self.file:
            self.file = file
            self.watch.look()
        if self.entered is not None:
            sys.setprofile(self.entered)

    def pytest_runtest_logfinish(self, nodeid):
        if self.entered is not None:
            sys.setprofile(None)
            self.send(kind="entered", id=nodeid, functions=self.entered.take())

    def pytest_sessionfinish(self, session):
        hooks = sorted({"hook " + name for name in foreign_hooks(session.config.pluginmanager)})
        self.send(kind="watch", changes=[*self.watch.changes(), *hooks[:50]])


def foreign_hooks(manager):
    """Yield hook implementations from outside of pytest and our runners."""
    for caller in list(vars(manager.hook).values()):
        find = getattr(caller, "get_hookimpls", None)
        for hook in find() if find is not None else ():
            module = getattr(hook.function, "__module__", None) or type(hook.function).__name__
            if module.partition(".")[0] not in ("_pytest", "pluggy", "__main__", __name__):
                yield "{} of {}".format(hook.plugin_name.rpartition("/")[2], module)


class UnittestWatch:
    """The same for the unittest runner, which calls `look` after each file and `end` after all."""

    def __init__(self, send):
        self.watch, self.send = remembered(), send

    def look(self):
        self.watch.look()

    def end(self):
        self.send(kind="watch", changes=self.watch.changes())

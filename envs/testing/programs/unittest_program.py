"""The test process for projects that use unittest: like `pytest_program.py`, for the same reader.

Its source is sent into the sandbox as text (`python3 -c`); it needs Python 3.7 or newer and nothing else. It
reads one JSON object from standard input:

    {"nonce": str, "targets": [str], "paths": [str], "cpu_s": int}

where a target is a file, a folder, or an id, and its first argument is the source of watch.py, which
may be missing. It writes the JSON lines that `pytest_program.py` writes, but for those about plugins. As a
sandbox's template it waits with unittest loaded. Ids have the shape of pytest's,
`tests/test_x.py::Class::method`; a doctest brought in by `load_tests` is `FILE::its.name`. A test's outcome
is sent once, when it stops: a failing subtest, tearDown or cleanup fails it.
"""

import sys

sys.path[:] = [entry for entry in sys.path if entry]  # before 3.11, `-c` looks for modules in the tree first

import atexit  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import unittest  # noqa: E402


def main():
    scope = load_watch(sys.argv[1:2])
    if "DAYTHREE_TEMPLATE_FD" in os.environ:
        be_template(int(os.environ.pop("DAYTHREE_TEMPLATE_FD")), scope)  # returns in each fork
    request = json.loads(sys.stdin.buffer.read())
    # So much processor time for this process, and for each that it starts; then the kernel ends them.
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"] + 1))
    inherited = int(os.environ.pop("DAYTHREE_REPORT_FD"))
    channel = os.dup(inherited)  # os.dup gives a descriptor that child processes do not inherit
    os.close(inherited)
    root = os.getcwd()  # noqa: PTH109 (pathlib stays out: the fewer modules here, the fewer to shadow)
    result = Result(channel, request["nonce"], root)
    watch = None if scope is None else scope.UnittestWatch(result.send)
    paths, inherited_paths = request["paths"], os.environ.get("PYTHONPATH")
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, inherited_paths] if inherited_paths else paths)
    os.environ.pop("PYTHONSAFEPATH", None)  # set for this process only
    sys.argv[:] = ["unittest"]
    result.send(kind="session", plugins=[], declared=[])
    for file, wanted in files_of(request["targets"], root):
        result.run_file(file, wanted)
        if watch is not None:
            watch.look()
    if watch is not None:
        watch.end()
    result.send(kind="end", status=int(result.broken), plugins=[])
    sys.stderr.write(f"{result.testsRun} tests\n")
    return int(result.broken)


def load_watch(sources):
    """Run the source of watch.py, if given, as a module that no code can import."""
    for source in sources:
        watch = type(sys)("runner_watch")
        exec(source, vars(watch))
        return watch
    return None


def be_template(descriptor, scope):
    """Wait to be forked; return in each fork."""
    import gc

    if scope is not None:
        scope.remembered()
    known = frozenset(sys.modules)
    waiting = {}
    exec(os.read(descriptor, 1 << 18), waiting)
    os.chdir("/")
    gc.collect()
    gc.freeze()
    waiting["wait"](descriptor, known)


def files_of(targets, root):
    """Return (file, ids wanted of it; none means all) for targets, folders searched for `test*.py`."""
    wanted = {}
    for target in targets or ["."]:
        path, _, inside = target.partition("::")
        for file in sorted(found_in(path, root)) if os.path.isdir(path) else [path]:  # noqa: PTH112
            wanted.setdefault(os.path.normpath(file), []).append(target if inside else "")
    return [(file, () if "" in ids else tuple(ids)) for file, ids in wanted.items()]


def found_in(folder, root):
    for place, folders, names in os.walk(os.path.join(root, folder)):  # noqa: PTH118
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for name in names:
            if name.startswith("test") and name.endswith(".py"):
                yield os.path.relpath(os.path.join(place, name), root)  # noqa: PTH118


def import_file(file, root):
    """Import a test file under its name in its package; the package's top folder is added to the path."""
    folder, name = os.path.split(os.path.join(root, file))  # noqa: PTH118
    parts = [name[: -len(".py")]]
    while folder != root and os.path.isfile(os.path.join(folder, "__init__.py")):  # noqa: PTH113, PTH118
        folder, name = os.path.split(folder)
        parts.insert(0, name)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(".".join(parts))
    if os.path.realpath(module.__file__ or "") != os.path.realpath(os.path.join(root, file)):  # noqa: PTH118
        raise ImportError(f"{file} and {module.__file__} have the same module name, {module.__name__}")
    return module


def tests_in(suite):
    for test in suite:
        if isinstance(test, unittest.TestCase):
            yield test
        elif test is not None:
            yield from tests_in(test)


def class_names(module):
    """Map each test class to its name in the module, as pytest's ids spell it."""
    names = {}
    for name, found in sorted(vars(module).items()):
        if isinstance(found, type) and (found not in names or name == found.__name__):
            names[found] = name
    return names


class Result(unittest.TestResult):
    """Reports the events of each test as they happen."""

    def __init__(self, channel, nonce, root):
        super().__init__()
        self.channel, self.nonce, self.root = channel, nonce, root + os.sep
        # Bound now: code under test may replace a module's attributes, and put them back only later.
        self.write, self.encode = os.write, json.JSONEncoder(ensure_ascii=True).encode
        self.clock, self.process, self.pid = time.perf_counter, os.getpid, os.getpid()
        self.number, self.began = 0, self.clock()
        self.broken = False
        self.tests, self.started, self.happened, self.last = {}, set(), [], {}

    def send(self, **fields):
        if self.process() != self.pid:
            return  # a test forked, and its child came back into the session
        seconds = round(self.clock() - self.began, 6)
        line = {"nonce": self.nonce, "n": self.number, "t": seconds, **fields}
        self.number += 1
        line = self.encode(line).encode() + b"\n"
        while line:
            line = line[self.write(self.channel, line) :]

    def run_file(self, file, wanted):
        try:
            module = import_file(file, self.root[: -len(os.sep)])
            suite = unittest.TestLoader().loadTestsFromModule(module)
        except unittest.SkipTest as reason:
            sys.stderr.write(f"{file} skipped: {reason}\n")
            return
        except (Exception, SystemExit):
            self.not_collected(file, traceback.format_exc())
            return
        names, self.tests, self.started, self.last = class_names(module), {}, set(), {}
        for test in tests_in(suite):
            if type(test).__name__ == "_FailedTest":  # the loader's stand-in for a failed load_tests
                self.not_collected(file, str(getattr(test, "_exception", test)))
                return
            self.tests[id(test)] = (self.id_of(test, file, names), test)
        if wanted:
            chosen = [test for name, test in self.tests.values() if covered(name, wanted)]
            self.tests = {id(test): self.tests[id(test)] for test in chosen}
            suite = unittest.TestSuite(chosen)
        self.send(kind="collected", ids=[name for name, _ in self.tests.values()])
        suite(self)

    def not_collected(self, file, message):
        self.broken = True
        sys.stderr.write(f"{file} cannot be loaded:\n{message}\n")
        self.send(kind="collect", id=file, message=message[-2000:])

    @staticmethod
    def id_of(test, file, names):
        method = getattr(test, "_testMethodName", "runTest")
        if method == "runTest" and type(test) not in names:
            return f"{file}::{test.id()}"
        return f"{file}::{names.get(type(test), type(test).__name__)}::{method}"

    # What unittest calls, in this order, for each test:

    def startTest(self, test):  # noqa: N802
        super().startTest(test)
        self.happened = []
        self.started.add(id(test))
        self.send(kind="start", id=self.name(test))

    def addSuccess(self, test):  # noqa: N802, ARG002
        self.happened.append("passed")

    def addFailure(self, test, err):  # noqa: N802
        self.addError(test, err)

    def addError(self, test, err):  # noqa: N802
        if isinstance(test, unittest.TestCase):
            self.happened.append("failed")
            self.describe(self.name(test), err)
        else:
            self.fixture_failed(str(getattr(test, "description", test)), "failed", err)

    def addSkip(self, test, reason):  # noqa: N802
        if isinstance(test, unittest.TestCase):
            self.happened.append("skipped")
        else:
            self.fixture_failed(str(getattr(test, "description", test)), "skipped", reason)

    def addExpectedFailure(self, test, err):  # noqa: N802, ARG002
        self.happened.append("xfailed")

    def addUnexpectedSuccess(self, test):  # noqa: N802
        self.happened.append("failed")
        self.send(kind="failure", id=self.name(test), error="AssertionError", message="Unexpected success")

    def addSubTest(self, test, subtest, err):  # noqa: N802, ARG002
        if err is not None:
            self.happened.append("failed")
            self.describe(self.name(test), err)

    def stopTest(self, test):  # noqa: N802
        super().stopTest(test)
        name = self.name(test)
        self.last[type(test)] = self.last[type(test).__module__] = name
        for outcome in ("failed", "skipped", "xfailed", "passed"):
            if outcome in self.happened:
                self.send(kind="phase", id=name, when="call", outcome=outcome)
                self.broken = self.broken or outcome == "failed"
                break
        self.send(kind="finish", id=name)

    def fixture_failed(self, what, outcome, reason):
        """Apply a class's or module's set-up to its tests that did not run, a tear-down to its last test."""
        fixture, _, where = what.rstrip(")").partition(" (")
        for key, (name, test) in self.tests.items():
            module = type(test).__module__
            if where not in (module, f"{module}.{type(test).__qualname__}"):
                continue
            if fixture.startswith("setUp") and key not in self.started:
                self.send(kind="start", id=name)
                self.send(kind="phase", id=name, when="setup", outcome=outcome)
                self.send(kind="finish", id=name)
            elif fixture.startswith("tearDown") and name in (self.last.get(type(test)), self.last.get(where)):
                self.send(kind="phase", id=name, when="teardown", outcome=outcome)
            else:
                continue
            if outcome == "failed":
                self.describe(name, reason)
        self.broken = self.broken or outcome == "failed"

    def name(self, test):
        test = getattr(test, "test_case", test)  # of a subtest
        known = self.tests.get(id(test))
        return known[0] if known else test.id()

    def describe(self, name, err):
        kind, value, trace = err
        sys.stderr.write(f"{name}:\n")
        traceback.print_exception(kind, value, trace)
        frames = []
        for frame, line in traceback.walk_tb(trace):
            file = frame.f_code.co_filename
            if file.startswith(self.root):
                frames.append((file[len(self.root) :], line, frame.f_code.co_name))
        try:
            message = str(value)[:1000]
        except Exception:  # the exception's own `__str__` raises
            message = ""
        if len(frames) > 50:  # endless recursion
            frames = frames[:10] + frames[-40:]
        self.send(kind="failure", id=name, error=kind.__name__, message=message, frames=frames)


def covered(name, wanted):
    return any((name + "::").startswith(target + "::") for target in wanted)


def leave(status):
    """Exit as the interpreter does, but without tearing down every module, which takes time."""
    threads = sys.modules.get("threading")
    if threads is not None:
        threads._shutdown()  # waits for those that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or none, as a test left it
            continue
    os._exit(status)


if __name__ == "__main__":
    leave(main())

"""The test process inside a sandbox: runs pytest and reports each test over its own descriptor.

Its source is sent into the sandbox as text (`python3 -c`), so it uses nothing but the standard library and
the pytest of the image: Python 3.7 and pytest 6.2, or newer. It reads one JSON object from standard input:

    {"nonce": str, "targets": [str], "paths": [str], "plugins": [str], "options": [str], "profile": bool,
     "brief": bool, "cpu_s": int}

Its first argument is the source of watch.py, which may be missing. It writes JSON lines to the
descriptor named by DAYTHREE_REPORT_FD, each with the nonce, its number and the seconds since the first:
the plugins, the collected ids, the start of each test, its phases, its end, collection errors, and a last
line that says the session ended by itself. Standard output, exit codes and files are for people; nothing
reads them as evidence.

As a sandbox's template (`sandboxes.inside.template`) it loads pytest and the plugins named by its other
arguments, runs a small session that leaves nothing behind, does the first steps that all runs share, and
waits. Each fork goes on as a cold start does.
"""

import sys

sys.path[:] = [entry for entry in sys.path if entry]  # before 3.11, `-c` looks for modules in the tree first

import atexit  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import time  # noqa: E402

STEERED = ("addopts=", "required_plugins=", "strict_markers=false", "strict_config=false")
"""Settings of a project that name plugins which are not loaded here, or fail because of them."""


def main():
    watch, plugins = load_watch(sys.argv[1:2]), sys.argv[2:]
    del sys.argv[1:]
    if "DAYTHREE_TEMPLATE_FD" in os.environ:
        be_template(int(os.environ.pop("DAYTHREE_TEMPLATE_FD")), watch, plugins)  # returns in each fork
    request = json.loads(sys.stdin.buffer.read())
    # So much processor time for this process, and for each that it starts; then the kernel ends them.
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"] + 1))
    inherited = int(os.environ.pop("DAYTHREE_REPORT_FD"))
    channel = os.dup(inherited)  # os.dup gives a descriptor that child processes do not inherit
    os.close(inherited)
    root = os.getcwd()  # noqa: PTH109 (pathlib stays out: the fewer modules here, the fewer to shadow)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    pytest = load_pytest()
    reporter = Reporter(channel, request["nonce"], root, brief=request.get("brief", False))
    plugins = [reporter]
    if watch is not None:
        plugins.append(watch.PytestWatch(reporter.send, root + os.sep, request["profile"]))
    use_tree(request["paths"])
    options = [*NO_CACHE, "--rootdir", root, "-q", "--tb=native" if reporter.brief else "--tb=short"]
    for setting in STEERED:
        options += ["-o", setting]
    for plugin in request["plugins"]:
        options += ["-p", plugin]
    status = pytest.main([*options, *request["options"], *request["targets"]], plugins=plugins)
    reporter.send(kind="end", status=int(status), plugins=reporter.plugins())
    return int(status)


def load_watch(sources):
    """Run the source of watch.py, if given, as a module that no code can import."""
    for source in sources:
        watch = type(sys)("runner_watch")
        exec(source, vars(watch))
        return watch
    return None


def load_pytest():
    """Import all of pytest before the tree can shadow one of its modules."""
    import pdb  # noqa: F401 (pytest imports it late)

    try:
        import tomllib  # noqa: F401 (so it does this, where settings are in pyproject.toml)
    except ImportError:
        pass  # before 3.11
    import pytest
    from _pytest.config import default_plugins

    for name in default_plugins:
        __import__("_pytest." + name)
    return pytest


def be_template(descriptor, watch, plugins):
    """Do the work that all runs share, then wait to be forked; return in each fork."""
    import gc

    os.chdir("/")  # the disks are swapped under it, which may be at any time
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    pytest = load_pytest()
    failure = "never tried"
    for _ in range(WARM_UPS):  # for the same reason its folder may be gone
        failure = warm_up(pytest, plugins)
        if not failure:
            break
    else:  # a fork catches up on skipped preparations, only slower
        sys.stderr.write(f"the template ran no session: {failure}\n")
    if watch is not None:
        watch.remembered()
    try:
        prepare()
    except Exception as error:  # a pytest that is made in another way
        sys.stderr.write(f"the template has nothing prepared: {error!r}\n")
    known = frozenset(sys.modules)
    waiting = {}
    exec(os.read(descriptor, 1 << 18), waiting)
    gc.collect()
    gc.freeze()
    waiting["wait"](descriptor, known)


def prepare():
    """Configure pytest ahead of a run, which registers pytest's own plugins."""
    from pathlib import Path

    from _pytest import config

    make, made = config.get_config, config.get_config(NO_CACHE)

    def take(args=None, plugins=None, **_):
        config.get_config = make
        made.invocation_params = config.Config.InvocationParams(
            args=args or (), plugins=plugins, dir=Path.cwd()
        )
        return made

    config.get_config = take


class Slimming:
    """A plugin that limits `dir` of pytest's own plugins to names that pytest looks for: hooks and fixtures.

    Inspecting all other names, twice in each run, takes longer than a small test file.
    """

    def pytest_sessionfinish(self, session):
        for plugin in session.config.pluginmanager.get_plugins():
            is_module = isinstance(plugin, type(sys))
            holder = plugin if is_module else type(plugin)
            if (plugin.__name__ if is_module else holder.__module__).startswith("_pytest."):
                names = [name for name in dir(plugin) if is_wanted(name, getattr(holder, name, None))]
                setattr(holder, "__dir__", names.copy if is_module else lambda _, names=names: names.copy())  # noqa: B010


def is_wanted(name, value):
    """Whether this is a hook, or a fixture for pytest before or since version 8.4."""
    return (
        name.startswith("pytest_")
        or type(value).__name__ == "FixtureFunctionDefinition"
        or hasattr(value, "_pytestfixturefunction")
    )


NO_CACHE = ["-p", "no:cacheprovider"]
WARM_UPS = 3
SMALL_SESSION = """
import pytest
import unittest


@pytest.fixture
def number():
    return 1


@pytest.mark.parametrize("other", [1])
def test_it(number, other):
    assert number == other


@pytest.mark.xfail
def test_what_fails(number):
    with pytest.raises(ValueError):
        int("one")
    assert [number] == [2]


class Tests(unittest.TestCase):
    @unittest.expectedFailure
    def test_it(self):
        self.assertEqual([1], [2])
"""


def warm_up(pytest, plugins):
    """Run a session of one test in a temporary folder, and remove its traces; return an error text."""
    import importlib.util
    import shutil
    import tempfile

    found = [name for name in plugins if importlib.util.find_spec(name.partition(".")[0])]
    options = [word for name in found for word in ("-p", name)]
    path, before = list(sys.path), dict(os.environ)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    folder = tempfile.mkdtemp(dir="/dev/shm")  # no folder above it is a project's
    try:
        with open(folder + "/test_template.py", "w") as file:  # noqa: PTH123
            file.write(SMALL_SESSION)
        options += [*NO_CACHE, "--rootdir", folder, "-q", folder]
        status = pytest.main(options, plugins=[Reporter(nowhere, "", folder), Slimming()])
        return "" if status == 0 else f"it ended with {status!r}"
    except Exception as error:
        return repr(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(nowhere)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(before)
        forget(folder)


def forget(folder):
    """Drop caches about a folder's files."""
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(folder):
            del sys.modules[name]
        elif isinstance(module, type(sys)):
            vars(module).pop("__warningregistry__", None)
    for place in [entry for entry in sys.path_importer_cache if entry.startswith(folder)]:
        del sys.path_importer_cache[place]
    if "linecache" in sys.modules:
        sys.modules["linecache"].clearcache()


def use_tree(paths):
    """Make tests, and the processes they start, import from the tree, as an editable install would.

    Where the project is a library that pytest itself uses (pluggy, attrs, packaging), pytest keeps the copy
    it has, and the tests import the tree's.
    """
    for name in {name.partition(".")[0] for name in sys.modules}:
        if (
            name not in ("pytest", "_pytest")
            and is_installed(sys.modules.get(name))
            and provides(paths, name)
        ):
            for module in [other for other in sys.modules if (other + ".").startswith(name + ".")]:
                del sys.modules[module]
    sys.path[:0] = paths
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, inherited] if inherited else paths)
    os.environ.pop("PYTHONSAFEPATH", None)  # set for this process only


def is_installed(module):
    """Whether a module is neither built in nor part of the standard library."""
    file = getattr(module, "__file__", None)
    if not file:
        return False
    folder, name = os.path.split(file)
    if name.startswith("__init__."):
        folder = os.path.dirname(folder)  # noqa: PTH120
    return folder != os.path.dirname(os.__file__) and "lib-dynload" not in folder  # noqa: PTH120


def provides(paths, name):
    places = [os.path.join(path, name) for path in paths]  # noqa: PTH118
    return any(os.path.isfile(place + end) for place in places for end in (".py", "/__init__.py"))  # noqa: PTH113


class Reporter:
    """A pytest plugin that reports the events of each test as they happen."""

    manager = None  # pytest's, of plugins

    def __init__(self, channel, nonce, root, *, brief=False):
        self.channel, self.nonce, self.root, self.brief = channel, nonce, root + os.sep, brief
        # Bound now: code under test may replace a module's attributes, and put them back only later.
        self.write, self.encode = os.write, json.JSONEncoder(ensure_ascii=True).encode
        self.clock, self.process, self.pid = time.perf_counter, os.getpid, os.getpid()
        self.number, self.began = 0, self.clock()

    def send(self, **fields):
        if self.process() != self.pid:
            return  # a test forked, and its child came back into the session
        seconds = round(self.clock() - self.began, 6)
        line = {"nonce": self.nonce, "n": self.number, "t": seconds, **fields}
        self.number += 1
        line = self.encode(line).encode() + b"\n"
        while line:
            line = line[self.write(self.channel, line) :]

    def plugins(self):
        """Name, module and file (of the tree, or empty) of the plugins that are not pytest's own."""
        found = []
        for name, plugin in self.manager.list_name_plugin() if self.manager else ():
            is_module = isinstance(plugin, type(sys))
            owner = plugin if isinstance(plugin, type) else type(plugin)
            module = plugin.__name__ if is_module else owner.__module__
            if (
                plugin is None
                or plugin is self
                or module.partition(".")[0] in ("_pytest", "pytest", "pluggy")
            ):
                continue
            file = getattr(plugin if is_module else sys.modules.get(module), "__file__", None) or ""
            inside = file[len(self.root) :] if file.startswith(self.root) else ""
            if is_module or inside:
                found.append((str(name), module, inside))
        return found

    def declared(self):
        """Plugins that the loaded plugins request through `pytest_plugins`."""
        names = []
        for plugin in self.manager.get_plugins() if self.manager else ():
            asked = getattr(plugin, "pytest_plugins", ()) if isinstance(plugin, type(sys)) else ()
            names += asked.split(",") if isinstance(asked, str) else asked
        return [str(name) for name in names]

    def pytest_sessionstart(self):
        self.send(kind="session", plugins=self.plugins(), declared=self.declared())

    def pytest_collection_finish(self, session):
        self.send(kind="collected", ids=[item.nodeid for item in session.items], declared=self.declared())

    def pytest_runtest_logstart(self, nodeid):
        self.send(kind="start", id=nodeid)

    def pytest_addoption(self, parser):
        self.parser = parser

    def pytest_configure(self, config):
        """Know the settings and marks of plugins that are not loaded: a project may make warnings errors."""
        self.manager = config.pluginmanager
        config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnknownMarkWarning")
        for name in getattr(config, "_get_unknown_ini_keys", list)():
            self.parser.addini(name, "of a plugin that is not loaded")

    def pytest_collectreport(self, report):
        if report.failed:
            self.send(kind="collect", id=report.nodeid, message=str(report.longrepr)[-2000:])

    def pytest_runtest_setup(self, item):
        if self.brief:  # pytest's traceback is not read, and takes longer than the test
            item.repr_failure = in_one_line

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo is not None and call.excinfo.type.__name__ not in ("Skipped", "SkipTest"):
            self.send(kind="failure", id=item.nodeid, **describe(call.excinfo, self.root))

    def pytest_runtest_logreport(self, report):
        if type(report).__name__.lower() == "subtestreport":
            if report.outcome == "failed":
                self.send(kind="part", id=report.nodeid, outcome="failed")
        elif report.when == "call" or report.outcome != "passed":
            self.send(kind="phase", id=report.nodeid, when=report.when, outcome=outcome_of(report))

    def pytest_runtest_logfinish(self, nodeid):
        self.send(kind="finish", id=nodeid)


def in_one_line(excinfo, **_):
    return excinfo.exconly()


def outcome_of(report):
    """Return a phase's outcome; only a plain pass is `passed`."""
    if hasattr(report, "wasxfail"):
        return "xpassed" if report.outcome == "passed" else "xfailed"
    return report.outcome


def describe(excinfo, root):
    """Return an exception as type, message and the frames inside the project, outermost first."""
    frames, trace = [], excinfo.tb  # not excinfo.traceback, which looks for each frame's file on disk
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(root):
            frames.append((code.co_filename[len(root) :], trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    try:
        message = str(excinfo.value)[:1000]
    except Exception:  # the exception's own `__str__` raises
        message = ""
    if len(frames) > 50:  # endless recursion
        frames = frames[:10] + frames[-40:]
    return {"error": excinfo.type.__name__, "message": message, "frames": frames}


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

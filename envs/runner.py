"""The test process inside a sandbox: runs pytest and reports each test over a descriptor of its own.

Its source is sent into the sandbox as text (`python3 -P -c`), so it uses nothing but the standard
library and the pytest of the image. It reads one JSON object from standard input:

    {"nonce": str, "targets": [str], "plugins": [str], "paths": [str]}

and writes JSON lines to the descriptor named by DAYTHREE_REPORT_FD, each with the nonce: one per test and
phase worth telling, one per collection error, and a last one that says the session ended by itself.
Standard output, exit codes and files are for people; nothing reads them as evidence.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> int:
    request = json.loads(sys.stdin.buffer.read())
    inherited = int(os.environ.pop("DAYTHREE_REPORT_FD"))
    channel = os.dup(inherited)  # os.dup gives a descriptor that child processes do not inherit
    os.close(inherited)
    sys.path[:0] = request["paths"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import pytest

    root = os.getcwd()  # noqa: PTH109 (pathlib stays out: the fewer modules here, the fewer to shadow)
    reporter = Reporter(channel, request["nonce"], root)
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "--rootdir", root, "-q", "--tb=short"]
    for plugin in request["plugins"]:
        options += ["-p", plugin]
    status = pytest.main([*options, *request["targets"]], plugins=[reporter])
    reporter.send(kind="end", status=int(status))
    return int(status)


class Reporter:
    """A pytest plugin that says what happened to each test, as it happens."""

    def __init__(self, channel, nonce, root):
        self.channel, self.nonce, self.root = channel, nonce, root + os.sep
        self.write = os.write  # bound now: code under test may replace module attributes later

    def send(self, **fields):
        line = json.dumps({"nonce": self.nonce, **fields}, ensure_ascii=True).encode() + b"\n"
        while line:
            line = line[self.write(self.channel, line) :]

    def pytest_collectreport(self, report):
        if report.failed:
            self.send(kind="collect", id=report.nodeid, message=str(report.longrepr)[-2000:])

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo is not None and call.excinfo.type.__name__ != "Skipped":
            self.send(kind="failure", id=item.nodeid, **describe(call.excinfo, self.root))

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.send(kind="phase", id=report.nodeid, when=report.when, outcome=outcome_of(report))

    def pytest_runtest_logfinish(self, nodeid):
        self.send(kind="finish", id=nodeid)


def outcome_of(report):
    """Name a phase's outcome; only a plain pass is `passed`."""
    if hasattr(report, "wasxfail"):
        return "xpassed" if report.outcome == "passed" else "xfailed"
    return report.outcome


def describe(excinfo, root):
    """Return an exception as type, message and the frames inside the project, outermost first."""
    frames = [
        (str(entry.path)[len(root) :], entry.lineno + 1, entry.frame.code.name)
        for entry in excinfo.traceback
        if str(entry.path).startswith(root)
    ]
    return {"error": excinfo.type.__name__, "message": str(excinfo.value)[:1000], "frames": frames}


if __name__ == "__main__":
    raise SystemExit(main())

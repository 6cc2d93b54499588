"""A pytest plugin that records which files of the tree are opened or imported, and by whose code.

The plugin is copied into a sandbox, so only the standard library is imported. The asker of a file is the
innermost frame of the tree's code at that moment; without one, the test framework asked. A module is
recorded when its source is read, which happens once. The output is a JSON object: path to sorted askers,
`""` for the framework.
"""

from __future__ import annotations

import json
import os
import sys

OUTPUT = "used.json"
_here = os.path.dirname(__file__)  # noqa: PTH120
_root = os.getcwd() + os.sep  # noqa: PTH109 (a sandbox's working directory)
_used = {}
_busy = []


def _hook(event, arguments):
    if event == "open" and not _busy and isinstance(arguments[0], (str, bytes)):
        _busy.append(1)  # what follows may open files, too
        try:
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith(_root) and not path.startswith(_here):
                _used.setdefault(path[len(_root) :], set()).add(_asker())
        finally:
            _busy.pop()


def _asker():
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_root) and not file.startswith(_here):
            return file[len(_root) :]
        frame = frame.f_back
    return ""


if __name__ == "daythree_using":  # its name in a sandbox; an audit hook can never be removed
    sys.addaudithook(_hook)


def pytest_sessionfinish():
    _busy.append(1)
    with open(os.path.join(_here, OUTPUT), "w") as file:  # noqa: PTH118, PTH123
        json.dump({path: sorted(askers) for path, askers in _used.items()}, file)

"""A pytest plugin that records which of the project's functions each test and each function calls.

The plugin is copied into a sandbox, so only the standard library and pytest are imported. Calls are traced,
not lines. Calls during collection count under the empty test id. The output is one JSON object:

    {"tests": {test: [function]}, "steps": {caller: [function]}, "seconds": {test: seconds}}
"""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

# ruff: noqa: ARG001 (pytest gives arguments by name)

OUTPUT = "calls.json"
_root = os.getcwd() + os.sep  # noqa: PTH109 (a sandbox's working directory)
_calls = {"": set()}
_current = _calls[""]
_steps = {}
_seconds = {}
_ours = {}


def _watch(frame, event, _argument):
    if event == "call":
        code = frame.f_code
        _current.add(code)
        if _is_ours(code):
            caller = frame.f_back
            while caller is not None and not _is_ours(caller.f_code):
                caller = caller.f_back
            if caller is not None:
                _steps.setdefault(caller.f_code, set()).add(code)


def _is_ours(code):
    found = _ours.get(code.co_filename)
    if found is None:
        found = _ours[code.co_filename] = code.co_filename.startswith(_root)
    return found


def pytest_configure(config):
    sys.settrace(_watch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    global _current  # noqa: PLW0603 (the trace function sees one name only)
    _current = _calls.setdefault(item.nodeid, set())
    started = time.perf_counter()
    sys.settrace(_watch)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        _seconds[item.nodeid] = time.perf_counter() - started
        _current = _calls[""]


def pytest_sessionfinish(session):
    sys.settrace(None)
    found = {
        "tests": {test: _names(codes) for test, codes in _calls.items()},
        "steps": {},
        "seconds": _seconds,
    }
    for caller, codes in _steps.items():
        name = _name(caller)
        if name:
            found["steps"][name] = sorted({*found["steps"].get(name, ()), *_names(codes)})
    with open(os.path.join(os.path.dirname(__file__), OUTPUT), "w") as file:  # noqa: PTH118, PTH120, PTH123
        json.dump(found, file)


def _names(codes):
    return sorted({name for code in codes if (name := _name(code))})


def _name(code):
    """Return `path::Class.method` for a function of the project, else an empty string."""
    path = code.co_filename
    if not path.startswith(_root):
        return ""
    parts = [part for part in code.co_qualname.split(".") if not part.startswith("<")]
    return f"{path[len(_root) :]}::{'.'.join(parts)}" if parts else ""

"""A pytest plugin that writes down which functions of the project each test calls.

Its source is laid into a sandbox as a file, so it uses the standard library and pytest only. Only calls
are watched, not lines. Calls made while files are collected count under the empty id.
"""

from __future__ import annotations

import json
import os
import sys

import pytest

# ruff: noqa: ARG001 (pytest gives arguments by name)

OUTPUT = "calls.json"
_root = os.getcwd() + os.sep  # noqa: PTH109 (a sandbox's working directory)
_calls = {"": set()}
_current = _calls[""]


def _watch(frame, event, _argument):
    if event == "call":
        _current.add(frame.f_code)


def pytest_configure(config):
    sys.settrace(_watch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    global _current  # noqa: PLW0603 (the trace function sees one name only)
    _current = _calls.setdefault(item.nodeid, set())
    sys.settrace(_watch)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        _current = _calls[""]


def pytest_sessionfinish(session):
    sys.settrace(None)
    found = {
        test: sorted({name for code in codes if (name := _name(code))}) for test, codes in _calls.items()
    }
    with open(os.path.join(os.path.dirname(__file__), OUTPUT), "w") as file:  # noqa: PTH118, PTH120, PTH123
        json.dump(found, file)


def _name(code):
    """`path::Class.method` of a function of the project, else an empty string."""
    path = code.co_filename
    if not path.startswith(_root):
        return ""
    parts = [part for part in code.co_qualname.split(".") if not part.startswith("<")]
    return f"{path[len(_root) :]}::{'.'.join(parts)}" if parts else ""

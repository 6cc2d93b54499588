"""Find the third-party distributions that code uses: imported modules, pytest fixtures and marks.

A fixed list maps names to distributions. A name outside the list is never requested from an index, since the
package of that name may be unrelated.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from .declared import canonical
from .syntax import parse

_DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "jwt": "pyjwt",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "pytest_httpbin": "pytest-httpbin",
    "requests_mock": "requests-mock",
    "serial": "pyserial",
    "socks": "pysocks",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
    "docx": "python-docx",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "time_machine": "time-machine",
    "typing_extensions": "typing-extensions",
    "importlib_metadata": "importlib-metadata",
    "importlib_resources": "importlib-resources",
}
_SAME_NAME = frozenset(
    {
        "aiohttp",
        "anyio",
        "attrs",
        "babel",
        "blinker",
        "certifi",
        "chardet",
        "click",
        "colorama",
        "coverage",
        "ddt",
        "docutils",
        "faker",
        "flask",
        "freezegun",
        "httpbin",
        "httpx",
        "hypothesis",
        "idna",
        "iso8601",
        "jinja2",
        "jsonschema",
        "lxml",
        "markdown",
        "markupsafe",
        "mock",
        "msgpack",
        "nose",
        "numpy",
        "orjson",
        "pandas",
        "parameterized",
        "psutil",
        "pydantic",
        "pyfakefs",
        "pygments",
        "pytz",
        "requests",
        "responses",
        "rich",
        "setuptools",
        "simplejson",
        "six",
        "sqlalchemy",
        "tabulate",
        "testfixtures",
        "toml",
        "tomli",
        "testscenarios",
        "tornado",
        "trio",
        "trustme",
        "tzdata",
        "tzlocal",
        "ujson",
        "urllib3",
        "webob",
        "werkzeug",
        "wheel",
    }
)
_FIXTURES = {
    "mocker": "pytest-mock",
    "httpbin": "pytest-httpbin",
    "httpserver": "pytest-httpserver",
    "requests_mock": "requests-mock",
    "httpx_mock": "pytest-httpx",
    "freezer": "pytest-freezer",
    "subtests": "pytest-subtests",
    "datadir": "pytest-datadir",
    "fs": "pyfakefs",
}
_MARKS = {"asyncio": "pytest-asyncio", "trio": "pytest-trio"}
_OPTIONAL = frozenset({"ImportError", "ModuleNotFoundError", "Exception"})


def distribution_of(module: str) -> str:
    """Return the distribution that provides a module (`yaml` gives `pyyaml`), or an empty string."""
    return _DISTRIBUTIONS.get(module) or (module if module in _SAME_NAME else "")


def modules_of(distribution: str) -> frozenset[str]:
    """Return the likely module names of a distribution: its canonical name, and the fixed list's names."""
    known = {module for module, name in _DISTRIBUTIONS.items() if name == canonical(distribution)}
    return frozenset({canonical(distribution).replace("-", "_"), *known})


@lru_cache(maxsize=8192)
def modules_in(data: bytes, *, optional: bool = False) -> frozenset[str]:
    """Return the top-level module names that a file imports.

    `optional` includes imports in a `try` that handles ImportError.
    """
    module = parse(data)
    return frozenset(_imports(module, optional)) if module else frozenset()


@lru_cache(maxsize=8192)
def plugins_in(data: bytes) -> frozenset[str]:
    """Return the distributions of the pytest fixtures and marks that a test file uses but does not define."""
    module = parse(data)
    used: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(module) if module else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            defined.add(node.name)
            if node.name.startswith("test") or node.decorator_list:
                used |= {argument.arg for argument in node.args.args}
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "mark"
        ):
            used.add(f"mark.{node.attr}")
    found = {name for fixture, name in _FIXTURES.items() if fixture in used - defined}
    return frozenset(found | {name for mark, name in _MARKS.items() if f"mark.{mark}" in used})


def _imports(node: ast.AST, optional: bool) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.module and not node.level:
            yield node.module.split(".")[0]
    else:
        # The body and handlers of an optional import are skipped; `else` and `finally` always run.
        spared = isinstance(node, ast.Try) and _is_optional(node) and not optional
        skipped = [*node.body, *node.handlers] if isinstance(node, ast.Try) and spared else []
        for child in ast.iter_child_nodes(node):
            if child not in skipped:
                yield from _imports(child, optional)


def _is_optional(node: ast.Try) -> bool:
    names = {
        part.id
        for handler in node.handlers
        for part in ast.walk(handler.type or ast.Name("ImportError"))
        if isinstance(part, ast.Name)
    }
    return bool(names & _OPTIONAL)

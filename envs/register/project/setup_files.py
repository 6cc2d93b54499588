"""Read the declarations of `setup.py`, `setup.cfg`, `tox.ini` and requirements files.

`setup.py` never runs: `setup_script` reads the literals in its syntax tree.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from envs.tasksets.trees import Tree

from .declared import Declared, merged, without_pin, without_url
from .setup_script import from_setup_script

_TEST_FILE = re.compile(
    r"(?:test|tests|testing)[-_.]requirements\.(?:txt|in)|requirements[-_.](?:test|tests|testing)\.(?:txt|in)"
    r"|(?:.*/)?requirements/(?:test|tests|testing)\.(?:txt|in)|tests?/requirements\.(?:txt|in)"
    r"|tests?/requirements[-_]tests?\.txt"
)
_DEVELOPMENT_FILE = re.compile(
    r"(?:dev|develop|development)[-_.]requirements\.(?:txt|in)|requirements[-_.](?:dev|develop|development)\.(?:txt|in)"
    r"|requirements/(?:dev|develop|development|local|ci)\.(?:txt|in)|requirements[-_]ci\.txt|requirements\.txt"
)
_NOT_RUNTIME = re.compile(
    r"(?:^|[-_./])(?:tests?|testing|dev\w*|docs?|lint|ci|build|optional|extras?)(?=[-_./])"
)
_PYTHON_3 = re.compile(r"py3|py\{?[\d,]*3|tests?\b")


def from_setup_files(tree: Tree) -> Declared:
    """Read all of these files into one `Declared`."""
    script = from_setup_script(tree["setup.py"].data) if "setup.py" in tree else Declared()
    parts = [script, *_from_setup_cfg(tree), *_from_tox(tree), *_from_requirement_files(tree)]
    found = merged(parts)
    return merged([_read_by_code(tree, script), found]) if found.computed else found


def _read_by_code(tree: Tree, script: Declared) -> Declared:
    """Read the requirement files named in `setup.py`, whose code reads them, or else `requirements.txt`."""
    named = [path for path in script.named if path in tree and "require" in path] or ["requirements.txt"]
    runtime, development = list[str](), list[str]()
    for path in named:
        (development if _NOT_RUNTIME.search(path) else runtime).extend(lines_of(tree, path))
    return Declared(runtime=tuple(runtime), development=tuple(development))


def _from_setup_cfg(tree: Tree) -> Iterable[Declared]:
    parser = _parsed(tree, "setup.cfg")
    if parser is None:
        return
    extras: dict[str, tuple[str, ...]] = {}
    if parser.has_section("options.extras_require"):
        for extra, text in parser.items("options.extras_require"):
            extras[extra.lower()] = tuple(_lines(text))
    folders = [line.partition("=") for line in _lines(_get(parser, "options", "package_dir"))]
    yield Declared(
        name=_get(parser, "metadata", "name").strip(),
        python=(
            _get(parser, "options", "python_requires") or _get(parser, "metadata", "requires-python")
        ).strip(),
        classifiers=tuple(
            _lines(_get(parser, "metadata", "classifiers") + _get(parser, "metadata", "classifier"))
        ),
        root=next((folder.strip() for package, _, folder in folders if not package.strip()), ""),
        runtime=(
            *_lines(_get(parser, "options", "install_requires")),
            *_lines(_get(parser, "metadata", "requires-dist")),
        ),
        tests=tuple(_lines(_get(parser, "options", "tests_require"))),
        extras=extras,
    )
    yield _environments(tree, parser)


def _from_tox(tree: Tree) -> Iterable[Declared]:
    parser = _parsed(tree, "tox.ini")
    if parser is not None:
        yield _environments(tree, parser)


def _environments(tree: Tree, parser: configparser.ConfigParser) -> Declared:
    """Read what tox installs for tests, without lines for Python 2 or for other versions of a dependency."""
    tests: list[str] = []
    asked: set[str] = set()
    for section in ("testenv", "testenv:test", "testenv:tests", "testenv:py3"):
        for line in _lines(_resolved(parser, _get(parser, section, "deps"))):
            factor = re.match(r"([\w{},!.-]+)\s*:\s+(.*)", line)
            if factor and not _PYTHON_3.search(factor[1]):
                continue
            tests += _installed(tree, factor[2] if factor else line, asked)
        for key in ("extras", "dependency_groups"):
            asked |= {name.lower() for name in re.split(r"[\s,]+", _get(parser, section, key)) if name}
    return Declared(tests=tuple(tests), asked=frozenset(asked))


def _installed(tree: Tree, line: str, asked: set[str]) -> Iterable[str]:
    """Expand a pip argument (`-r FILE`, `-e .[test]`, `six>=1`) to requirements.

    Extras of the project itself are added to `asked`.
    """
    file = re.match(r"(?:-r|--requirement)[\s=]*(.+)", line)
    if file:
        path = file[1].strip().replace("{toxinidir}", ".").replace("{tox_root}", ".")
        return lines_of(tree, PurePosixPath(path).as_posix())
    own = re.match(r"(?:-e\s*|--editable\s*)?(?:\.|\{toxinidir\}|\{tox_root\})/?\[([^\]]+)\]", line)
    if own:
        asked |= {extra.strip().lower() for extra in own[1].split(",")}
    return _requirement(line)


def _resolved(parser: configparser.ConfigParser, text: str) -> str:
    """Substitute references to values of other sections, such as `{[base]deps}`, up to three levels deep."""
    for _ in range(3):
        text = re.sub(r"\{\[([^\]]+)\](\w+)\}", lambda match: "\n" + _get(parser, match[1], match[2]), text)
    return text


def _from_requirement_files(tree: Tree) -> Iterable[Declared]:
    for path in sorted(tree):
        if path.endswith(".txt") and path.removesuffix(".txt") + ".in" in tree:
            continue  # compiled from the .in file, with pins
        if _TEST_FILE.fullmatch(path):
            yield Declared(tests=tuple(lines_of(tree, path)))
        elif _DEVELOPMENT_FILE.fullmatch(path):
            yield Declared(development=tuple(lines_of(tree, path)))


def lines_of(tree: Tree, path: str, *, seen: frozenset[str] = frozenset()) -> Iterable[str]:
    """Yield the requirements of a file and of the files that `-r` lines include, without exact versions."""
    path = _tidy(path)
    if path not in tree or path in seen:
        return
    text = re.sub(r"\\\r?\n", " ", tree[path].data.decode("utf-8", "replace"))
    for line in _lines(text):
        file = re.match(r"(?:-r|--requirement)[\s=]*(\S+)", line)
        if file:
            inner = (PurePosixPath(path).parent / file[1]).as_posix()
            yield from lines_of(tree, inner, seen=seen | {path})
        else:
            yield from map(without_pin, _requirement(line))


def _requirement(line: str) -> list[str]:
    line = without_url(re.sub(r"\s+--hash[=\s].*", "", line).strip())
    if line.startswith(("-", ".", "{", "/")) or "://" in line:
        return []
    return [line]


def _tidy(path: str) -> str:
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == ".." and parts:
            parts.pop()
        elif part not in (".", ".."):
            parts.append(part)
    return "/".join(parts)


def _parsed(tree: Tree, path: str) -> configparser.ConfigParser | None:
    if path not in tree:
        return None
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(tree[path].data.decode("utf-8", "replace"))
    except configparser.Error:
        return None
    return parser


def _get(parser: configparser.ConfigParser, section: str, key: str) -> str:
    return parser.get(section, key, fallback="") or ""


def _lines(text: str) -> list[str]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def tool_settings(tree: Tree) -> Mapping[str, str]:
    """Return the pytest section of the first file that has one: `pytest.ini`, `tox.ini`, `setup.cfg`."""
    for path, section in (("pytest.ini", "pytest"), ("tox.ini", "pytest"), ("setup.cfg", "tool:pytest")):
        parser = _parsed(tree, path)
        if parser is not None and parser.has_section(section):
            return dict(parser.items(section))
    return {}

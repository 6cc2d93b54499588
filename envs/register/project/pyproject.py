"""Read `pyproject.toml`: the standard tables, and the tables of tools that preceded the standard.

PEP 621 (`project`), PEP 735 (`dependency-groups`), and the tables of Poetry, Flit, PDM, Hatch and uv.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .declared import Declared, merged


def from_pyproject(settings: Mapping[str, Any]) -> Declared:
    """Read every known table of a parsed `pyproject.toml` into one `Declared`."""
    return merged([_standard(settings), _poetry(settings), _flit(settings), _tools(settings)])


def at(settings: Mapping[str, Any], *keys: str) -> Any:
    """Return the value at a path of keys, such as `at(settings, "project", "name")`, or None."""
    value: Any = settings
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _standard(settings: Mapping[str, Any]) -> Declared:
    project = _table(settings, "project")
    groups = _table(settings, "dependency-groups")
    extras = {
        name.lower(): _strings(lines) for name, lines in _table(project, "optional-dependencies").items()
    }
    for group in groups:
        lines = tuple(_group(groups, group, seen=set()))
        extras[group.lower()] = (*extras.get(group.lower(), ()), *lines)
    where = at(settings, "tool", "setuptools", "packages", "find", "where")
    return Declared(
        name=_text(project.get("name")),
        python=_text(project.get("requires-python")),
        classifiers=_strings(project.get("classifiers")),
        root=_text(at(settings, "tool", "setuptools", "package-dir", "")) or next(iter(_strings(where)), ""),
        runtime=_strings(project.get("dependencies")),
        extras=extras,
        computed="dependencies" in _strings(project.get("dynamic")),
    )


def _group(groups: Mapping[str, Any], name: str, *, seen: set[str]) -> Iterable[str]:
    seen.add(name)
    for line in groups.get(name) or ():
        if isinstance(line, str):
            yield line
        elif isinstance(line, Mapping) and line.get("include-group") not in {*seen, None}:
            yield from _group(groups, line["include-group"], seen=seen)


def _poetry(settings: Mapping[str, Any]) -> Declared:
    poetry = _table(settings, "tool", "poetry")
    needs = _table(poetry, "dependencies")
    optional = {name for name, value in needs.items() if isinstance(value, Mapping) and value.get("optional")}
    lines = {name: line for name, value in needs.items() for line in _poetry_lines(name, value)}
    extras = {"dev": tuple(_poetry_table(_table(poetry, "dev-dependencies")))}
    for group, table in _table(poetry, "group").items():
        found = tuple(_poetry_table(_table(table, "dependencies")))
        extras[group.lower()] = (*extras.get(group.lower(), ()), *found)
    for extra, names in _table(poetry, "extras").items():
        extras[extra.lower()] = tuple(lines.get(name, name) for name in _strings(names))
    return Declared(
        name=_text(poetry.get("name")),
        python=poetry_specifier(needs.get("python")),
        classifiers=_strings(poetry.get("classifiers")),
        runtime=tuple(line for name, line in lines.items() if name not in optional and name != "python"),
        extras={name: found for name, found in extras.items() if found},
    )


def _poetry_table(table: Mapping[str, Any]) -> Iterable[str]:
    for name, value in table.items():
        if name != "python":
            yield from _poetry_lines(name, value)


def _poetry_lines(name: str, value: Any) -> Iterable[str]:
    """Translate a Poetry requirement to PEP 508: `attrs = "^21.2"` gives `attrs>=21.2,<22`.

    A list of constraints gives one line per entry.
    """
    for constraint in value if isinstance(value, list) else [value]:
        table = constraint if isinstance(constraint, Mapping) else {}
        extras = ",".join(_strings(table.get("extras")))
        markers = [_text(table.get("markers"))] if table.get("markers") else []
        if table.get("python"):
            markers += [_marker(part) for part in poetry_specifier(table["python"]).split(",") if part]
        version = poetry_specifier(table.get("version") if table else constraint)
        yield f"{name}{f'[{extras}]' if extras else ''}{version}" + (
            f"; {' and '.join(markers)}" if markers else ""
        )


def _marker(part: str) -> str:
    match = re.match(r"([<>=!~]+)\s*(\S+)", part.strip())
    return f'python_version {match[1]} "{match[2]}"' if match else 'python_version >= "2"'


def poetry_specifier(value: Any) -> str:
    """Translate Poetry's version constraint: `^3.8` gives `>=3.8,<4`; the last `||` alternative counts."""
    text = value.split("||")[-1] if isinstance(value, str) else ""
    parts = []
    for part in re.split(r"\s*,\s*|\s+(?=[<>=!~^])", text.strip()):
        match = re.fullmatch(r"([\^~])\s*(\d+(?:\.\d+)*)\S*", part)
        if match:
            parts.append(_caret(match[1], match[2]))
        elif re.fullmatch(r"\d[\w.*]*", part):
            parts.append(f"=={part}")
        elif re.match(r"[<>=!]", part):
            parts.append(re.sub(r"\s+", "", part))
        elif part.startswith("~="):
            parts.append(part)
    return ",".join(parts)


def _caret(sign: str, version: str) -> str:
    """`^` keeps the first number that is not 0, `~` the second: https://python-poetry.org/docs/dependency-specification"""
    numbers = [int(part) for part in version.split(".")]
    if sign == "~":
        kept = min(2, len(numbers))
    else:
        kept = next((place for place, number in enumerate(numbers, 1) if number), len(numbers))
    above = [*numbers[: kept - 1], numbers[kept - 1] + 1]
    return f">={version},<{'.'.join(map(str, above))}"


def _flit(settings: Mapping[str, Any]) -> Declared:
    metadata = _table(settings, "tool", "flit", "metadata")
    extras = _table(metadata, "requires-extra")
    return Declared(
        name=_text(metadata.get("dist-name")) or _text(metadata.get("module")),
        python=_text(metadata.get("requires-python")),
        classifiers=_strings(metadata.get("classifiers")),
        runtime=_strings(metadata.get("requires")),
        extras={name.lower(): _strings(lines) for name, lines in extras.items()},
    )


def _tools(settings: Mapping[str, Any]) -> Declared:
    """Read the development and test requirements of the PDM, uv, Hatch and tox tables."""
    extras = {
        name.lower(): _strings(lines)
        for name, lines in _table(settings, "tool", "pdm", "dev-dependencies").items()
    }
    tests: list[str] = []
    asked: set[str] = set()
    development = [*_strings(at(settings, "tool", "uv", "dev-dependencies"))]
    for name, table in _table(settings, "tool", "hatch", "envs").items():
        lines = [*_strings(at(table, "dependencies")), *_strings(at(table, "extra-dependencies"))]
        if name in ("test", "tests", "testing", "hatch-test"):
            tests += lines
            asked |= {extra.lower() for extra in _strings(at(table, "features"))}
        elif name in ("default", "dev"):
            development += lines
            asked |= {extra.lower() for extra in _strings(at(table, "features")) if "doc" not in extra}
    tests += _strings(at(settings, "tool", "tox", "env_run_base", "deps"))
    return Declared(tests=tuple(tests), development=tuple(development), extras=extras, asked=frozenset(asked))


def _table(settings: Any, *keys: str) -> Mapping[str, Any]:
    found = at(settings, *keys) if isinstance(settings, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

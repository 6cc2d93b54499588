"""Move modules to new file names and rewrite their imports.

A module moves only when imports and prose are the only references: no string, attribute or configuration
file contains the module's name or path. Prose is rewritten. The module stays in its folder, beside the data
files that its code may open.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath

from envs.tasksets.trees import Tree, TreeFile, is_text

from .source import Edit, Source, checked, docstrings, edited
from .survey import Survey, is_prose

_FROM = re.compile(rb"from\s+([.\w]+)\s+import\b")


def movable(found: Survey, trees: Sequence[Tree], roots: Collection[str]) -> set[str]:
    """Return the paths of modules that can be renamed and exist in every tree.

    `roots` are the folders that absolute imports start from, such as `src`.
    """
    if found.dynamic:
        return set()
    everywhere = set.intersection(*map(set, trees))
    chained = {path for file, source in _every(found) for path in _imported_whole(file, source, roots)}
    texts = {file.data.decode() for tree in trees for path, file in tree.items() if _is_fixed(path, file)}
    references = "\n".join(sorted(texts | found.literals))
    return {
        path
        for path in found.product
        if path in everywhere and path not in chained and _is_private(PurePosixPath(path), found, references)
    }


def _is_fixed(path: str, entry: TreeFile) -> bool:
    """Whether a file is text that is neither code nor prose: references in it cannot be rewritten."""
    return not path.endswith(".py") and is_text(entry.data) and not is_prose(path, entry)


def _is_private(path: PurePosixPath, found: Survey, references: str) -> bool:
    """Whether a module is in a package and only imports can refer to that module."""
    stem = path.stem
    if not path.parent.name or stem.startswith("__"):
        return False
    if stem in found.attributes | found.literals | found.settings:
        return False
    return not re.search(rf"(?<!\w){re.escape(stem)}\.py\b|(?<=[\w.])[./]{re.escape(stem)}(?!\w)", references)


def _every(found: Survey) -> Iterator[tuple[str, Source]]:
    return ((path, source) for path, versions in found.python.items() for source in versions)


def _imported_whole(path: str, source: Source, roots: Collection[str]) -> Iterator[str]:
    """Yield modules imported as `import a.b`: uses such as `a.b.f()` would need rewriting too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname is None and "." in alias.name:
                    yield from _places(alias.name.split("."), 0, path, roots)


def moved_path(path: str, new_stem: str) -> str:
    """Return the new path of a module: same folder, new stem."""
    return str(PurePosixPath(path).with_name(f"{new_stem}.py"))


def rewrite_imports(path: str, source: Source, moves: Mapping[str, str], roots: Collection[str]) -> bytes:
    """Rewrite a file's imports of moved modules.

    `path` is the file's old path; `moves` maps old to new paths: `{"src/a/old.py": "src/a/old_part.py"}`.
    """
    if not any(PurePosixPath(old).stem.encode() in source.data for old in moves):
        return source.data
    edits, renamed = list[Edit](), dict[tuple[int, int], str]()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            for edit, at, new in _from_edits(
                source, node, partial(_moved, path=path, moves=moves, roots=roots)
            ):
                edits.append(edit)
                renamed[at] = new
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if new := _moved(alias.name.split("."), 0, path=path, moves=moves, roots=roots):
                    start, _ = source.span(alias)
                    edits.append(Edit(start, start + len(alias.name), _last_as(alias.name, new).encode()))
                    renamed[alias.lineno, alias.col_offset] = new
    for node in docstrings(source.tree):
        start, end = source.span(node)
        edits.append(Edit(start, end, rewrite_paths(source.data[start:end].decode(), moves).encode()))
    after = edited(source.data, edits)
    return checked(source.data, after, partial(_rename_in, renamed=renamed))


def _from_edits(
    source: Source, node: ast.ImportFrom, moved: Callable[[Sequence[str], int], str]
) -> Iterator[tuple[Edit, tuple[int, int], str]]:
    """Yield each edit of a `from` import with the line and column of the renamed node, and the new stem."""
    parts = node.module.split(".") if node.module else []
    if parts and (new := moved(parts, node.level)):
        start, end = source.span(node)
        if (match := _FROM.match(source.data, start, end)) is not None:
            named = _last_as(match[1].decode(), new).encode()
            yield Edit(match.start(1), match.end(1), named), (node.lineno, node.col_offset), new
    for alias in node.names:
        if new := moved([*parts, alias.name], node.level):
            start, _ = source.span(alias)
            text = new if alias.asname else f"{new} as {alias.name}"
            yield Edit(start, start + len(alias.name), text.encode()), (alias.lineno, alias.col_offset), new


def _last_as(dotted: str, new: str) -> str:
    head, dot, _ = dotted.rpartition(".")
    return f"{head}{dot}{new}"


def _moved(
    parts: Sequence[str], level: int, *, path: str, moves: Mapping[str, str], roots: Collection[str]
) -> str:
    """Return the new stem of an imported module, or an empty string when the module does not move."""
    places = _places(parts, level, path, roots)
    return next((PurePosixPath(moves[place]).stem for place in places if place in moves), "")


def _places(parts: Sequence[str], level: int, path: str, roots: Collection[str]) -> list[str]:
    """Return the possible paths of an imported module; `level` counts the dots of a relative import."""
    if level:
        folder = PurePosixPath(path).parent
        for _ in range(level - 1):
            folder = folder.parent
        starts = [str(folder)]
    else:
        starts = [*roots]
    return [posixpath.normpath(posixpath.join(start, *parts)) + ".py" for start in starts]


def _rename_in(tree: ast.Module, *, renamed: Mapping[tuple[int, int], str]) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom | ast.alias):
            continue
        new = renamed.get((node.lineno, node.col_offset))
        if new and isinstance(node, ast.ImportFrom):
            node.module = _last_as(node.module or "", new)
        elif new and isinstance(node, ast.alias):
            if "." not in node.name and node.asname is None:
                node.asname = node.name
            node.name = _last_as(node.name, new)


def rewrite_paths(text: str, moves: Mapping[str, str]) -> str:
    """Rewrite the paths and dotted names of moved modules in a text."""
    for old, new in moves.items():
        text = text.replace(old, new)
        before, after = PurePosixPath(old).name, PurePosixPath(new).name
        text = re.sub(rf"(?<![\w/.-]){re.escape(before)}\b", after, text)
        text = re.sub(rf"(?<![\w.]){re.escape(_dotted(old))}(?!\w)", _dotted(new), text)
    return text


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removeprefix("src/").replace("/", ".")

"""Bugs replace exact spans: everything else stays byte for byte, and every bug can be taken back."""

from __future__ import annotations

import ast
import fractions
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.register.inject.mutate import Mutation, find_mutations, find_removals, is_sound
from envs.register.project.syntax import functions, parse

REAL_FILES = [Path(textwrap.__file__), Path(fractions.__file__)]


def bugs_in(source: str) -> list[Mutation]:
    return find_mutations("module.py", textwrap.dedent(source).encode())


def changes(source: str, kind: str) -> set[tuple[str, str]]:
    return {(mutation.before, mutation.after) for mutation in bugs_in(source) if mutation.kind == kind}


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_every_bug_in_real_source_changes_one_span_and_can_be_undone(path: Path):
    data = path.read_bytes()
    found = find_mutations(path.name, data)
    assert len({mutation.kind for mutation in found}) == 8
    for mutation in found:
        changed = mutation.apply(data)
        assert changed != data
        assert changed[: mutation.start] == data[: mutation.start]
        assert changed.endswith(data[mutation.end :])
        assert mutation.undo(changed) == data
        assert mutation.line == data[: mutation.start].count(b"\n") + 1


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_sound_bug_parses_and_stays_inside_the_function_it_names(draw: st.DataObject):
    path = draw.draw(st.sampled_from(REAL_FILES))
    data = path.read_bytes()
    mutation = draw.draw(st.sampled_from(find_mutations(path.name, data, seed=draw.draw(st.integers(0, 5)))))
    if not is_sound(mutation, data):
        return
    changed = mutation.apply(data)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(data))
    tree = parse(data)
    assert tree is not None
    node = {name: node for node, name in functions(tree)}[mutation.function]
    assert node.end_lineno is not None
    assert node.lineno <= mutation.line <= node.end_lineno


def test_the_seed_decides_and_nothing_else():
    data = REAL_FILES[0].read_bytes()
    assert find_mutations("a.py", data, seed=3) == find_mutations("a.py", data, seed=3)
    assert find_mutations("a.py", data, seed=3) != find_mutations("a.py", data, seed=4)


@pytest.mark.parametrize(
    ("source", "kind", "expected"),
    [
        ("def f(a, b):\n    return a + b\n", "operator", ("+", "-")),
        ("def f(a, b):\n    a += b\n    return a\n", "operator", ("+=", "-=")),
        ("def f(a, b):\n    return (a) and (b)\n", "operator", ("and", "or")),
        ("def f(a, b):\n    return a == b\n", "comparison", ("==", "!=")),
        ("def f(a, b):\n    return a  not   in b\n", "comparison", ("not   in", "in")),
        ("def f(a, b):\n    return a < b\n", "off-by-one", ("<", "<=")),
        ("def f(a):\n    return a[1:]\n", "off-by-one", ("1", "2")),
        ("def f(a):\n    return list(range(a))\n", "off-by-one", ("", " + 1")),
        ("def f(a):\n    limit = 10\n    return a > limit\n", "boundary constant", ("10", "11")),
        ("def f(a, strict=True):\n    return strict\n", "boundary constant", ("True", "False")),
        ("def f(a, b):\n    return g((a), [b])\n", "swapped arguments", ("a), [b]", "[b]), a")),
        (
            "def f(a):\n    a.sort()  # why\n    return a\n",
            "dropped statement",
            ("    a.sort()  # why\n", ""),
        ),
        ("def f(a):\n    if a: a.sort()\n    return a\n", "dropped statement", ("a.sort()", "pass")),
        ("def f(a, b):\n    return g(\n        a\n    )\n", "wrong variable", ("a", "b")),
        ("def f(a):\n    if a:\n        return 1\n", "inverted condition", ("", "not ")),
        ("def f(a):\n    if not a:\n        return 1\n", "inverted condition", ("not ", "")),
        ("def f(a, b):\n    return 1 if a or b else 2\n", "inverted condition", ("a or b", "not (a or b)")),
    ],
)
def test_each_kind_makes_its_bug(source: str, kind: str, expected: tuple[str, str]):
    assert expected in changes(source, kind)
    assert all(is_sound(mutation, source.encode()) for mutation in bugs_in(source) if mutation.kind == kind)


def test_swapped_arguments_keep_the_text_of_both():
    data = b"def f(a, b):\n    return g(a,  # first\n             b) + g(a, key=b) + g( a , (b) )\n"
    found = [
        mutation.apply(data)
        for mutation in find_mutations("m.py", data)
        if mutation.kind == "swapped arguments"
    ]
    assert found == [data.replace(b"g( a , (b) )", b"g( b , (a) )")]


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Add 1 to 2: 1 + 2."""\n',
        "def f(a: Literal[1, 2]) -> Literal[1]:\n    pass\n",
        "def f():\n    assert 1 < 2, 'three' + 'four'\n",
        "def __repr__(self):\n    return 'a' + self.b\n",
        "def f(a, b):\n    logger.info('x', a + b, 1)\n",
        "if TYPE_CHECKING:\n    def f(a, b):\n        return a + b\n",
        "LIMIT = 10\n__all__ = ['a'] + ['b']\n",
        "def f(a, b):\n    return f'{a + 1}'\n",
        "@cache(1 + 2)\ndef f():\n    pass\n",
    ],
)
def test_what_is_no_code_under_test_is_left_alone(source: str):
    assert bugs_in(source) == []


def test_an_exception_may_be_dropped_but_its_words_stay():
    found = bugs_in("def f(a):\n    if a:\n        raise ValueError('a' + str(a))\n    return a\n")
    assert ("        raise ValueError('a' + str(a))\n", "") not in {(e.before, e.after) for e in found}
    assert ("raise ValueError('a' + str(a))", "pass") in {(e.before, e.after) for e in found}
    assert not [mutation for mutation in found if mutation.kind == "operator"]


@pytest.mark.parametrize("data", [b"def f(:\n", b"\xff\xfe", b"# coding: latin-1\nx = '\xe9'\n", b"\x00"])
def test_what_is_not_utf8_python_has_no_bugs(data: bytes):
    assert find_mutations("a.py", data) == []


def test_windows_line_ends_and_wide_characters_keep_positions_right():
    data = "def f(é, b):\r\n    ü = é + b  # ß\r\n    return ü - 1\r\n".encode()
    for mutation in find_mutations("a.py", data):
        assert mutation.undo(mutation.apply(data)) == data
    assert {(e.before, e.after, e.line) for e in find_mutations("a.py", data) if e.kind == "operator"} == {
        ("+", "-", 2),
        ("-", "+", 3),
    }


def test_a_bug_refuses_a_file_that_is_not_the_one_it_was_found_in():
    data = b"def f(a, b):\n    return a + b\n"
    bug = next(mutation for mutation in find_mutations("a.py", data) if mutation.kind == "operator")
    with pytest.raises(AssertionError, match="not the file it was"):
        bug.apply(data.replace(b"+", b"-"))


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_a_body_taken_out_of_real_source_leaves_signature_and_docstring(path: Path):
    data = path.read_bytes()
    found = find_removals(path.name, data)
    assert len(found) > 10
    was = {name: node for node, name in functions(ast.parse(data))}
    for mutation in found:
        changed = mutation.apply(data)
        assert is_sound(mutation, data)
        assert mutation.undo(changed) == data
        node = {name: node for node, name in functions(ast.parse(changed))}[mutation.function]
        assert ast.dump(node.args) == ast.dump(was[mutation.function].args)
        assert ast.get_docstring(node) == ast.get_docstring(was[mutation.function])
        assert ast.unparse(node.body[-1]) == "raise NotImplementedError"
        assert len(node.body) == 1 + (ast.get_docstring(node) is not None)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a): return a  # why\n", "def f(a): raise NotImplementedError  # why\n"),
        (
            'def f(a):\n    """Say."""\n    # how\n\n    # and why\n    a()\n    return a  # so\n\n\nx = 1\n',
            'def f(a):\n    """Say."""\n    raise NotImplementedError\n\n\nx = 1\n',
        ),
        (
            "def f(\n    a,  # the first\n):\n    # how\n    if a:\n        return 1\n",
            "def f(\n    a,  # the first\n):\n    raise NotImplementedError\n",
        ),
        (
            "def f(a):\r\n    @a\r\n    def g(): return 1\r\n    return g\r\n",
            "def f(a):\r\n    raise NotImplementedError\r\n",
        ),
    ],
    ids=["one line", "remarks", "long signature", "decorated"],
)
def test_a_body_goes_with_its_remarks_and_nothing_else(source: str, expected: str):
    data = source.encode()
    found = next(mutation for mutation in find_removals("a.py", data) if mutation.function == "f")
    assert found.apply(data).decode() == expected


@pytest.mark.parametrize(
    "source",
    [
        "def f(): ...\n",
        'def f():\n    """Say."""\n',
        "def f():\n    pass\n",
        "def f():\n    raise ValueError\n",
        "@overload\ndef f(a):\n    return a\n",
        "@abc.abstractmethod\ndef f(self):\n    return 1\n",
    ],
)
def test_a_function_that_does_nothing_has_no_body_to_take_out(source: str):
    assert find_removals("a.py", source.encode()) == []

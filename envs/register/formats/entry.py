"""`Entry`: a row of any format in a common form. `RowError`: why a row cannot be honoured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import Tree
from envs.types import Task

T = TypeVar("T")


class RowError(ValueError):
    """A row that cannot become a task. Takes one sentence, `FIELD: what is wrong with it`."""


@dataclass(frozen=True)
class Checkout:
    """Where a row's base tree comes from: a commit of a repository."""

    repository: str
    """`owner/name` as the row has it, or a URL."""
    commit: str
    parent_of: bool = False
    """The base is the first parent of `commit`, which is the fix itself."""
    patch: str = ""
    """Unified diff that leads from the commit to the base tree."""


@dataclass(frozen=True)
class Entry:
    """One row, read and not yet tried."""

    id: str
    origin: Checkout | Tree
    """A commit, or the files themselves."""
    instruction: str
    reference_patch: str
    test_patch: str
    """Unified diff that brings the hidden tests; empty when the base has them all."""
    test_tree: Tree = field(default_factory=dict)
    """Files that bring the hidden tests, for formats that carry them whole."""
    solved: Tree = field(default_factory=dict)
    """The base with the fix and the hidden tests, for formats that carry it whole."""
    hides: bool = False
    """The files of the tests to be repaired are not shown to the policy."""
    fail_to_pass: tuple[str, ...] = ()
    """As the row spells them; `known_tests` finds the tests they mean."""
    pass_to_pass: tuple[str, ...] = ()
    to_pass: tuple[str, ...] = ()
    """Tests that pass after the fix; which of them fail before it is for the runs to say."""
    image: str = ""
    """A Docker image by name; empty: an environment is built from the repository."""
    workdir: str = ""
    """Where the image expects the repository."""
    environment: tuple[str, Runtime] | None = None
    """A whole environment and its name, for formats that can hold one."""
    task: Task | None = None
    """A whole task, for formats that can hold one."""
    traits: Mapping[str, str | int | float] = field(default_factory=dict)
    """What is recorded with the task: repository, commit, the format's own measures."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The row itself, so that writing it again loses nothing."""


@dataclass(frozen=True)
class Reading:
    """Result of reading one row."""

    place: str
    """File and line, for messages."""
    id: str = ""
    """As the row has it, as far as it could be read."""
    entry: Entry | None = None
    error: str = ""
    """Why there is no entry: `FIELD: what is wrong with it`."""


def from_json(value: Any) -> Any:
    """A value, or the JSON text of it: data sets write lists and objects either way."""
    if not isinstance(value, str) or not value.strip():
        return value or ()
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"is neither a list or object nor the JSON text of one ({error})") from error


Texts = Annotated[tuple[str, ...], BeforeValidator(from_json)]
"""A list of texts, or the JSON text of one."""
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""A text that may be null."""


def read(kind: type[T], row: Any) -> T:
    """Validate the fields of a row that are used. Raises RowError, which names the field."""
    if not isinstance(row, dict):
        raise RowError(f"the row: is no JSON object but {type(row).__name__}")
    try:
        return TypeAdapter(kind).validate_python(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "the row"
        missing = first["type"] == "missing"
        problem = "is missing" if missing else first["msg"].removeprefix("Value error, ")
        raise RowError(f"{name}: {problem}") from error


def need(**values: object) -> None:
    """Refuse empty fields. Raises RowError for the first."""
    for name, value in values.items():
        if not value or (isinstance(value, str) and not value.strip()):
            raise RowError(f"{name}: is empty")

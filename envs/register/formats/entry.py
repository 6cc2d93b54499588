"""`Entry`: a row of any format in a common form. `RowError`: why a row cannot become a task."""

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
    """The commit of a row's base tree, as in `Checkout("pallets/click", "8a1c3f2")`."""

    repository: str
    """`owner/name`, or a URL."""
    commit: str
    parent_of: bool = False
    """Whether the base is the first parent of `commit`, which is then the fix."""
    patch: str = ""
    """Unified diff from the commit to the base tree; empty when they are equal."""


@dataclass(frozen=True)
class Entry:
    """One row after validation of its fields; no test has run yet."""

    id: str
    origin: Checkout | Tree
    """The base tree's commit, or its files."""
    instruction: str
    reference_patch: str
    test_patch: str
    """Unified diff that adds the hidden tests; empty when the base has all tests."""
    test_tree: Tree = field(default_factory=dict)
    """The hidden test files, in formats with whole files."""
    solved: Tree = field(default_factory=dict)
    """The base with the fix and the hidden tests, in formats with whole trees."""
    hides: bool = False
    """Whether the files of the fail-to-pass tests are hidden from the policy."""
    fail_to_pass: tuple[str, ...] = ()
    """Test names in the row's spelling; `listing.KnownTests` maps names to test ids."""
    pass_to_pass: tuple[str, ...] = ()
    to_pass: tuple[str, ...] = ()
    """Tests that pass after the fix; test runs determine which of these tests fail before the fix."""
    image: str = ""
    """A Docker image by name; empty: an environment is built for the repository."""
    workdir: str = ""
    """The repository's folder in the image."""
    environment: tuple[str, Runtime] | None = None
    """A complete environment and its name, in formats that can contain an environment."""
    task: Task | None = None
    """A complete task, in formats that can contain a task."""
    traits: Mapping[str, str | int | float] = field(default_factory=dict)
    """Metadata of the task: repository, commit, the format's own measures."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The original row, so that an export loses no field."""


@dataclass(frozen=True)
class Reading:
    """Result of reading one row."""

    place: str
    """File and line, for messages."""
    id: str = ""
    """The row's own id; empty when unreadable."""
    entry: Entry | None = None
    error: str = ""
    """Why the row has no entry, such as `repo: is empty`; empty when `entry` is set."""


def from_json(value: Any) -> Any:
    """Decode a value that may be JSON text: data sets write lists and objects either way."""
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
    """Validate a row as a dataclass and ignore other fields. Raises RowError, which names the field."""
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
    """Raise RowError, which names the field, for the first empty value."""
    for name, value in values.items():
        if not value or (isinstance(value, str) and not value.strip()):
            raise RowError(f"{name}: is empty")

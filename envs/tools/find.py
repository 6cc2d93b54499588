"""The tool `search`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sandboxes.base import Match

from ..search.finder import NothingThereError, look_around
from ..search.indexes import shared_indexes
from .base import FILE_S, ToolContext, ToolError, tool

SEARCH_MATCHES = 50
MAX_LINE = 400
"""Characters shown of one line."""


@tool
class Search:
    """Find things in the repository's files, as they are now. `kind` says what `query` is: a text; a regex; a
    name whose definition or uses to find (`Class.method` works too); or, with meaning, a question or a
    description in your own words, which finds functions, classes and sections."""

    query: Annotated[str, Field(min_length=1)]
    kind: Literal["text", "regex", "definition", "uses", "meaning"] = "text"
    path: Annotated[str, Field(description="Folder or file to look in.")] = "."
    glob: Annotated[str | None, Field(description="Only files like this, e.g. *.py")] = None

    def run(self, at: ToolContext) -> str:
        try:
            return self._lines(at) if self.kind in ("text", "regex") else self._places(at)
        except (ValueError, NothingThereError) as error:
            raise ToolError(str(error)) from error
        except TimeoutError as error:
            raise ToolError("the search took too long; narrow it by path or glob, or try again") from error

    def _lines(self, at: ToolContext) -> str:
        matches = at.sandbox.search(
            self.query,
            timeout_s=FILE_S,
            path=self.path,
            regex=self.kind == "regex",
            glob=self.glob,
            limit=SEARCH_MATCHES + 1,
        )
        shown = [_match(match) for match in matches[:SEARCH_MATCHES]]
        if len(matches) > SEARCH_MATCHES:
            shown.append(f"(more than {SEARCH_MATCHES} matches; narrow the search)")
        return "\n".join(shown) or "no matches"

    def _places(self, at: ToolContext) -> str:
        base = at.taskset.base_tree(at.task)
        finder = look_around(
            at.sandbox,
            base,
            at.task.base_digest,
            shared_indexes(),
            path=self.path,
            glob=self.glob,
            limit=SEARCH_MATCHES,
            timeout_s=FILE_S,
        )
        if self.kind == "meaning":
            return finder.meaning(self.query, at.embedder)
        name = self.query.strip().removesuffix("()")
        return finder.definition(name) if self.kind == "definition" else finder.uses(name)


def _match(match: Match) -> str:
    return f"{match.path}:{match.line}: {match.text.strip()[:MAX_LINE]}"

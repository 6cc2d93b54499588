"""The tool `prs`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated

from . import prs_view as prs
from .base import ToolContext, ToolError, path_in_tree, read_text


@validated(frozen=True, config=ConfigDict(extra="forbid", coerce_numbers_to_str=True))
class Prs:
    """Read the project's past pull requests: how things were done here, and why. Give one of `search`
    (words; `path`, `author` and `label` narrow it), `read` (a number: discussion, files, diff), `blame`
    (which one last touched a line, and why) or `recent` (the newest that touched a file or folder)."""

    search: Annotated[str | None, Field(description="Words to look for.")] = None
    read: Annotated[str | None, Field(description="A pull request's number, as listed.")] = None
    blame: Annotated[str | None, Field(description="PATH:LINE of a file as it is now.")] = None
    recent: Annotated[str | None, Field(description="A file or folder.")] = None
    path: Annotated[str, Field(description="Only those that touched this file or folder.")] = ""
    author: Annotated[str, Field(description="Only those by this author.")] = ""
    label: Annotated[str, Field(description="Only those with this label.")] = ""
    page: Annotated[int, Field(ge=1, description="Which page of a long answer.")] = 1

    def run(self, at: ToolContext) -> str:
        others = sum(map(bool, (self.read, self.blame, self.recent)))
        narrowed = bool(self.path or self.author or self.label)
        if others > 1 or (others and self.search) or not (others or narrowed or self.search is not None):
            raise ToolError("give exactly one of search, read, blame and recent")
        if others and narrowed:
            raise ToolError("path, author and label narrow a search only")
        past = prs.view(at.taskset, at.task)
        if self.read:
            # A page must fit into an observation uncut, with its heading.
            size = max(at.task.limits.observation_chars - 200, 200)
            return prs.read(past, self.read, page=self.page, page_chars=size)
        if self.blame:
            return self._blame(at, self.blame)
        if self.recent:
            return prs.recent(past, path_in_tree(at.task, self.recent), page=self.page)
        narrowing = {"path": path_in_tree(at.task, self.path), "author": self.author, "label": self.label}
        return prs.search(past, self.search or "", **narrowing, page=self.page)

    def _blame(self, at: ToolContext, place: str) -> str:
        name, _, number = place.rpartition(":")
        if not name or not re.fullmatch(r"\s*0*[1-9][0-9]{0,8}\s*", number):
            raise ToolError("blame takes PATH:LINE, such as src/module.py:12")
        path = path_in_tree(at.task, name)
        return prs.blame(at.taskset, at.task, path, int(number), read_text(at.sandbox, path))

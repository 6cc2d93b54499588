"""Read SWE-smith rows, in which `patch` is the bug and the fix is the reverse patch.

Fields: https://github.com/SWE-bench/SWE-smith, `swesmith/harness/gather.py`. `repo` is
`organisation/owner__name.commit`: a copy of `owner/name` at the commit with that prefix. An optional
`base_commit` is a commit of the copy and does not exist in the original. The failing tests are the
repository's own; the data set hides their files from the policy, and so does this reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .entry import Checkout, Entry, RowError, Text, Texts, need, read
from .swebench import WORKDIR, with_newline

_COPY = re.compile(r"^(?:[^/]+/)?(?P<owner>.+?)__(?P<name>.+)\.(?P<commit>[0-9a-f]{7,40})$")


@dataclass(frozen=True)
class SwesmithRow:
    """The fields that define a task."""

    instance_id: str
    repo: str
    patch: str
    FAIL_TO_PASS: Texts
    PASS_TO_PASS: Texts
    problem_statement: Text = ""
    image_name: Text = ""
    base_commit: Text = ""


def read_swesmith(row: Any) -> Entry:
    """Read one row. Raises RowError, which names the field."""
    found = read(SwesmithRow, row)
    need(instance_id=found.instance_id, repo=found.repo, patch=found.patch)
    need(FAIL_TO_PASS=found.FAIL_TO_PASS, problem_statement=found.problem_statement)
    copy = _COPY.match(found.repo)
    if copy is None:
        raise RowError(f"repo: {found.repo!r} does not end in __NAME.COMMIT, so the original is not known")
    repository = f"{copy['owner']}/{copy['name']}"
    bug = with_newline(found.patch)
    return Entry(
        id=found.instance_id,
        origin=Checkout(repository, copy["commit"], patch=bug),
        instruction=found.problem_statement,
        reference_patch="",  # `resolving` reverses the bug, which needs the tree
        test_patch="",
        hides=True,
        fail_to_pass=found.FAIL_TO_PASS,
        pass_to_pass=found.PASS_TO_PASS,
        image=found.image_name,
        workdir=WORKDIR,
        traits={"repo": repository, "commit": copy["commit"]},
        row=row,
    )

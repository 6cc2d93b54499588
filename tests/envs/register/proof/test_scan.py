"""A fix that lies somewhere in an image is found, whatever it is wrapped in."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator

import pytest

from envs.register.proof.scan import fix_side, leaks, scan_image
from envs.tasksets.trees import Tree, TreeFile, pack
from sandboxes import Backend
from sandboxes.base import Sandbox, SandboxSpec

BEFORE = "def slope(points):\n    return 0\n"
AFTER = '''def slope(points):
    """Least squares over the points' coordinates."""
    horizontal, vertical = zip(*points)
    mean_of_all = sum(horizontal) / len(horizontal)
    return covariance(horizontal, vertical) / variance_around(mean_of_all)
'''
HIDDEN = (
    "from lines import slope\n\n\ndef test_slope_of_a_diagonal():\n    assert slope([(0, 0), (1, 1)]) == 1\n"
)


def tree(**files: str) -> Tree:
    return {f"{name}.py": TreeFile(text.encode()) for name, text in files.items()}


BASE = tree(lines=BEFORE, other="import os\n\n\ndef unrelated_but_present():\n    return os.sep\n")
SOLVED = BASE | tree(lines=AFTER) | {"tests/test_lines.py": TreeFile(HIDDEN.encode())}


def test_only_what_the_base_lacks_belongs_to_the_fix() -> None:
    side = fix_side(BASE, SOLVED)
    assert set(side.files.values()) == {"lines.py", "tests/test_lines.py"}
    assert "mean_of_all = sum(horizontal) / len(horizontal)" in side.lines["lines.py"]
    assert not any("def slope" in line or line.startswith("from ") for line in side.lines["lines.py"])
    assert fix_side(SOLVED, SOLVED).files == {}
    moved = {"elsewhere.py": SOLVED["lines.py"], **SOLVED}
    assert fix_side(SOLVED, moved).files == {}, "a file that only moved tells nothing"


@pytest.fixture
def sandbox(bubblewrap_backend: Backend, bubblewrap_image: str) -> Iterator[Sandbox]:
    sandbox = bubblewrap_backend.open(SandboxSpec(image=bubblewrap_image), timeout_s=60)
    yield sandbox
    sandbox.close()


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    return gzip.compress(pack({name: TreeFile(data) for name, data in files.items()}))


@pytest.mark.bubblewrap
def test_an_innocent_image_holds_no_fix_and_everything_in_it_was_looked_at(sandbox: Sandbox) -> None:
    sandbox.unpack(pack(SOLVED), ".", timeout_s=10)  # the working directory is no part of the image
    common = tree(
        lines=AFTER + "\n\ndef quiet():\n    try:\n        pass\n    except ValueError:\n        pass\n"
    )
    scan = scan_image(sandbox, {"a": fix_side(BASE, SOLVED), "b": fix_side(SOLVED, BASE | common)})
    assert scan.complete
    assert scan.looked > 1_000
    assert scan.leaks == {}


@pytest.mark.bubblewrap
def test_a_fix_is_found_in_files_archives_and_git_stores_and_named_with_its_place(sandbox: Sandbox) -> None:
    later = AFTER.replace("def slope", "def inclination") + "\n\ndef added_later():\n    return None\n"
    sandbox.write("/tmp/site/renamed.py", AFTER.encode(), timeout_s=10)
    sandbox.write("/tmp/site/lines.py", later.encode(), timeout_s=10)
    sandbox.write("/tmp/w/lines-2.0-py3-none-any.whl", zipped({"lines.py": later}), timeout_s=10)
    inner = zipped({"tests/test_lines.py": HIDDEN})
    sandbox.write("/tmp/w/lines-2.0.tar.gz", tarred({"vendor/inner.zip": inner}), timeout_s=10)
    sandbox.write("/tmp/w/test_lines.py.gz", gzip.compress(HIDDEN.encode()), timeout_s=10)
    git = "git init -q r && cd r && cp ../site/renamed.py f && git add f"
    more = "git gc -q --prune=never; git repack -adq; git hash-object -w ../site/lines.py"
    who = "git -c user.name=a -c user.email=b commit -qm c"
    made = sandbox.exec(f"cd /tmp && {git} && {who} && rm f && {more}", timeout_s=30)
    assert made.exit_code == 0, made
    found = leaks(sandbox, BASE, SOLVED)
    places = {line.partition(" ")[0].partition("!")[0] for line in found}
    assert places == {
        "/tmp/site/renamed.py",
        "/tmp/site/lines.py",
        "/tmp/w/lines-2.0-py3-none-any.whl",
        "/tmp/w/lines-2.0.tar.gz",
        "/tmp/w/test_lines.py.gz",
        "/tmp/r/.git/objects",
    }
    assert "/tmp/site/renamed.py is lines.py after the fix" in found
    assert any("added lines of lines.py" in line for line in found)
    assert sum("/tmp/r/.git/objects!" in line for line in found) == 2, "one packed, one loose"

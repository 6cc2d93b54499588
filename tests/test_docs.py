"""What the documentation says is compared with what is there."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import typer

from daythree.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "AGENTS.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/registration.md",
    "docs/other-languages.md",
    "docs/isolation.md",
    "docs/reward.md",
    "docs/cluster.md",
)
PACKAGES = ("daythree", "sandboxes", "envs", "agents", "trainer")


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def mapped() -> set[str]:
    """Every folder that the README's map names: indented ones belong to the package above them."""
    found, package = set(), ""
    block = (ROOT / "README.md").read_text().split("## What is where")[1].split("```")[1]
    for line in block.splitlines():
        names = re.findall(r"(?:^|(?<=\s))([a-z]+)/", line)
        if line[:1].isalpha():
            package = names[0]
            found |= {package} if package in PACKAGES else set(names)
            names = names[1:] if package in PACKAGES else []
        found |= {f"{package}/{name}" for name in names}
    return found


def rooms() -> set[str]:
    """The folders at the top, and those one below in the packages; of `envs/register` its own."""
    folders = {
        str(parent) for path in tracked() for parent in Path(path).parents if not str(parent).startswith(".")
    }
    top = {folder for folder in folders if "/" not in folder}
    inner = {folder for folder in folders if folder.count("/") == 1 and folder.split("/")[0] in PACKAGES}
    return top | inner


def test_the_map_names_every_room_and_nothing_else() -> None:
    parents = {str(parent) for path in tracked() for parent in Path(path).parents}
    kinds = [name for name in parents if name.startswith("envs/register/") and name.count("/") == 2]
    wanted = rooms() | {f"envs/{Path(name).name}" for name in kinds}
    assert mapped() == wanted


def test_the_readme_stays_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert len(text.split("## What is where")[1].split("```")[1].strip().splitlines()) <= 25


def test_no_room_holds_more_than_seventeen_modules() -> None:
    rooms = Counter(
        str(Path(name).parent)
        for name in tracked()
        if name.endswith(".py") and not name.startswith("tests/") and Path(name).name != "__init__.py"
    )
    assert {room: number for room, number in rooms.items() if number > 17} == {}


def product_modules() -> list[str]:
    return [
        name for name in tracked() if name.endswith(".py") and name.split("/")[0] in (*PACKAGES, "benchmarks")
    ]


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in product_modules()}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_function_is_longer_than_sixty_lines() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {
        f"{name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name in product_modules()
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, kinds)
    }
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}


def commands() -> set[str]:
    """Every command there is, as people type it: `register inject`."""
    group = typer.main.get_command(app.app)
    found = set()
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {sub}" for sub in inner} if inner else {name}
    return found


def lines_with_commands() -> list[tuple[str, str]]:
    lines = []
    for name in DOCUMENTS:
        for block in re.findall(r"```\n(.*?)```", (ROOT / name).read_text(), re.DOTALL):
            lines += [(name, line.split("#")[0].strip()) for line in block.splitlines()]
    return [(name, line) for name, line in lines if line.startswith("daythree ")]


def test_every_command_in_the_documents_exists_with_its_options() -> None:
    group = typer.main.get_command(app.app)
    assert lines_with_commands()
    for document, line in lines_with_commands():
        words = line.split()[1:]
        command = group
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), f"{document}: no such command: {line}"
        known = {option for parameter in command.params for option in parameter.opts}
        unknown = [word for word in words if word.startswith("--") and word not in known]
        assert not unknown, f"{document}: {line}"


def test_the_readme_shows_every_command_but_the_one_behind_make_demo() -> None:
    shown = {" ".join(line.split()[1:]) for name, line in lines_with_commands() if name == "README.md"}
    assert [
        command for command in commands() - {"demo"} if not any(line.startswith(command) for line in shown)
    ] == []


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in DOCUMENTS:
        assert set(re.findall(r"`make ([a-z-]+)", (ROOT / name).read_text())) <= targets, name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_and_links_in_the_documents_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    quoted = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md|toml|txt|sh))`", text)
    folder = (ROOT / name).parent
    assert [link for link in links if not (folder / link).exists()] == []
    assert [path for path in quoted if not (ROOT / path).exists()] == []


def test_what_guides_contributors_stays_short() -> None:
    assert len((ROOT / "AGENTS.md").read_text().splitlines()) <= 60
    assert (ROOT / "CLAUDE.md").read_text() == "@AGENTS.md\n"


def test_scripts_and_locks_name_no_host() -> None:
    for name in tracked():
        if name.startswith(("scripts/", "locks/", ".ci/")) or name == "Makefile":
            assert "://" not in (ROOT / name).read_text(), name

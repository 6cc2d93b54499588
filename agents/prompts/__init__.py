"""System prompts as text files, read on use."""

from importlib import resources


def prompt(name: str) -> str:
    """Return the text of `NAME.md`, without surrounding white space."""
    return (resources.files(__name__) / f"{name}.md").read_text(encoding="utf-8").strip()

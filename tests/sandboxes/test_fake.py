"""What tests may count on in the fake: commands are theirs to decide, and it fails when told to."""

import pytest

from sandboxes import ExecResult, ImageRecipe, Sandbox, SandboxLost, SandboxSpec
from sandboxes.fake import FakeBackend, FakeSandbox, Files


def test_commands_see_and_change_the_files() -> None:
    def run(command: object, files: Files) -> ExecResult:
        files["/workspace/made/here"] = files["/workspace/given"] * 2
        return ExecResult(3, f"ran {command}", "")

    sandbox = FakeSandbox(SandboxSpec("any"), {"given": b"x"}, run=run)
    assert isinstance(sandbox, Sandbox)
    assert sandbox.exec("it", timeout_s=1) == ExecResult(3, "ran it", "")
    assert sandbox.read("made/here", timeout_s=1) == b"xx"
    assert sandbox.listdir(".", timeout_s=1) == ["given", "made/"]
    assert sandbox.calls == ["exec", "read", "listdir"]


def test_it_is_lost_at_the_call_it_was_told() -> None:
    backend = FakeBackend({"a": b""}, fail_at=2)
    sandbox = backend.open(SandboxSpec(backend.ensure_image(ImageRecipe("x"), timeout_s=1)), timeout_s=1)
    sandbox.read("a", timeout_s=1)
    for _ in range(2):
        with pytest.raises(SandboxLost):
            sandbox.read("a", timeout_s=1)
    assert backend.opened == [sandbox] and backend.ensured == [ImageRecipe("x").ref]

"""Turn a repository into validated tasks."""

from .errors import RegisterError
from .history.git import GitReport, register_git
from .inject.inject import InjectReport, register_inject
from .proof.check import CheckReport, TaskCheck, check
from .runtime.build import BuildReport, build

__all__ = [
    "BuildReport",
    "CheckReport",
    "GitReport",
    "InjectReport",
    "RegisterError",
    "TaskCheck",
    "build",
    "check",
    "register_inject",
    "register_git",
]

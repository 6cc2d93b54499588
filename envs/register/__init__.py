"""Turn a repository into validated tasks."""

from .environment.build import BuildReport, build
from .errors import RegisterError
from .history.git import GitReport, register_git
from .inject.inject import InjectReport, register_inject
from .proof.check import CheckReport, TaskCheck, check

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

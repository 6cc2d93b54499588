"""Turn a repository into validated tasks."""

from .errors import RegisterError
from .history.git import GitReport, register_git
from .inject.inject import InjectReport, register_inject
from .practice.practice import PracticeReport, register_practice
from .proof.task import TaskCheck
from .proof.taskset import CheckReport, check
from .runtime.build import BuildReport, build
from .settings import RegisterSettings

__all__ = [
    "BuildReport",
    "CheckReport",
    "GitReport",
    "InjectReport",
    "PracticeReport",
    "RegisterError",
    "RegisterSettings",
    "TaskCheck",
    "build",
    "check",
    "register_inject",
    "register_git",
    "register_practice",
]

"""Turn a repository into validated tasks."""

from .check import CheckReport, TaskCheck, check
from .errors import RegisterError
from .inject import InjectReport, inject

__all__ = ["CheckReport", "InjectReport", "RegisterError", "TaskCheck", "check", "inject"]

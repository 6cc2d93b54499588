"""Checks that every backend must pass: `check_backend` runs them all."""

from .check import ConformanceError as ConformanceError
from .check import ConformanceReport as ConformanceReport
from .check import check_backend as check_backend

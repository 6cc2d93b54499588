"""Import other systems' data sets as task sets, and export task sets in other systems' formats."""

from .exporting import ExportReport, export_tasks
from .importing import ImportReport, RowResult, import_tasks
from .reading import FORMATS

__all__ = ["FORMATS", "ExportReport", "ImportReport", "RowResult", "export_tasks", "import_tasks"]

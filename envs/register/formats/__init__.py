"""Import of other systems' files as task sets, and export of task sets into them."""

from .exporting import ExportReport, export_tasks
from .importing import ImportReport, RowResult, import_tasks
from .reading import FORMATS

__all__ = ["FORMATS", "ExportReport", "ImportReport", "RowResult", "export_tasks", "import_tasks"]

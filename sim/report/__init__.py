"""Tables, pictures and a page from run directories."""

from sim.report.build import ReportPaths, build, table
from sim.report.files import UnreadableRun
from sim.report.tables import Row

__all__ = ["ReportPaths", "Row", "UnreadableRun", "build", "table"]

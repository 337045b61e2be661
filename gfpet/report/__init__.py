"""The report: all results and their costs, as rows, tables and plots."""

from __future__ import annotations

from gfpet.report._collect import Collected, Scope, SimilarityRow, collect
from gfpet.report._costs import Cost, cost_of
from gfpet.report._estimated import ESTIMATED, estimate_table, write_estimates
from gfpet.report._estimated_plots import plot_modules
from gfpet.report._intervals import with_intervals
from gfpet.report._rows import ReportRow, read_rows, report_rows, write_rows
from gfpet.report._tables import Table, gap_table, memory_table, result_table, similarity_table
from gfpet.report._write import write_report

__all__ = [
    "ESTIMATED",
    "Collected",
    "Cost",
    "ReportRow",
    "Scope",
    "SimilarityRow",
    "Table",
    "collect",
    "cost_of",
    "estimate_table",
    "gap_table",
    "memory_table",
    "plot_modules",
    "read_rows",
    "report_rows",
    "result_table",
    "similarity_table",
    "with_intervals",
    "write_estimates",
    "write_report",
    "write_rows",
]

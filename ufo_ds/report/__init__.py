"""The run as one self-contained HTML page."""

from ufo_ds.report.page import write_report

__all__ = ["write_report"]

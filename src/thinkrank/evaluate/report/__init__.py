"""A self-contained HTML report: results, learning curves, single users, data. No network, no script."""

from thinkrank.evaluate.report.cases import PastItem, RankedItem, UserCase, user_cases
from thinkrank.evaluate.report.page import Report, render_report, write_report

__all__ = ["PastItem", "RankedItem", "Report", "UserCase", "render_report", "user_cases", "write_report"]

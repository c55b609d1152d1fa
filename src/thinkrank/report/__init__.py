"""A self-contained HTML report: results, learning curves, thoughts, single users, data. No network, no script."""

from thinkrank.report.cases import PastItem, RankedItem, UserCase, user_cases
from thinkrank.report.page import Report, render_report, write_report
from thinkrank.report.thoughts import ThoughtChange, ThoughtPair, WrittenThought, thought_change
from thinkrank.report.writing import ListWriting, WrittenItem

__all__ = [
    "ListWriting",
    "PastItem",
    "RankedItem",
    "Report",
    "ThoughtChange",
    "ThoughtPair",
    "UserCase",
    "WrittenItem",
    "WrittenThought",
    "render_report",
    "thought_change",
    "user_cases",
    "write_report",
]

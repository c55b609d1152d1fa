"""A self-contained HTML report: results, learning curves, thoughts, single users, data. No network, no script."""

from thinkrank.evaluate.report.cases import PastItem, RankedItem, UserCase, user_cases
from thinkrank.evaluate.report.page import Report, render_report, write_report
from thinkrank.evaluate.report.thoughts import ThoughtChange, ThoughtPair, WrittenThought, thought_change
from thinkrank.evaluate.report.writing import ListWriting, WrittenItem

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

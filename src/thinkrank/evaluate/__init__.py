"""Metrics, the retrieval protocol, significance, result rows and the HTML report.

Formulas stand in their own modules: `thinkrank.evaluate.metrics` (hit, ndcg, ...), `.beyond`,
`.significance`.
"""

from thinkrank.evaluate import metrics
from thinkrank.evaluate.protocol import Answers, Evaluation, Scorer, evaluate_retrieval
from thinkrank.evaluate.results import (
    Comparison,
    ResultRow,
    read_results,
    results_markdown,
    results_table,
    write_comparisons,
    write_results,
)
from thinkrank.evaluate.significance import Interval, PairedTest, bootstrap_intervals, paired_test

__all__ = [
    "Answers",
    "Comparison",
    "Evaluation",
    "Interval",
    "PairedTest",
    "ResultRow",
    "Scorer",
    "bootstrap_intervals",
    "evaluate_retrieval",
    "metrics",
    "paired_test",
    "read_results",
    "results_markdown",
    "results_table",
    "write_comparisons",
    "write_results",
]

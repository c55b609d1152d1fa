"""Metrics, the protocols of all three stages, significance, result rows and the HTML report.

Formulas stand in their own modules: `thinkrank.metrics` (hit, ndcg, ...), `.beyond`,
`.significance`.
"""

from thinkrank import metrics
from thinkrank.evaluate.position import PositionBias, kendall_tau, position_bias
from thinkrank.evaluate.ranking import (
    CandidateScorer,
    bucket_rows,
    candidate_ranks,
    evaluate_candidates,
    from_catalogue,
    history_buckets,
    popularity_buckets,
    random_scores,
)
from thinkrank.evaluate.reranking import ListEvaluation, evaluate_lists
from thinkrank.evaluate.results import (
    Comparison,
    ResultRow,
    read_results,
    results_markdown,
    results_table,
    write_comparisons,
    write_results,
)
from thinkrank.evaluate.retrieval import Answers, Evaluation, Scorer, evaluate_retrieval
from thinkrank.evaluate.significance import Interval, PairedTest, bootstrap_intervals, paired_test

__all__ = [
    "Answers",
    "CandidateScorer",
    "Comparison",
    "Evaluation",
    "Interval",
    "ListEvaluation",
    "PairedTest",
    "PositionBias",
    "ResultRow",
    "Scorer",
    "bootstrap_intervals",
    "bucket_rows",
    "candidate_ranks",
    "evaluate_candidates",
    "evaluate_lists",
    "evaluate_retrieval",
    "from_catalogue",
    "history_buckets",
    "kendall_tau",
    "metrics",
    "paired_test",
    "popularity_buckets",
    "position_bias",
    "random_scores",
    "read_results",
    "results_markdown",
    "results_table",
    "write_comparisons",
    "write_results",
]

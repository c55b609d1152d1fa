"""The choices that policy mathematics offers, importable without torch so that settings can name them."""

from typing import Literal

Normalisation = Literal["token", "sequence", "constant", "sum"]
"""What the sum of token losses is divided by; see `thinkrank.policy.denominators`."""

RatioLevel = Literal["token", "sequence"]
"""Whether each token has its own probability ratio, or each sequence one: the product of its tokens' ratios."""

Selection = Literal["best", "top_k", "positive", "floor"]
"""Which trajectories train the item head; see `thinkrank.policy.selection_weights`."""

Discount = Literal["log2", "reciprocal", "constant"]
"""What place r of a list is worth: 1 / log2(1 + r), 1 / r, or 1; with one relevant item the list is then worth its
NDCG@k, its reciprocal rank (cut at k), or 1 where the item stands in the first k places (hit@k)."""

Measure = Literal["ndcg", "log_probability"]
"""What scores are worth: the expected NDCG of lists drawn from them, or the mean log-probability of relevant items to
stand first."""

Estimator = Literal["exact", "pl_rank", "score_function"]
"""How the expected reward of a list, and its gradient, is found; see `thinkrank.policy.plackett_luce`."""

Credit = Literal["plgrad", "counterfactual", "list", "rank_return", "pointwise"]
"""What of a list's reward the tokens of one rationale get; see `thinkrank.policy.rationale_advantages`."""

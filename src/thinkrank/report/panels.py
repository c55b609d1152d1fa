"""Which figures of a training's log are drawn together, and what people call them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from thinkrank.report.facts import label


@dataclass(frozen=True)
class Panel:
    """Name what one plot shows.

    Attributes:
        title: what it shows.
        lines: key of the log → name of its line. The names of a panel that has one key are not shown.
        is_share: write values as percentages.
    """

    title: str
    lines: Mapping[str, str]
    is_share: bool = False


def _each(titles: Mapping[str, str], *, are_shares: bool = False) -> tuple[Panel, ...]:
    """Make a panel for each key."""
    return tuple(Panel(title, {key: title}, are_shares) for key, title in titles.items())


MORE = "More curves"
"""The group that is folded away."""

GROUPS: Mapping[str, tuple[Panel, ...]] = MappingProxyType(
    {
        "Validation": (
            Panel("NDCG@10", {"valid_ndcg@10": "no thought", "valid_thinking_ndcg@10": "thought first"}),
            Panel("Hit@10", {"valid_hit@10": "no thought", "valid_thinking_hit@10": "thought first"}),
            *_each({"valid_mrr@10": "MRR@10", "valid_log_likelihood": "log-likelihood of what was clicked"}),
            Panel("AUC of clicks", {"valid_auc": "over all places", "valid_auc_within_place": "within one place"}),
            *_each({"valid_calibration_error": "calibration error of clicks"}),
        ),
        "Reward": (
            *_each({"reward": "reward", "reward_ndcg": "NDCG part", "reward_similarity": "similarity part"}),
            Panel("tied groups", {"tied_share": "by reward", "same_rank_share": "by place"}, is_share=True),
        ),
        "Thoughts": (
            Panel("tokens per thought", {"thought_tokens": "sampled", "valid_thought_tokens": "greedy, validation"}),
            *_each({"closed_share": "closed thoughts"}, are_shares=True),
            *_each({"own_entropy": "entropy, nats", "token_kl": "KL to the start, nats"}),
        ),
        "Updates": (
            *_each({"loss": "loss", "thought_loss": "loss of thoughts"}),
            *_each({"token_loss": "loss of tokens", "item_loss": "loss of items"}),
            *_each({"item_cross_entropy": "cross-entropy of items", "line_loss": "loss at line ends"}),
            Panel("clipped", {"token_clip_share": "tokens", "item_clip_share": "items"}, is_share=True),
            *_each({"gradient_norm": "gradient norm"}),
        ),
        "Time": (
            Panel(
                "share of a step's time",
                {"share_sampling": "sampling", "share_scoring": "scoring", "share_update": "update"},
                is_share=True,
            ),
            *_each({"sampled_tokens_per_second": "tokens per second"}),
        ),
        MORE: (
            *_each({"learning_rate": "learning rate", "temperature": "temperature of scores"}),
            *_each({"group_spread": "spread within a group", "redrawn": "redrawn groups"}),
            *_each({"token_entropy": "entropy in the update, nats"}),
            Panel("probability ratio", {"token_ratio": "tokens", "item_ratio": "items"}),
            *_each({"token_importance_weight": "importance weight"}),
            Panel("age of item rows, steps", {"table_age_max": "oldest", "table_age_mean": "mean"}),
        ),
    }
)
"""Panels by group, in the order of the page."""


def grouped_panels(keys: Iterable[str]) -> dict[str, tuple[Panel, ...]]:
    """Return the groups, and "Other" for keys that none of them names: nothing is hidden for being unknown here."""
    known = {key for panels in GROUPS.values() for panel in panels for key in panel.lines}
    other = tuple(Panel(label(key), {key: key}) for key in keys if key not in known)
    named = {group: panels for group, panels in GROUPS.items() if group != MORE}
    return {**named, "Other": other, MORE: GROUPS[MORE]}

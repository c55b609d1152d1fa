"""What the report shows of single users: their past, the thought, the answer, and what they really did next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.splits import Samples
from thinkrank.stages.answers import Ranking, Thought


@dataclass(frozen=True)
class PastItem:
    """Show one interaction of a history. `when` is a date as text; both it and the rating may be unknown."""

    title: str
    when: str | None = None
    rating: float | None = None


@dataclass(frozen=True)
class RankedItem:
    """Show one recommended item, and whether it is the one the user took next."""

    title: str
    score: float
    is_target: bool = False


@dataclass(frozen=True)
class UserCase:
    """Show one user, from the history to the answer.

    Attributes:
        user: the user's id.
        past: the newest interactions, oldest first.
        past_length: how many interactions the history has in all.
        items: the best items, best first.
        target: title of what the user took next.
        target_rank: its 1-based place in the whole catalogue; None if it could not be recommended (already seen).
        thought: what the model wrote first; None if it did not think.
    """

    user: str
    past: Sequence[PastItem]
    past_length: int
    items: Sequence[RankedItem]
    target: str
    target_rank: int | None
    thought: Thought | None = None


def user_cases(
    samples: Samples, ranking: Ranking, ranks_S: Int64[np.ndarray, "S"], *, num_past: int = 10
) -> list[UserCase]:
    """Make a case of every one of some samples. Choose a few with `samples.subset` first.

    The ranking answers `samples.requests()` and is as wide as the lists shown; ranks are as `target_ranks` gives them.
    """
    catalogue, users = samples.dataset.catalogue, samples.dataset.users
    cases = []
    for row, sample in enumerate(samples):
        items = [
            RankedItem(catalogue.titles[item], float(score), item == sample.target)
            for item, score in zip(ranking.items_BK[row].tolist(), ranking.scores_BK[row].tolist(), strict=True)
            if item >= 0
        ]
        rank = int(ranks_S[row])
        case = UserCase(
            user=users[sample.user],
            past=past_items(sample.history, catalogue, num_past),
            past_length=len(sample.history),
            items=items,
            target=catalogue.titles[sample.target],
            target_rank=rank if rank <= len(catalogue) else None,
            thought=None if ranking.thoughts is None else ranking.thoughts[row],
        )
        cases.append(case)
    return cases


def past_items(history: History, catalogue: Catalogue, num_past: int) -> list[PastItem]:
    """List the newest interactions of a history, oldest first."""
    recent = history.last(num_past)
    return [
        PastItem(
            catalogue.titles[item],
            None if recent.times is None else _date(int(recent.times[i])),
            None if recent.ratings is None or np.isnan(recent.ratings[i]) else float(recent.ratings[i]),
        )
        for i, item in enumerate(recent.items.tolist())
    ]


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).date().isoformat()

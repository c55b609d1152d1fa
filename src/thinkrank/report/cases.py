"""What the report shows of single users: their past, the thought, the answer, and what they really did next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.splits import Samples
from thinkrank.evidence.claims import Claim, ClaimChecker, num_true
from thinkrank.evidence.reasons import Reasons
from thinkrank.stages.answers import Ranking, Thought


@dataclass(frozen=True)
class PastItem:
    """Show one interaction of a history. `when` is a date as text; both it and the rating may be unknown."""

    title: str
    when: str | None = None
    rating: float | None = None


@dataclass(frozen=True)
class RankedItem:
    """Show one recommended item.

    Attributes:
        title: of the item.
        score: it was ranked by.
        is_target: whether it is the one the user took next.
        reason: one sentence for it; empty if the counts are too small to tell, None if nothing was counted.
    """

    title: str
    score: float
    is_target: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class CheckedClaims:
    """Count what a text or some claim, and how much of it is true."""

    checked: int
    true: int

    @classmethod
    def of(cls, claims: Sequence[Claim]) -> "CheckedClaims":
        """Count claims."""
        return cls(len(claims), num_true(claims))


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
        reason_claims: of all reasons; None if nothing was counted.
        thought_claims: of the thought; None without one, or if nothing was counted.
    """

    user: str
    past: Sequence[PastItem]
    past_length: int
    items: Sequence[RankedItem]
    target: str
    target_rank: int | None
    thought: Thought | None = None
    reason_claims: CheckedClaims | None = None
    thought_claims: CheckedClaims | None = None


def user_cases(
    samples: Samples,
    ranking: Ranking,
    ranks_S: Int64[np.ndarray, "S"],
    *,
    num_past: int = 10,
    reasons: Reasons | None = None,
    num_reasons: int = 5,
) -> list[UserCase]:
    """Make a case of every one of some samples. Choose a few with `samples.subset` first.

    The ranking answers `samples.requests()` and is as wide as the lists shown; ranks are as `target_ranks` gives them.

    Args:
        samples: whose cases.
        ranking: what was recommended.
        ranks_S: places of the targets.
        num_past: newest interactions shown.
        reasons: the counts that reasons are told from and claims are checked by; None shows neither.
        num_reasons: how many of the first items get a reason, if there is one.
    """
    catalogue, users = samples.dataset.catalogue, samples.dataset.users
    checker = None if reasons is None else ClaimChecker(reasons)
    cases = []
    for row, sample in enumerate(samples):
        thought = None if ranking.thoughts is None else ranking.thoughts[row]
        told: dict[int, str] = {}
        claims: list[Claim] = []
        if reasons is not None and checker is not None:
            for item in ranking.items_BK[row, :num_reasons].tolist():
                found = reasons.reasons(sample.history, item, sample.user, most=1) if item >= 0 else []
                told[item] = found[0].text if found else ""
                claims += checker.claims(told[item], sample.history, item, sample.user)
        of_thought = None
        if checker is not None and thought is not None:
            of_thought = CheckedClaims.of(checker.claims(thought.text, sample.history, None, sample.user))
        items = [
            RankedItem(catalogue.titles[item], float(score), item == sample.target, told.get(item))
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
            thought=thought,
            reason_claims=None if checker is None else CheckedClaims.of(claims),
            thought_claims=of_thought,
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

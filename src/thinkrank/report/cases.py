"""What the report shows of single users: what was read, the thought, the answer, and what they really did next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.splits import Samples
from thinkrank.evidence.checking import TextChecker
from thinkrank.stages.answers import Check, Ranking, Thought


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
        check: what came of checking the reason; None if nobody did.
        came_from: its place in the list beside this one, from 1; 0 if it was not in that list, None without one.
    """

    title: str
    score: float
    is_target: bool = False
    reason: str | None = None
    check: Check | None = None
    came_from: int | None = None


@dataclass(frozen=True)
class UserCase:
    """Show one user, from the history to the answer.

    Attributes:
        user: the user's id.
        past: the interactions the model read, oldest first.
        past_length: how many interactions the history has in all.
        items: the best items, best first.
        target: title of what the user took next.
        target_rank: its 1-based place in the whole catalogue; None if it could not be recommended (already seen).
        thought: what the model wrote first, checked; None if it did not think.
        unthought: the best items of the same model without the thought; None if it did not think.
        unthought_rank: place of the target in these.
        among: how many candidates there were; None for the whole catalogue.
    """

    user: str
    past: Sequence[PastItem]
    past_length: int
    items: Sequence[RankedItem]
    target: str
    target_rank: int | None
    thought: Thought | None = None
    unthought: Sequence[RankedItem] | None = None
    unthought_rank: int | None = None
    among: int | None = None

    @property
    def checks(self) -> list[Check]:
        """List what came of checking the reasons."""
        return [item.check for item in self.items if item.check is not None]


def user_cases(
    samples: Samples,
    ranking: Ranking,
    ranks_S: Int64[np.ndarray, "S"],
    *,
    num_past: int | None = None,
    checker: TextChecker | None = None,
    num_reasons: int = 5,
    unthought: tuple[Ranking, Int64[np.ndarray, "S"]] | None = None,
    among: int | None = None,
) -> list[UserCase]:
    """Make a case of every one of some samples. Choose a few with `samples.subset` first.

    The ranking answers `samples.requests()` and is as wide as the lists shown; ranks are as `target_ranks` gives them.
    Reasons are the ranking's own, or else what the checker's counts say of the first items.

    Args:
        samples: whose cases.
        ranking: what was recommended.
        ranks_S: places of the targets.
        num_past: newest interactions shown: as many as the model reads; None for all.
        checker: tells reasons from its counts, and checks reasons and thoughts; None does neither.
        num_reasons: how many of the first items get a reason from the counts.
        unthought: what the same model answered without a thought, and the places of the targets there.
        among: how many candidates there were; None for the whole catalogue.
    """
    catalogue, users = samples.dataset.catalogue, samples.dataset.users
    if checker is not None:
        read = [history if num_past is None else history.last(num_past) for history in samples.histories()]
        ranking = checker.marked(ranking, read)
    cases = []
    for row, sample in enumerate(samples):
        told: Mapping[int, tuple[str, Check | None]] = {}
        items = [item for item in ranking.items_BK[row].tolist() if item >= 0]
        if ranking.reasons is not None:
            told = {item: (one.text, one.check) for item, one in zip(items, ranking.reasons[row], strict=True)}
        elif checker is not None:
            told = {item: _counted(checker, sample.history, item, sample.user) for item in items[:num_reasons]}
        case = UserCase(
            user=users[sample.user],
            past=past_items(sample.history, catalogue, num_past),
            past_length=len(sample.history),
            items=_items(catalogue, ranking, row, sample.target, told, unthought and unthought[0]),
            target=catalogue.titles[sample.target],
            target_rank=_place(int(ranks_S[row]), catalogue),
            thought=None if ranking.thoughts is None else ranking.thoughts[row],
            unthought=None if unthought is None else _items(catalogue, unthought[0], row, sample.target, {}, None),
            unthought_rank=None if unthought is None else _place(int(unthought[1][row]), catalogue),
            among=among,
        )
        cases.append(case)
    return cases


def past_items(history: History, catalogue: Catalogue, num_past: int | None) -> list[PastItem]:
    """List the newest interactions of a history, oldest first; all of them if no number is given."""
    recent = history if num_past is None else history.last(num_past)
    return [
        PastItem(
            catalogue.titles[item],
            None if recent.times is None else _date(int(recent.times[i])),
            None if recent.ratings is None or np.isnan(recent.ratings[i]) else float(recent.ratings[i]),
        )
        for i, item in enumerate(recent.items.tolist())
    ]


def _counted(checker: TextChecker, history: History, item: int, user: int) -> tuple[str, Check | None]:
    """Tell the best reason for an item from what was counted, and check it."""
    found = checker.claims.reasons.reasons(history, item, user, most=1)
    return (found[0].text, checker.check(found[0].text, history, item, user)) if found else ("", None)


def _items(
    catalogue: Catalogue,
    ranking: Ranking,
    row: int,
    target: int,
    told: Mapping[int, tuple[str, Check | None]],
    beside: Ranking | None,
) -> list[RankedItem]:
    others = None if beside is None else beside.items_BK[row].tolist()
    shown = []
    for item, score in zip(ranking.items_BK[row].tolist(), ranking.scores_BK[row].tolist(), strict=True):
        if item >= 0:
            reason, check = told.get(item, (None, None))
            place = None if others is None else others.index(item) + 1 if item in others else 0
            shown.append(RankedItem(catalogue.titles[item], float(score), item == target, reason, check, place))
    return shown


def _place(rank: int, catalogue: Catalogue) -> int | None:
    return rank if rank <= len(catalogue) else None


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).date().isoformat()

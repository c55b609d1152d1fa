"""Recommendations with their reasons, for people: counted in the train part, each claim checked."""

from collections.abc import Sequence
from typing import Any

from thinkrank.data import Catalogue, History, Samples, Split
from thinkrank.evidence import ClaimChecker, Reasons, TextChecker, num_true
from thinkrank.recipes.data import NOUNS, origin
from thinkrank.stages.answers import Ranking
from thinkrank.teachers.attributes import listed, plain

_NUM_PAST = 3


def counted_reasons(settings: Any, split: Any) -> Reasons | None:
    """Count a run's train part; None if its data is not interactions, or nothing of it may be counted.

    Args:
        settings: of the run.
        split: its data.
    """
    if not isinstance(split, Split) or not split.train_counts.any():
        return None
    return Reasons.of(split, NOUNS.get(origin(settings.data.source), "item"))


def checker_of(opened: Any) -> TextChecker:
    """Make what checks a run's texts: by what was counted in its train part, or else by the catalogue alone."""
    reasons = counted_reasons(opened.settings, opened.split)
    return TextChecker.of_catalogue(opened.model.catalogue) if reasons is None else TextChecker(reasons)


def checked(ranking: Ranking, model: Any, catalogue: Catalogue, histories: Sequence[History]) -> Ranking:
    """Check what an answer says against the catalogue and what its writer was shown; one without words as it is.

    Args:
        ranking: what was answered.
        model: that answered; its prompt tells how much of a history it reads.
        catalogue: whose rows the items are.
        histories: of whom, one per request.
    """
    if ranking.thoughts is None and ranking.reasons is None:
        return ranking
    prompt = getattr(getattr(model, "config", None), "prompt", None)
    shown = [history.last(prompt.history_window) if prompt else history for history in histories]
    return TextChecker.of_catalogue(catalogue, prompt.noun if prompt else "item").marked(ranking, shown)


def recommended_with_reasons(model: Any, samples: Samples, reasons: Reasons, *, k: int = 5, most: int = 2) -> str:
    """Recommend to the user of the first sample, and say why: text of some lines, ending in a newline.

    Args:
        model: a fitted retriever.
        samples: at least one.
        reasons: counts of the train part, see `counted_reasons`.
        k: items.
        most: reasons for each.
    """
    one, checker = samples[:1], ClaimChecker(reasons)
    sample, (history,) = one[0], one.histories()
    rows = model.retrieve(one.requests(), k).items_BK[0].tolist()
    past = [reasons.title(row) for row in history.last(_NUM_PAST).items.tolist()]
    lines, claims = (
        [f"User {one.dataset.users[sample.user]}, last seen with {listed(past) if past else 'nothing'}:"],
        [],
    )
    for place, row in enumerate((row for row in rows if row >= 0), start=1):
        lines.append(f"  {place}. {plain(one.dataset.catalogue.titles[row])}")
        for reason in reasons.reasons(history, row, sample.user, most=most):
            found = checker.claims(reason.text, history, row, sample.user)
            claims += found
            if num_true(found) == len(found):  # what claims something false is not shown
                lines.append(f"     {reason.text}")
    return "\n".join([*lines, f"  claims: checked {len(claims)}, true {num_true(claims)}", ""])

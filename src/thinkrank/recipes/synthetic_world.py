"""Figures that only a synthetic world can tell: the clicks to expect of any list, whatever was displayed."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from thinkrank.data import ListWorld, ListWorldOptions
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.evaluate import RerankingEvaluation, ResultRow, bootstrap_intervals
from thinkrank.evaluate.results import format_value
from thinkrank.evaluate.significance import paired_test

CLICKS = "expected clicks"
BEST = "best possible order"


def expected_click_rows(
    evaluation: RerankingEvaluation, lists: ImpressionDataset, split: str, seeds: Mapping[str, Sequence[int]]
) -> list[ResultRow]:
    """Compute the clicks to expect of the first places of every system's lists, and of the best there are.

    Args:
        evaluation: of the systems.
        lists: that they ordered.
        split: name for the rows.
        seeds: those each system was trained with.

    Returns:
        rows with intervals that resample users; none if the lists are of no synthetic world.
    """
    clicks = expected_clicks(evaluation, lists)
    rows = []
    for system, clicks_L in clicks.items():
        (interval,) = bootstrap_intervals(clicks_L[:, None], evaluation.users_S)
        metric = f"{CLICKS}@{max(evaluation.cutoffs)}"
        of = tuple(seeds.get(system, ()))
        row = ResultRow(
            dataset=lists.name, split=split, system=system, metric=metric, n=len(clicks_L), seeds=of, **vars(interval)
        )
        rows.append(row)
    return rows


def expected_clicks(evaluation: RerankingEvaluation, lists: ImpressionDataset) -> dict[str, Float64[np.ndarray, "L"]]:
    """Compute the same per list; empty if the lists are of no synthetic world, or not all of one length."""
    if lists.source.get("source") != "synthetic" or not bool(evaluation.mask_LN.all()):
        return {}
    world = ListWorld(ListWorldOptions.model_validate(lists.source["options"]))
    places = min(max(evaluation.cutoffs), lists.items_LN.shape[1])
    orders = {name: columns_LN[:, :places] for name, columns_LN in evaluation.columns_LN.items()}
    orders[BEST] = world.best_slots(lists, places).astype(np.int32)
    return {name: world.expected_clicks(lists, slots_LK) for name, slots_LK in orders.items()}


def told_clicks(evaluation: RerankingEvaluation, lists: ImpressionDataset, own: str, other: str) -> str:
    """Say how a system's lists compare with another's by expected clicks; empty if these are not known."""
    clicks = expected_clicks(evaluation, lists)
    if not clicks:
        return ""
    test = paired_test(clicks[own], clicks[other], evaluation.users_S)
    mine, theirs, best = (format_value(float(clicks[name].mean())) for name in (own, other, BEST))
    told = f"no sure difference from the {other}"
    if test.p_value is not None and test.p_value < 0.05:
        told = f"{'more' if test.difference.value > 0 else 'fewer'} than the {other}"
    return (
        f"In this synthetic world the clicks to expect of any list are known: {mine} for its lists, {told} ({theirs}); "
        f"the best possible lists have {best}."
    )

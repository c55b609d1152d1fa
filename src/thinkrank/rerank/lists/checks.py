"""What re-rankers accept, before anything is computed."""

from typing import Any

import numpy as np

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.stages.checks import check_candidates, check_histories


def checked_lists(requests: Any, candidates: Any, catalogue: Catalogue | None = None) -> tuple[Requests, Candidates]:
    """Accept requests and the candidates of each, or refuse them in one line.

    Args:
        requests: see `Requests.of`; histories that do not say whose rows they hold are in the candidates'.
        candidates: see `Candidates.of`.
        catalogue: whose rows the candidates are if they do not say so; None if the answer needs none.

    Raises:
        ThinkrankError: if they are of other types, differ in number, or hold what is no item, an item twice, padding
            between candidates or a feature that is not finite.
    """
    candidates = Candidates.of(candidates, catalogue)
    catalogue = catalogue if candidates.catalogue is None else candidates.catalogue
    requests = Requests.of(requests, catalogue)
    if len(requests) != len(candidates):
        raise ThinkrankError(f"{candidates.name}: {len(candidates)} candidate lists for {len(requests)} requests")
    if catalogue is not None:
        requests = requests.within(catalogue)
        check_candidates(candidates.items_BN, len(catalogue))
        check_histories(requests.histories, len(catalogue))
    mask_BN = candidates.mask_BN
    gap_B = (mask_BN[:, 1:] > mask_BN[:, :-1]).any(axis=1)
    if gap_B.any():
        raise ThinkrankError(f"list {int(gap_B.argmax())} has a gap: padding may only follow the candidates")
    for values, names in (
        (candidates.numeric_BNF, candidates.numeric_names),
        (requests.context_BX, requests.context_names),
    ):
        if values is not None and not np.isfinite(values).all():
            wrong = np.argwhere(~np.isfinite(values))[0]
            raise ThinkrankError(f"list {wrong[0]}: {names[wrong[-1]]} is not finite; fill it, and say so in another")
    return requests, candidates

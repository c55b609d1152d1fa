"""Whether an evaluator may be trusted with rewards: calibration, separation, and what it says of shuffled lists.

Reconstructed: the paper pre-trains its evaluator and uses it; how it was checked is not known.

Shape legend: M judged places, L lists.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from thinkrank import metrics
from thinkrank.options import Options
from thinkrank.rerank.eglr.config import REWARD_KINDS, RewardKind
from thinkrank.rerank.eglr.evaluator import Evaluator, place_rewards
from thinkrank.rerank.eglr.orders import along, displayed_places, ordered
from thinkrank.rerank.lists import TrainingBatch


class Bin(Options):
    """Count places whose predicted probabilities lie between two bounds."""

    low: float = Field(description="lower bound of the predictions, exclusive but for the first bin")
    high: float = Field(description="upper bound, inclusive")
    count: int = Field(description="places")
    predicted: float = Field(description="mean prediction")
    clicked: float = Field(description="share that was clicked")


class Worth(Options):
    """Tell what lists are worth to an evaluator, in three orders of the same items."""

    logged: float = Field(description="mean over lists as they were shown")
    shuffled: float = Field(description="in random order")
    clicked_first: float = Field(description="with the clicked items moved to the top")
    difference: float = Field(description="mean of logged minus shuffled, over lists with a click and a choice")
    difference_error: float = Field(description="its standard error, users as clusters; 0 with fewer than two lists")

    @property
    def passed(self) -> bool:
        """Tell whether logged lists are worth more than shuffled ones, by more than twice the standard error."""
        return self.difference > 2 * self.difference_error


class EvaluatorReport(Options):
    """Hold what was measured on held-out lists in the order in which they were shown."""

    lists: int = Field(description="judged")
    places: int = Field(description="judged")
    click_rate: float = Field(description="share of places that were clicked")
    log_loss: float = Field(description="mean binary cross-entropy, in nats")
    base_log_loss: float = Field(description="the same of predicting the click rate everywhere")
    auc: float | None = Field(
        description="chance that a clicked place is predicted above one that was not, ties half; none without both"
    )
    auc_within_place: float | None = Field(
        None,
        description="the same among equal places, of log-odds less their list's mean: at 0.5 the evaluator tells no "
        "candidates apart, whatever it knows of places, people and lists",
    )
    calibration_error: float = Field(description="expected calibration error: mean |predicted - clicked| over the bins")
    bins: tuple[Bin, ...] = Field(description="of equal width")
    worth: dict[RewardKind, Worth] = Field(description="for each kind of reward")


def mean_error(values_L: Float[Tensor, "L"], users_L: Int[Tensor, "L"]) -> float:
    """Return the standard error of a mean over lists, those of one user together; 0 with fewer than two lists.

    Where all are of one user, each stands alone.
    """
    if len(values_L) < 2:
        return 0.0
    users = users_L.cpu().numpy() if len(users_L.unique()) > 1 else None
    return float(metrics.mean_errors(values_L.double().cpu().numpy()[:, None], users)[0][0])


def auc_of(predictions_M: Float[Tensor, "M"], clicked_M: Bool[Tensor, "M"]) -> float | None:
    """Return the AUC of all places taken together; None if all were clicked or none was."""
    value = float(metrics.auc(predictions_M[None].cpu().numpy(), clicked_M[None].cpu().numpy())[0])
    return None if math.isnan(value) else value


def auc_within(
    predictions_M: Float[Tensor, "M"], clicked_M: Bool[Tensor, "M"], groups_M: Int[Tensor, "M"]
) -> float | None:
    """Return the AUC over the pairs of one group alone, all of these pairs counted alike; None if there is no pair."""
    concordant, pairs = 0.0, 0
    for group in groups_M.unique():
        inside = groups_M == group
        value = auc_of(predictions_M[inside], clicked_M[inside])
        if value is not None:
            positives = int(clicked_M[inside].sum())
            count = positives * (int(inside.sum()) - positives)
            concordant, pairs = concordant + value * count, pairs + count
    return concordant / pairs if pairs else None


def calibration(
    predictions_M: Float[Tensor, "M"], clicked_M: Bool[Tensor, "M"], num_bins: int = 10
) -> tuple[float, tuple[Bin, ...]]:
    """Return the expected calibration error, Σ_b (n_b / M) |mean prediction_b - click rate_b|, and its bins.

    Bins are of equal width from 0 to 1; empty ones are left out.

    Source: Guo et al. 2017, "On calibration of modern neural networks".
    """
    places = (predictions_M.double() * num_bins).ceil().long().clamp(1, num_bins) - 1
    error, bins = 0.0, []
    for index in range(num_bins):
        inside = places == index
        count = int(inside.sum())
        if count:
            predicted = float(predictions_M[inside].double().mean())
            clicked = float(clicked_M[inside].double().mean())
            error += count / len(places) * abs(predicted - clicked)
            low, high = index / num_bins, (index + 1) / num_bins
            bins.append(Bin(low=low, high=high, count=count, predicted=predicted, clicked=clicked))
    return error, tuple(bins)


@torch.no_grad()
def evaluator_report(
    evaluator: Evaluator,
    lists: Iterable[TrainingBatch],
    *,
    length: int | None = None,
    slate_length: int | None = None,
    seed: int = 0,
    users_L: Int[Tensor, "L"] | None = None,
) -> EvaluatorReport:
    """Judge held-out lists as they were shown, shuffled, and with the clicked items first.

    Args:
        evaluator: put into evaluation mode by this.
        lists: batches of at least one list.
        length: places whose clicks are predicted; of a longer list the first ones. None: all.
        slate_length: places that worth is measured on, in each of the three orders; None: all.
        seed: of the shuffling.
        users_L: whose each list is; None for what the batches say, which may be codes of known users alone.

    Raises:
        ValueError: if there are no lists.
    """
    evaluator.eval()
    random = torch.Generator().manual_seed(seed)
    predictions, apart, clicks, places, worths, users = [], [], [], [], [], []
    for batch in lists:
        joint_BNE, clicked_BN = evaluator.joint(batch), batch.feedback_BN > 0
        shown_BN = displayed_places(batch.mask_BN)
        columns_BK = ordered(shown_BN, batch.mask_BN, length)
        there_BK = columns_BK >= 0
        chances_BK = evaluator.probabilities(joint_BNE, columns_BK)
        predictions.append(chances_BK[there_BK])
        odds_BK = chances_BK.double().logit(eps=1e-7) * there_BK
        centred_BK = odds_BK - odds_BK.sum(dim=1, keepdim=True) / there_BK.sum(dim=1, keepdim=True)
        apart.append(centred_BK[there_BK].round(decimals=4))  # less than that is the noise of single precision
        clicks.append(along(columns_BK, clicked_BN.float())[columns_BK >= 0] > 0)
        places.append((columns_BK >= 0).nonzero()[:, 1])
        shuffled_BN = torch.rand(shown_BN.shape, generator=random).to(joint_BNE.device)
        tells_B = clicked_BN.any(dim=1) & (batch.mask_BN.sum(dim=1) > 1)
        values = [tells_B.double()]
        for keys_BN in (shown_BN, shuffled_BN, shown_BN - 1e6 * clicked_BN):
            columns_BK = ordered(keys_BN, batch.mask_BN, slate_length)
            chances_BK, lengths_B = evaluator.probabilities(joint_BNE, columns_BK), (columns_BK >= 0).sum(dim=1)
            values += [place_rewards(chances_BK, kind, lengths_B).sum(dim=1).double() for kind in REWARD_KINDS]
        worths.append(torch.stack(values))
        users.append(batch.users_B)
    if not worths:
        raise ValueError("an evaluator is judged by at least one list")
    predictions_M, clicked_M = torch.cat(predictions), torch.cat(clicks)
    tells_L, *values_L = torch.cat(worths, dim=1)
    orders = [values_L[start : start + len(REWARD_KINDS)] for start in range(0, len(values_L), len(REWARD_KINDS))]
    users_L = (torch.cat(users) if users_L is None else users_L).to(tells_L.device)
    rate = clicked_M.double().mean()
    error, bins = calibration(predictions_M, clicked_M)
    return EvaluatorReport(
        lists=len(tells_L),
        places=len(clicked_M),
        click_rate=float(rate),
        log_loss=_log_loss(predictions_M.double(), clicked_M),
        base_log_loss=_log_loss(rate.expand(len(clicked_M)), clicked_M),
        auc=auc_of(predictions_M, clicked_M),
        auc_within_place=auc_within(torch.cat(apart), clicked_M, torch.cat(places)),
        calibration_error=error,
        bins=bins,
        worth={
            kind: _worth(users_L, tells_L.bool(), *of)
            for kind, of in zip(REWARD_KINDS, zip(*orders, strict=True), strict=True)
        },
    )


def _worth(users_L: Tensor, tells_L: Tensor, logged_L: Tensor, shuffled_L: Tensor, clicked_first_L: Tensor) -> Worth:
    difference_D = (logged_L - shuffled_L)[tells_L]
    return Worth(
        logged=float(logged_L.mean()),
        shuffled=float(shuffled_L.mean()),
        clicked_first=float(clicked_first_L.mean()),
        difference=float(difference_D.mean()) if len(difference_D) else 0.0,
        difference_error=mean_error(difference_D, users_L[tells_L]),
    )


def _log_loss(predictions_M: Tensor, clicked_M: Tensor) -> float:
    right_M = torch.where(clicked_M, predictions_M, 1 - predictions_M)
    return float(-right_M.clamp(min=1e-12).log().mean())

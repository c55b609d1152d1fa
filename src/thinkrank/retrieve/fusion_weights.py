"""Weights of a sum of scores: the likeliest, and those that bring the targets furthest up.

Shape legend: B samples, I items of the catalogue, K columns.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int

_STEPS = 100
_WIDTH = 0.1
"""In nats: how far apart two scores are that count as hardly tied, where an order is made smooth."""


def conditional_logit(
    columns_BKI: Float32[np.ndarray, "B K I"],
    competes_BI: Bool[np.ndarray, "B I"],
    targets_B: Int[np.ndarray, "B"],
    is_newcomer_B: Bool[np.ndarray, "B"],
    *,
    ridge: float,
    newcomer_ridge: float,
) -> tuple[Float32[np.ndarray, "2 K"], float]:
    """Find the weights under which the targets are likeliest among all that compete, penalties included.

    Returns:
        the weights of users with a history and of newcomers, and the mean loss with the penalties.

    Source: McFadden 1974, conditional logit; the penalties are ours.
    """
    columns = torch.from_numpy(columns_BKI)
    kept_BI, targets = torch.from_numpy(competes_BI), torch.from_numpy(targets_B.astype(np.int64))
    newcomer_B = torch.from_numpy(is_newcomer_B)
    weights_2K = torch.zeros(2, columns.shape[1], requires_grad=True)  # of all, and what newcomers add to them
    optimizer = torch.optim.LBFGS(
        [weights_2K], max_iter=_STEPS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        weights_BK = weights_2K[0] + newcomer_B[:, None] * weights_2K[1]
        scores_BI = torch.einsum("bki,bk->bi", columns, weights_BK).masked_fill(~kept_BI, -torch.inf)
        value = -scores_BI.log_softmax(dim=1).gather(1, targets[:, None]).mean()
        value = value + ridge * (weights_2K[0] ** 2).sum() + newcomer_ridge * (weights_2K[1] ** 2).sum()
        value.backward()
        return value.item()

    optimizer.step(loss)
    least = loss()
    shared_K, more_K = weights_2K.detach()
    return torch.stack([shared_K, shared_K + more_K]).numpy(), least


def sharpened(
    columns_BKI: Float32[np.ndarray, "B K I"],
    competes_BI: Bool[np.ndarray, "B I"],
    targets_B: Int[np.ndarray, "B"],
    is_newcomer_B: Bool[np.ndarray, "B"],
    weights_2K: Float32[np.ndarray, "2 K"],
) -> Float32[np.ndarray, "2 K"]:
    """Turn weights so that the targets' NDCG without cut-off, made smooth, is highest; how long they are stays.

    The likeliest weights answer for every item of the catalogue, the order is judged by its first few: where the signal
    is sparse the two differ much. Newcomers' deviation stays as it was.

    Source: Qin, Liu and Li 2010 (ApproxNDCG), of one relevant item.
    """
    columns, targets = torch.from_numpy(columns_BKI), torch.from_numpy(targets_B.astype(np.int64))
    kept_BI, newcomer_B1 = torch.from_numpy(competes_BI), torch.from_numpy(is_newcomer_B)[:, None]
    start_K, more_K = torch.from_numpy(weights_2K[0]), torch.from_numpy(weights_2K[1] - weights_2K[0])
    length = start_K.norm()
    if not length:
        return weights_2K
    turned_K = start_K.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([turned_K], max_iter=_STEPS, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def weights() -> torch.Tensor:
        return length * turned_K / turned_K.norm()

    def loss() -> float:
        optimizer.zero_grad()
        scores_BI = torch.einsum("bki,bk->bi", columns, weights() + newcomer_B1 * more_K)
        above_BI = torch.sigmoid((scores_BI - scores_BI.gather(1, targets[:, None])) / _WIDTH)
        places_B = 0.5 + above_BI.masked_fill(~kept_BI, 0).sum(dim=1)  # the target itself is half above itself
        value = -(1 / torch.log2(1 + places_B)).mean()
        value.backward()
        return value.item()

    optimizer.step(loss)
    found_K = weights().detach()
    return torch.stack([found_K, found_K + more_K]).numpy()

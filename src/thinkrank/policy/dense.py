"""What a thought adds to the log-probability of the item that was chosen next.

A place in a list says nothing between rank 100 and rank 150, and a probability says nothing where it is small; the
log-probability tells every thought from its siblings.

Shape legend: B users, G rollouts, I items of the catalogue.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.policy._checks import at_least_fp32, check_matrix, check_shapes


def gain_reward(
    logprobs: Float[Tensor, "*shape"], without: Float[Tensor, "*shape"], limit: float
) -> Float[Tensor, "*shape"]:
    """Compute what an answer gained by its thought: log p(target | thought) - log p(target), cut to ±limit.

    Args:
        logprobs: of the target after each thought, in nats.
        without: of the target in the answer without a thought.
        limit: the largest gain or loss, in nats.

    Raises:
        ValueError: if the limit is not positive, or the shapes differ.

    Source: ours; log-probability as a reward: arXiv 2602.03979.
    """
    if limit <= 0:
        raise ValueError(f"the limit of a gain must be positive, got {limit}")
    check_shapes(logprobs.shape, without=without)
    return (at_least_fp32(logprobs) - at_least_fp32(without)).clamp(-limit, limit)


def log_mean(logprobs_BG: Float[Tensor, "B G"]) -> Float[Tensor, "B"]:
    """Compute the logarithm of the mean probability of each group: log((1 / G) Σ_g p_bg), in nats; differentiable.

    Minus its sum is the loss of an answer that is a mean over thoughts. Its gradient weighs each thought's own
    -log p by p_g / Σ_h p_h, so thoughts that lead elsewhere hardly train the item head.

    Args:
        logprobs_BG: of the target after each thought, in nats.

    Raises:
        ValueError: if it is no matrix.
    """
    _, num_rollouts = check_matrix("logprobs", logprobs_BG)
    return at_least_fp32(logprobs_BG).logsumexp(dim=1) - math.log(num_rollouts)


def marginal_reward(logprobs_BG: Float[Tensor, "B G"]) -> Float[Tensor, "B G"]:
    """Compute each thought's marginal contribution to the log-mean: log mean_h p_bh - log mean_{h != g} p_bh.

    What the siblings reach without a thought does not depend on it, so this is an advantage as it stands: with the
    gradient of `log_mean` through the answer, the expected gradient is that of E[log mean p] in both ways.

    Args:
        logprobs_BG: of the target after each thought, in nats.

    Raises:
        ValueError: with fewer than two rollouts, or a log-probability that is not finite.

    Source: the leave-one-out objective of VIMCO (Mnih and Rezende 2016), here without its geometric mean.
    """
    _, num_rollouts = check_matrix("logprobs", logprobs_BG)
    if num_rollouts < 2:
        raise ValueError(f"leaving one out needs at least 2 rollouts per prompt, got {num_rollouts}")
    if not bool(logprobs_BG.isfinite().all()):
        raise ValueError("log-probabilities must be finite; leave out the prompt")
    logprobs_BG = at_least_fp32(logprobs_BG)
    itself_GG = torch.eye(num_rollouts, dtype=torch.bool, device=logprobs_BG.device)
    others_BGG = logprobs_BG[:, None].expand(-1, num_rollouts, -1).masked_fill(itself_GG, -torch.inf)
    others_BG = others_BGG.logsumexp(dim=2) - math.log(num_rollouts - 1)
    return log_mean(logprobs_BG)[:, None] - others_BG


def distillation_loss(scores_BGI: Float[Tensor, "B G I"], answers_BI: Float[Tensor, "B I"]) -> Float[Tensor, "B"]:
    """Compute KL(mean over thoughts || answer without one) over the items, in nats.

    The answer with thoughts is the mean of probabilities, Σ_g softmax(s_bg) / G, and a fixed target: the gradient flows
    into the answer without a thought alone.

    Args:
        scores_BGI: after each thought; -inf for items left out, which must be the same in all of a row.
        answers_BI: without a thought; -inf for the same items.

    Raises:
        ValueError: if shapes differ.

    Source: ours.
    """
    num_users, num_items = check_matrix("answers", answers_BI)
    check_shapes((num_users, *scores_BGI.shape[1:2], num_items), scores=scores_BGI)
    logs_BGI = at_least_fp32(scores_BGI.detach()).log_softmax(dim=2)
    target_BI = logs_BGI.logsumexp(dim=1) - math.log(scores_BGI.shape[1])
    answer_BI = at_least_fp32(answers_BI).log_softmax(dim=1)
    left_out_BI = target_BI.isneginf()
    difference_BI = target_BI.masked_fill(left_out_BI, 0.0) - answer_BI.masked_fill(left_out_BI, 0.0)
    return (target_BI.exp() * difference_BI).sum(dim=1)

"""What reinforcement compares and makes small: pure functions of what was written and how it was judged.

Reconstructed, but for GRPO itself: the reward's form, the replay with recorded thoughts, the divergence from the warm
start, and all numbers.

Shape legend: R lists, G of which belong to one request, K places, V validation lists.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.policy import Surrogate, clipped_surrogate, denominators, grpo_advantages, tied_groups
from thinkrank.rerank.eglr.decoding import Replayed, Written
from thinkrank.rerank.eglr.options import GrpoOptions
from thinkrank.rerank.eglr.report import mean_error


def returns_to_go(rewards_RK: Float[Tensor, "R K"], gamma: float) -> Float[Tensor, "R K"]:
    """Return what came of a list from each place on: G_k = r_k + γ G_{k+1}.

    Source: reconstructed; the author's earlier generator, a fork of LibRerank, is rewarded this way.
    """
    returns = [rewards_RK[:, -1]]
    for place in range(rewards_RK.shape[1] - 2, -1, -1):
        returns.append(rewards_RK[:, place] + gamma * returns[-1])
    return torch.stack(returns[::-1], dim=1)


def compare(rewards_RK: Float[Tensor, "R K"], options: GrpoOptions) -> tuple[Float[Tensor, "R K"], Bool[Tensor, "R K"]]:
    """Compare the lists of each request, as wholes or at each place by what came from there on.

    Args:
        rewards_RK: what each place adds to the worth of its list; `options.group_size` lists of a request follow one
            another.
        options: how to compare.

    Returns:
        Advantages of every choice within its group, and False where a group ties and has nothing to say.
    """
    places = rewards_RK.shape[1]
    if options.advantage == "list":
        returns_RK = rewards_RK.sum(dim=1, keepdim=True)
    else:
        returns_RK = returns_to_go(rewards_RK, options.gamma)
    groups_XG = returns_RK.T.reshape(-1, options.group_size)  # a group per place and request, or per request
    advantages_XG = grpo_advantages(groups_XG, epsilon=options.advantage_epsilon)
    tells_XG = ~tied_groups(groups_XG)[:, None].expand_as(groups_XG)
    advantages_RK, tells_RK = (values.reshape(returns_RK.T.shape).T for values in (advantages_XG, tells_XG))
    return advantages_RK.expand(-1, places), tells_RK.expand(-1, places)


def objective(
    replayed: Replayed,
    written: Written,
    reference: Written,
    advantages_RK: Float[Tensor, "R K"],
    counts_RK: Bool[Tensor, "R K"],
    options: GrpoOptions,
) -> Surrogate:
    """Return the clipped loss: a mean over choices, each of which is a sequence of one token to `clipped_surrogate`.

    `written` and `reference` are the lists of `replayed` under the weights that wrote them and those at the start;
    `counts_RK` is False for choices that say nothing.
    """
    flat = (replayed.logprobs_RK, written.logprobs_RK, reference.logprobs_RK, replayed.choice_entropies_RK)
    logprobs_X1, old_X1, reference_X1, entropies_X1 = (values.reshape(-1, 1) for values in flat)
    return clipped_surrogate(
        logprobs_X1,
        old_X1,
        advantages_RK.flatten().to(logprobs_X1.dtype),
        counts_RK.reshape(-1, 1),
        denominators_B=denominators(counts_RK.flatten().int(), "token"),
        clip_low=options.clip_low,
        clip_high=options.clip_high,
        reference_logprobs_BT=reference_X1,
        kl_coefficient=options.kl_coefficient,
        entropies_BT=entropies_X1,
        entropy_coefficient=options.entropy_coefficient,
    )


def is_exploited(rise_V: Float[Tensor, "V"], fall_V: Float[Tensor, "V"], users_V: Int[Tensor, "V"]) -> bool:
    """Say whether rewards rose and NDCG by clicks fell since the start, each by over twice its standard error."""
    return _beyond_noise(rise_V, users_V) and _beyond_noise(fall_V, users_V)


def _beyond_noise(values_V: Float[Tensor, "V"], users_V: Int[Tensor, "V"]) -> bool:
    """Say whether a mean is above 0 by more than twice its standard error."""
    return len(values_V) > 1 and bool(values_V.mean() > 2 * mean_error(values_V, users_V)) and bool(values_V.mean() > 0)

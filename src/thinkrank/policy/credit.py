"""From the reward of a list to what each rationale behind it is to be praised for.

Every candidate of a list was reasoned about on its own, G times, and each rationale ended in one score. List g takes
rationale g of every candidate; candidates are independent, so that is a sample of lists as good as any other pairing.

Shape legend: B users, G rationales per candidate, N candidates, L lists, M sampled permutations.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from thinkrank.policy import plackett_luce
from thinkrank.policy._checks import at_least_fp32, check_shapes
from thinkrank.policy.advantages import rloo_advantages
from thinkrank.policy.options import Credit, Discount, Estimator, Measure


@dataclass(frozen=True)
class ListReward:
    """The expected NDCG of lists whose order is drawn from their scores, or another measure, and how it is found.

    Args:
        measure: "ndcg", or "log_probability" of the relevant item to stand first, see `plackett_luce.log_first`, which
            is no expectation over orders, so no estimator samples it and no place is cut off.
        temperature: τ of the Plackett–Luce distribution, in the unit of the scores.
        k: cut-off of the reward; None for the whole list, where no place is worth nothing.
        discount: what a place is worth.
        estimator: "exact"; "pl_rank" and "score_function" sample.
        num_samples: M permutations of each list, for those that sample; "score_function" needs at least 2 to learn.

    Raises:
        ValueError: if a number is out of its range.

    Source: R2Rank has sampled permutations and NDCG; the rest is reconstructed.
    """

    temperature: float = 1.0
    k: int | None = None
    discount: Discount = "log2"
    measure: Measure = "ndcg"
    estimator: Estimator = "exact"
    num_samples: int = 32

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.num_samples < 1 or (self.k is not None and self.k < 1):
            raise ValueError(f"temperature must be positive, num_samples and k at least 1, got {self}")
        if self.measure == "log_probability" and (self.k is not None or self.estimator != "exact"):
            raise ValueError(f'measure "log_probability" knows neither a cut-off k nor sampled lists, got {self}')

    def expected(
        self,
        scores_LN: Float[Tensor, "L N"],
        gains_LN: Float[Tensor, "L N"],
        mask_LN: Bool[Tensor, "L N"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "L"]:
        """Estimate the reward of each list, to be differentiated by the scores; value and gradient are unbiased.

        Args:
            scores_LN: higher stands earlier.
            gains_LN: what each candidate is worth, at least 0: 1 for the relevant one, 0 for the others and padding.
            mask_LN: False at padding.
            generator: of the permutations; not needed for "exact".

        Raises:
            ValueError: as the functions of `plackett_luce`, or if there is nothing to sample with.
        """
        if self.measure == "log_probability":
            return plackett_luce.log_first(scores_LN, gains_LN, self.temperature, mask_BN=mask_LN)
        if self.estimator == "exact":
            return plackett_luce.expected_graded_ndcg(
                scores_LN, gains_LN, self.temperature, k=self.k, discount=self.discount, mask_BN=mask_LN
            )
        permutations_MLN = self.permutations(scores_LN.detach(), mask_LN, generator)
        if self.estimator == "pl_rank":
            return plackett_luce.pl_rank_estimate(
                scores_LN,
                permutations_MLN,
                gains_LN,
                temperature=self.temperature,
                k=self.k,
                discount=self.discount,
                mask_BN=mask_LN,
            )
        rewards_ML = plackett_luce.ndcg_of_permutations(permutations_MLN, gains_LN, self.k, discount=self.discount)
        return plackett_luce.score_function_estimate(
            scores_LN, permutations_MLN, rewards_ML, temperature=self.temperature, k=self.k, mask_BN=mask_LN
        )

    @torch.no_grad()
    def value(
        self,
        scores_LN: Float[Tensor, "L N"],
        gains_LN: Float[Tensor, "L N"],
        mask_LN: Bool[Tensor, "L N"] | None = None,
        generator: torch.Generator | None = None,
        *,
        lists_per_noise: int = 1,
    ) -> Float[Tensor, "L"]:
        """Estimate the reward of each list, not to be differentiated; one sample is enough.

        Arguments, raises: as `expected` and `permutations`.
        """
        if self.estimator == "exact":
            return self.expected(scores_LN, gains_LN, mask_LN)
        permutations_MLN = self.permutations(scores_LN, mask_LN, generator, lists_per_noise=lists_per_noise)
        rewards_ML = plackett_luce.ndcg_of_permutations(permutations_MLN, gains_LN, self.k, discount=self.discount)
        return rewards_ML.mean(dim=0)

    def permutations(
        self,
        scores_LN: Float[Tensor, "L N"],
        mask_LN: Bool[Tensor, "L N"] | None,
        generator: torch.Generator | None,
        *,
        lists_per_noise: int = 1,
    ) -> Int[Tensor, "M L N"]:
        """Draw M permutations of every list.

        Args:
            scores_LN: what they are drawn from.
            mask_LN: False at padding.
            generator: of the noise.
            lists_per_noise: so many neighbouring lists share their noise, which makes their differences precise.

        Raises:
            ValueError: without a generator, and as `plackett_luce.order`.
        """
        if generator is None:
            raise ValueError("sampling permutations needs a generator; the exact estimator does not")
        num_lists, num_candidates = scores_LN.shape
        shape = (self.num_samples, num_lists // lists_per_noise, num_candidates)
        noise = plackett_luce.gumbel_noise(shape, generator, at_least_fp32(scores_LN))
        noise_MLN = noise.repeat_interleave(lists_per_noise, dim=1)
        return plackett_luce.order(scores_LN, noise_MLN, temperature=self.temperature, mask_BN=mask_LN)


def rationale_advantages(
    scores_BGN: Float[Tensor, "B G N"],
    gains_BN: Float[Tensor, "B N"],
    reward: ListReward = ListReward(),
    *,
    credit: Credit = "plgrad",
    baseline_BN: Float[Tensor, "B N"] | None = None,
    mask_BN: Bool[Tensor, "B N"] | None = None,
    generator: torch.Generator | None = None,
    normalise: bool = True,
    clip: float | None = 5.0,
) -> Float[Tensor, "B G N"]:
    """Compute one advantage per rationale, to multiply its tokens' log-probabilities with. No gradient flows.

    Every credit compares a rationale with its siblings, the other rationales about the same candidate, so it sums to 0
    over them. With s the scores, loo the mean over the siblings and E the (expected) reward of a list:

    - "plgrad": c_i (s_i^g - loo s_i), where c_i = ∂E/∂s_i is averaged over the G lists: the list reward carried back
      through the score. To first order it is "counterfactual", for a fraction of the arithmetic;
    - "counterfactual": the reward with this score in place of the candidate's minus that with its siblings' scores,
      averaged over the G lists as company: the marginal contribution. Unbiased; G² N lists of arithmetic for a user.
      Where permutations are sampled, all lists that are compared share their noise;
    - "list": E of the list that the rationale is in, for every candidate alike. The policy gradient as one writes it
      down: unbiased, and as noisy as the other N - 1 candidates make it;
    - "rank_return": the sampled reward from the candidate's own place on. Kept as a warning: a NEGATIVE that stands
      above the positive is the better paid for standing there, and nothing is learnt. It samples with every estimator
      but "exact", which it refuses;
    - "pointwise": log σ(s / τ) for a candidate with a gain, log σ(-s / τ) for the others: the reward of a classifier
      (binary cross-entropy), blind to the rest of the list. A control.

    Args:
        scores_BGN: as the policy that wrote the rationales gave them.
        gains_BN: what each candidate is worth, at least 0: 1 for the relevant one, 0 for the others and padding.
        reward: what a list is worth.
        credit: which of the five.
        baseline_BN: a score of each candidate from before its rationale was written, to stand in for the siblings; with
            one rationale it must. For "plgrad", "counterfactual" and "pointwise".
        mask_BN: False at padding, whose advantage is 0.
        generator: for what samples permutations.
        normalise: divide by the root mean square over all real rationales of this call, which is their standard
            deviation, for their mean is 0. Not per candidate: most negatives hardly matter, and should not.
        clip: cut at ± this, after that; None does not.

    Raises:
        ValueError: if shapes differ, a score is not finite, there are neither siblings nor a baseline, the credit knows
            no baseline, or a generator is missing.

    Source: reconstructed. R2Rank says rank-level credit through the Plackett–Luce surrogate, without an equation.
    "counterfactual" is akin to the swap reward of FlexRec (2026).
    """
    scores_BGN, mask_BN = _checked(scores_BGN.detach(), gains_BN, mask_BN)
    check_shapes(mask_BN.shape, baseline=baseline_BN)
    if baseline_BN is not None:
        if credit not in ("plgrad", "counterfactual", "pointwise"):
            raise ValueError(f'credit "{credit}" does not compare scores; leave baseline_BN away')
        baseline_BN = at_least_fp32(baseline_BN.detach()).masked_fill(~mask_BN, 0.0)
    elif scores_BGN.shape[1] < 2:
        raise ValueError("one rationale has no siblings: give baseline_BN, or write at least 2 per candidate")
    match credit:
        case "plgrad":
            slopes_BN = score_gradients(scores_BGN, gains_BN, reward, mask_BN=mask_BN, generator=generator)
            advantages_BGN = slopes_BN[:, None] * _against_siblings(scores_BGN, baseline_BN)
        case "counterfactual":
            advantages_BGN = _counterfactual(scores_BGN, gains_BN, reward, baseline_BN, mask_BN, generator)
        case "list":
            rewards_BG = reward.value(*_as_lists(scores_BGN, gains_BN, mask_BN), generator).view(scores_BGN.shape[:2])
            advantages_BGN = rloo_advantages(rewards_BG)[..., None].expand_as(scores_BGN)
        case "rank_return":
            advantages_BGN = _against_siblings(_rank_returns(scores_BGN, gains_BN, reward, mask_BN, generator), None)
        case "pointwise":
            signs_BN = torch.where(gains_BN > 0, 1.0, -1.0) / reward.temperature
            advantages_BGN = _against_siblings(
                logsigmoid(signs_BN[:, None] * scores_BGN),
                None if baseline_BN is None else logsigmoid(signs_BN * baseline_BN),
            )
    advantages_BGN = advantages_BGN.masked_fill(~mask_BN[:, None], 0.0)
    if normalise:
        num_real = (mask_BN.sum() * scores_BGN.shape[1]).clamp(min=1)
        advantages_BGN = advantages_BGN / ((advantages_BGN.square().sum() / num_real).sqrt() + 1e-8)
    return advantages_BGN if clip is None else advantages_BGN.clamp(-clip, clip)


def pointwise_loss(
    scores_BGN: Float[Tensor, "B G N"], gains_BN: Float[Tensor, "B N"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Compute the loss of a classifier of pairs, blind to lists: minus the mean of credit "pointwise" over all pairs.

    Binary cross-entropy: -log σ(s / τ) for a candidate with a gain, -log σ(-s / τ) for the others.

    Args:
        scores_BGN: log-odds times τ; the gradient flows here.
        gains_BN: above 0 for what is relevant.
        temperature: τ.
    """
    signs_BN = torch.where(gains_BN > 0, 1.0, -1.0) / temperature
    return -logsigmoid(signs_BN[:, None] * at_least_fp32(scores_BGN)).mean()


def score_gradients(
    scores_BGN: Float[Tensor, "B G N"],
    gains_BN: Float[Tensor, "B N"],
    reward: ListReward = ListReward(),
    *,
    mask_BN: Bool[Tensor, "B N"] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "B N"]:
    """Compute c_i = ∂E[R] / ∂s_i, averaged over the G lists: what a higher score of each candidate would be worth.

    Sums to 0 over the candidates. With one relevant candidate and the exact estimator its c is positive and every other
    one is not.

    Arguments, raises: as `rationale_advantages`; one rationale is enough.
    """
    scores_BGN, mask_BN = _checked(scores_BGN.detach(), gains_BN, mask_BN)
    scores_LN, gains_LN, mask_LN = _as_lists(scores_BGN, gains_BN, mask_BN)
    with torch.enable_grad():
        scores_LN.requires_grad_()
        (slopes_LN,) = torch.autograd.grad(reward.expected(scores_LN, gains_LN, mask_LN, generator).sum(), scores_LN)
    return slopes_LN.view(scores_BGN.shape).mean(dim=1)


def head_surrogate(
    scores_BGN: Float[Tensor, "B G N"],
    gains_BN: Float[Tensor, "B N"],
    reward: ListReward = ListReward(),
    *,
    mask_BN: Bool[Tensor, "B N"] | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Compute the loss of the scoring head: -E[R], mean over users and lists.

    REINFORCE on permutations, or its expectation. Permutations are drawn anew from these very scores, so every update
    is on-policy.

    Arguments, raises: as `rationale_advantages`; one rationale is enough. The scores are as the head gives them now;
    the gradient flows there, and into the backbone unless they were computed from detached states.

    Source: R2Rank (REINFORCE for the head); leave-one-out baseline and the other estimators are ours.
    """
    scores_BGN, mask_BN = _checked(scores_BGN, gains_BN, mask_BN)
    return -reward.expected(*_as_lists(scores_BGN, gains_BN, mask_BN), generator).mean()


def _checked(scores_BGN: Tensor, gains_BN: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor]:
    """Check scores; return them in fp32 or better, 0 at padding, and a mask in any case."""
    if scores_BGN.ndim != 3:
        raise ValueError(f"scores must have shape (users, rationales, candidates), got {tuple(scores_BGN.shape)}")
    shape = (scores_BGN.shape[0], scores_BGN.shape[2])
    check_shapes(shape, gains=gains_BN, mask=mask_BN)
    if mask_BN is None:
        mask_BN = torch.ones(shape, dtype=torch.bool, device=scores_BGN.device)
    scores_BGN = at_least_fp32(scores_BGN).masked_fill(~mask_BN[:, None], 0.0)
    if not bool(scores_BGN.isfinite().all()):
        raise ValueError("scores must be finite; mask what cannot be ranked")
    return scores_BGN, mask_BN


def _as_lists(scores_BGN: Tensor, gains_BN: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Flatten into B times G lists, with the gains and the mask of each."""
    num_rationales = scores_BGN.shape[1]
    return (
        scores_BGN.flatten(0, 1),
        gains_BN.repeat_interleave(num_rationales, dim=0),
        mask_BN.repeat_interleave(num_rationales, dim=0),
    )


def _against_siblings(values_BGN: Tensor, baseline_BN: Tensor | None) -> Tensor:
    """Subtract from each value the mean over the other rationales about the same candidate, or a baseline."""
    if baseline_BN is not None:
        return values_BGN - baseline_BN[:, None]
    values_BNG = values_BGN.transpose(1, 2)
    return rloo_advantages(values_BNG.flatten(0, 1)).view(values_BNG.shape).transpose(1, 2)


def _counterfactual(
    scores_BGN: Tensor,
    gains_BN: Tensor,
    reward: ListReward,
    baseline_BN: Tensor | None,
    mask_BN: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    num_rationales, num_candidates = scores_BGN.shape[1:]
    tried_BSN = scores_BGN if baseline_BN is None else torch.cat([scores_BGN, baseline_BN[:, None]], dim=1)
    is_tried_NN = torch.eye(num_candidates, dtype=torch.bool, device=scores_BGN.device)
    worth_BSN = torch.zeros_like(tried_BSN)
    for company_BN in scores_BGN.unbind(dim=1):
        # [b, s, i] is the list in which candidate i has the score it is tried with, and the others keep theirs.
        lists_BSNN = torch.where(is_tried_NN, tried_BSN[..., None], company_BN[:, None, None])
        gains_LN, mask_LN = (
            values_BN[:, None, None].expand(lists_BSNN.shape).flatten(0, 2) for values_BN in (gains_BN, mask_BN)
        )
        worth_L = reward.value(
            lists_BSNN.flatten(0, 2), gains_LN, mask_LN, generator, lists_per_noise=tried_BSN[0].numel()
        )
        worth_BSN += worth_L.view(tried_BSN.shape) / num_rationales
    baseline_worth_BN = None if baseline_BN is None else worth_BSN[:, num_rationales]
    return _against_siblings(worth_BSN[:, :num_rationales], baseline_worth_BN)


def _rank_returns(
    scores_BGN: Tensor, gains_BN: Tensor, reward: ListReward, mask_BN: Tensor, generator: torch.Generator | None
) -> Tensor:
    if reward.estimator == "exact":
        raise ValueError('credit "rank_return" is defined on sampled permutations; choose an estimator that samples')
    scores_LN, gains_LN, mask_LN = _as_lists(scores_BGN, gains_BN, mask_BN)
    permutations_MLN = reward.permutations(scores_LN, mask_LN, generator)
    returns_MLN = plackett_luce.returns_of_permutations(permutations_MLN, gains_LN, reward.k, discount=reward.discount)
    return returns_MLN.mean(dim=0).view(scores_BGN.shape)

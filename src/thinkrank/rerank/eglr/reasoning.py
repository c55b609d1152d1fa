"""Latent reasoning: when the next choice is uncertain, think before it is made.

From the paper (arXiv 2601.13533, as readers of its method report): the entropy H_k of the distribution over the
candidates at place k is compared with a threshold; above it, and at most S_max times per place, the generator consumes
a reasoning token, a mixture of the candidates weighted by their probabilities at a higher temperature. Reconstructed:
that the mixture is over what is still available, that the entropy is looked at again after every thought, its
temperature, all numbers.

A thought is a deterministic function of what precedes it, so it has no probability: log π(list) = Σ_k log π(item_k).

Shape legend: R rows, A some of these rows, N candidates, M entropies, D width of tokens, S steps.
"""

import copy
import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from thinkrank.errors import ThinkrankError
from thinkrank.rerank.eglr.config import ReasoningOptions, TokenKind
from thinkrank.rerank.eglr.generators.base import Context, Rows, mean_token

_PAUSE: TokenKind = "learned_pause"
_WORST, _MASKED = -1e20, -1e30
"""The lowest score a candidate can have, and the score of what is not available: finite at any temperature in fp32."""


def masked_scores(logits_RN: Float[Tensor, "R N"], available_RN: Bool[Tensor, "R N"]) -> Float[Tensor, "R N"]:
    """Cast logits to fp32 (or keep fp64), so that nothing that is available can be as low as what is not."""
    scores_RN = logits_RN.to(torch.promote_types(logits_RN.dtype, torch.float32)).clamp(_WORST, -_WORST)
    return scores_RN.where(available_RN, _MASKED)


def log_probabilities(scores_RN: Float[Tensor, "R N"], temperature: float = 1.0) -> Float[Tensor, "R N"]:
    """Return log softmax(z / τ), where the probability of what is masked is exactly 0 and its logarithm finite.

    z comes from `masked_scores`; a row in which everything is masked gives numbers without a meaning.
    """
    return (scores_RN if temperature == 1 else scores_RN / temperature).log_softmax(dim=1)


def entropy(logprobs_RN: Float[Tensor, "R N"]) -> Float[Tensor, "R"]:
    """Return H = -Σ_i p_i log p_i in nats, from `log_probabilities`; masked candidates add exactly 0."""
    return -(logprobs_RN.exp() * logprobs_RN).sum(dim=1)


def normalised_entropy(entropies_R: Float[Tensor, "R"], num_left_R: Tensor) -> Float[Tensor, "R"]:
    """Return H / log(number of candidates left), between 0 and 1; 0 where at most one is left."""
    return entropies_R / num_left_R.clamp(min=2).to(entropies_R.dtype).log()


def calibrate_threshold(entropies_M: Float[Tensor, "M"], rate: float) -> float:
    """Find the threshold that a share `rate` of some entropies exceeds, as nearly as their ties allow.

    It lies half-way between two neighbouring entropies, so rounding does not move what exceeds it.

    Args:
        entropies_M: in the unit of the gate, one for each place.
        rate: between 0, which none exceeds, and 1, which all do that are above 0.

    Raises:
        ValueError: if there are none, one is not finite, or the rate is out of range.

    Source: reconstructed; the paper's threshold is a fixed number, which is not known.
    """
    if not entropies_M.numel() or not bool(entropies_M.isfinite().all()):
        raise ValueError("a threshold is set from at least one entropy, and finite ones")
    if not 0 <= rate <= 1:
        raise ValueError(f"the trigger rate is a share between 0 and 1, got {rate}")
    falling_M = entropies_M.double().sort(descending=True).values
    count = round(rate * len(falling_M))
    if count == 0:
        return max(0.0, float(falling_M[0]))
    if count == len(falling_M):
        return max(0.0, float(falling_M[-1]) / 2)
    above, below = float(falling_M[count - 1]), float(falling_M[count])
    middle = (above + below) / 2
    return max(0.0, middle if middle < above else below)  # neighbouring floats have nothing between them


class GainPredictor(nn.Module):
    """Predict by how many nats a thought lowers the loss of the next choice, from the distribution it is made by.

    It reads no state, so it works for every generator, and nothing flows back through it.

    Source: reconstructed after the gate by predicted benefit of arXiv 2607.12425, which each step's drop of the loss
    teaches.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, width), nn.GELU(), nn.Linear(width, 1))

    def forward(
        self, scores_RN: Float[Tensor, "R N"], num_left_R: Tensor, place: int, thoughts: int
    ) -> Float[Tensor, "R"]:
        """Return the gain that is expected of one more thought, in nats.

        Args:
            scores_RN: the generator's at this moment, masked.
            num_left_R: how many candidates may still be chosen.
            place: of the list, from 0.
            thoughts: how many precede it at this place.
        """
        logprobs_RN = log_probabilities(scores_RN.detach())
        entropies_R = entropy(logprobs_RN)
        best_R2 = functional.pad(logprobs_RN.exp(), (0, 1)).topk(2, dim=1).values  # a single candidate has no second
        columns = [
            entropies_R,
            normalised_entropy(entropies_R, num_left_R),
            best_R2[:, 0],
            best_R2[:, 0] - best_R2[:, 1],
            torch.full_like(entropies_R, math.log1p(place)),
            torch.full_like(entropies_R, float(thoughts)),
        ]
        gains_R1: Tensor = self.layers(torch.stack(columns, dim=1).to(next(self.parameters()).dtype))
        return gains_R1[:, 0]


class Reasoner(nn.Module):
    """Make reasoning tokens. It has weights only for the kind "learned_pause", `step_codes` and `predicts_gain`.

    Kinds, with q = softmax(z / τ_think) over what is available:

    - "soft_candidates": Σ_i q_i E_i, the paper's;
    - "last_state": the generator's own state (the token of ReaRec);
    - "learned_pause": one learned vector;
    - "mean_candidates": the mean of what is available, so a mixture that knows nothing of the logits;
    - "argmax_item": the likeliest candidate's E_i.

    Args:
        width: D, of the generator's tokens.
        options: the kind, the temperature, and whether a gradient flows through.

    Attributes:
        threshold: of the gate, in double precision; NaN until it is set. It is no weight: `reasoning` tells it.
    """

    threshold: Tensor

    def __init__(self, width: int, options: ReasoningOptions) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("threshold", _number(options.threshold), persistent=False)
        if options.token == _PAUSE:
            self.pause_D = nn.Parameter(torch.randn(width) / math.sqrt(width))
        if options.step_codes:
            self.codes_SD = nn.Parameter(torch.zeros(max(1, options.max_steps), width))
        if options.predicts_gain:
            self.gain = GainPredictor()

    @property
    def reasoning(self) -> ReasoningOptions:
        """Tell when and how it thinks, by the threshold that is set now."""
        threshold = float(self.threshold)
        return self.options.model_copy(update={"threshold": None if math.isnan(threshold) else threshold})

    def set_threshold(self, threshold: float | None) -> None:
        """Let the gate open above this; None: it is not set."""
        self.threshold = _number(threshold)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Reasoner":
        """Move or cast everything but the threshold: not every device has double precision."""
        threshold = self._buffers.pop("threshold")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._buffers["threshold"] = threshold
        return self

    def under(self, options: ReasoningOptions) -> "Reasoner":
        """Return the same weights with other options, their threshold included.

        Raises:
            ThinkrankError: if they need weights that are not there.
        """
        missing = options.token == _PAUSE and not hasattr(self, "pause_D")
        missing |= options.predicts_gain and not hasattr(self, "gain")
        codes = len(self.codes_SD) if hasattr(self, "codes_SD") else 0
        if missing or (options.step_codes and options.max_steps > codes):
            raise ThinkrankError(
                "this way of thinking needs weights that were not trained: reasoning.token learned_pause, "
                f"reasoning.predicts_gain, or step_codes for {options.max_steps} steps where there are {codes}"
            )
        other = copy.copy(self)
        other.options, other._buffers = options, {"threshold": _number(options.threshold)}
        return other

    def compared(
        self,
        scores_RN: Float[Tensor, "R N"],
        entropies_R: Float[Tensor, "R"],
        num_left_R: Tensor,
        *,
        at: tuple[int, int],
    ) -> Float[Tensor, "R"]:
        """Return what the gate compares with its threshold: an entropy, or the gain of a thought.

        Args:
            scores_RN: the generator's at this moment, masked.
            entropies_R: of the choice, at the gate's temperature.
            num_left_R: how many candidates may still be chosen.
            at: place of the list, and how many thoughts precede this moment there.
        """
        if self.options.mode == "gain":
            gains_R: Tensor = self.gain(scores_RN, num_left_R, *at)
            return gains_R.where(num_left_R > 1, 0)  # without a choice nothing is thought
        return normalised_entropy(entropies_R, num_left_R) if self.options.normalised else entropies_R

    def token(
        self,
        scores_RN: Float[Tensor, "R N"],
        available_RN: Bool[Tensor, "R N"],
        context: Context,
        state: Rows,
        thought: int,
    ) -> Float[Tensor, "R D"]:
        """Return what is thought next.

        Args:
            scores_RN: the generator's at this moment, masked.
            available_RN: what may still be chosen; at least one in each row.
            context: the candidates' tokens.
            state: the generator's; read by the kind "last_state" only.
            thought: how many thoughts precede it at this place.

        Raises:
            ThinkrankError: for the kind "last_state", if the state has no `hidden_RD` of the tokens' width.
        """
        tokens_RND = context.tokens_RND
        match self.options.token:
            case "soft_candidates":
                weights_RN = log_probabilities(scores_RN, self.options.think_temperature).exp()
                token_RD = (weights_RN.to(tokens_RND.dtype)[:, None] @ tokens_RND)[:, 0]
            case "last_state":
                token_RD = _hidden_state(state, tokens_RND.shape[2])
            case "learned_pause":
                token_RD = self.pause_D.expand(len(scores_RN), -1)
            case "mean_candidates":
                token_RD = mean_token(tokens_RND, available_RN)
            case "argmax_item":
                best_R = scores_RN.argmax(dim=1)
                token_RD = tokens_RND[torch.arange(len(best_R), device=best_R.device), best_R]
        if self.options.detach:
            token_RD = token_RD.detach()
        return token_RD + self.codes_SD[thought] if self.options.step_codes else token_RD


def _number(threshold: float | None) -> Float[Tensor, ""]:
    return torch.tensor(math.nan if threshold is None else threshold, dtype=torch.float64)


def _hidden_state(state: Rows, width: int) -> Tensor:
    hidden_RD = getattr(state, "hidden_RD", None)
    if hidden_RD is None or hidden_RD.shape[1] != width:
        raise ThinkrankError(
            "reasoning.token is last_state, but this generator's states have no hidden_RD of the tokens' width; "
            "give them one, or choose another kind of token"
        )
    return hidden_RD

"""From a batch of displayed lists to new ones: encoder, generator and reasoner as one module.

Shape legend: B requests, R rows (lists of requests), N candidates, K places.
"""

import copy
import math

import torch
from jaxtyping import Int
from torch import Tensor, nn

from thinkrank.errors import ThinkrankError
from thinkrank.rerank.eglr.config import GATED, GeneratorOptions, ReasoningOptions
from thinkrank.rerank.eglr.decoding import Noise, Replayed, Written, replay, write
from thinkrank.rerank.eglr.generators import Context, Generator, make_generator
from thinkrank.rerank.eglr.reasoning import Reasoner, calibrate_threshold
from thinkrank.rerank.lists import ListBatch, ListEncoder
from thinkrank.rerank.lists.encoder import joint_embeddings


class ListWriter(nn.Module):
    """Write lists: everything that reinforcement trains.

    Args:
        encoder: what is known of candidates and users.
        generator_options: which generator, and its widths.
        reasoning: when and how to think.
        generator: one of your own instead: a module with the four functions of `Generator` whose tokens are
            `generator_options.width` wide.

    Raises:
        ThinkrankError: if the given generator lacks one of the functions.
    """

    def __init__(
        self,
        encoder: ListEncoder,
        generator_options: GeneratorOptions,
        reasoning: ReasoningOptions,
        generator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        generator = generator or make_generator(2 * encoder.options.width, generator_options)
        if not isinstance(generator, Generator):
            raise ThinkrankError(
                f"{type(generator).__name__} needs encode, init_state, step and logits to be a generator"
            )
        self.generator = generator
        self.reasoner = Reasoner(generator_options.width, reasoning)

    @property
    def reasoning(self) -> ReasoningOptions:
        """Tell when and how it thinks."""
        return self.reasoner.reasoning

    def thinking(self, reasoning: ReasoningOptions) -> "ListWriter":
        """Return the same weights, thinking in another way.

        Raises:
            ThinkrankError: if that way needs weights that are not there.
        """
        other = copy.copy(self)
        other._modules = {**self._modules, "reasoner": self.reasoner.under(reasoning)}
        return other

    def without_thinking(self) -> "ListWriter":
        """Return the same weights, choosing at once."""
        return self.thinking(self.reasoning.model_copy(update={"mode": "none"}))

    def context(self, batch: ListBatch, lists: int = 1) -> Context:
        """Read the candidates: `lists` rows for each request, one after another."""
        context: Context = self.generator.encode(joint_embeddings(self.encoder, batch), batch.mask_BN)
        if lists == 1:
            return context
        return context.take(torch.arange(len(batch), device=batch.mask_BN.device).repeat_interleave(lists))

    def write(self, context: Context, places: int, noise: Noise | None = None) -> Written:
        """Write a list per row; see `thinkrank.rerank.eglr.decoding.write`."""
        return write(self.generator, self.reasoner, context, places, noise)

    def replay(
        self,
        context: Context,
        columns_RK: Int[Tensor, "R K"],
        steps_RK: Int[Tensor, "R K"],
        wanted_RN: Tensor | None = None,
        weights_RKN: Tensor | None = None,
        *,
        every_thought: bool = False,
    ) -> Replayed:
        """Recompute lists that were written; see `thinkrank.rerank.eglr.decoding.replay`."""
        given = (context, columns_RK, steps_RK, wanted_RN, weights_RKN)
        return replay(self.generator, self.reasoner, *given, every_thought=every_thought)

    @torch.no_grad()
    def calibrate(self, contexts: list[Context], places: int, *, rounds: int = 3) -> float:
        """Set the threshold of the gate so that `reasoning.trigger_rate` of all places think, if that many may.

        The first threshold is the quantile of the entropies, or predicted gains, when nothing is thought; it is not
        below 0, so where fewer are expected to gain by a thought fewer think. Thoughts change what follows, so lists
        are written anew, thinking, and the quantile taken of what was compared before thinking, `rounds` times; the
        threshold whose rate came nearest is kept.

        Contexts are of validation lists; `rounds` 0 keeps the first threshold.

        Returns:
            The share of places that think with the new threshold.

        Source: reconstructed.
        """
        wanted = self.reasoning.trigger_rate
        mode = self.reasoning.mode if self.reasoning.mode in GATED else "entropy"
        gated = self.reasoning.model_copy(update={"mode": mode, "max_steps": max(1, self.reasoning.max_steps)})
        tried: list[tuple[float, float, float]] = []
        shut = self.thinking(gated.model_copy(update={"threshold": math.inf}))
        values_M, _ = self._gate_values(shut, contexts, places)
        for _ in range(rounds + 1):
            threshold = calibrate_threshold(values_M, wanted)
            thinker = self.thinking(gated.model_copy(update={"threshold": threshold}))
            values_M, rate = self._gate_values(thinker, contexts, places)
            tried.append((abs(rate - wanted), threshold, rate))
        _, threshold, rate = min(tried)
        self.reasoner.set_threshold(threshold)
        return rate

    def _gate_values(self, writer: "ListWriter", contexts: list[Context], places: int) -> tuple[Tensor, float]:
        """Return what the gate compared at every place before thinking, and the share of places that thought."""
        values, thought = [], []
        for context in contexts:
            written = writer.write(context, places)
            values.append(written.compared_RK[written.chosen_RK])
            thought.append(written.steps_RK[written.chosen_RK] > 0)
        return torch.cat(values), float(torch.cat(thought).float().mean())

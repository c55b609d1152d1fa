"""Continue prompts token by token, and know the probability of every token that was written.

Every setting is explicit. A model's own generation config (its temperature, penalties, lengths) never leaks in; of it,
only the end-of-turn tokens are taken.

Shape legend: B sequences, T tokens, V vocabulary.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import StaticCache

from thinkrank.language.backbone import Backbone
from thinkrank.language.options import FinishReason, GenerationOptions
from thinkrank.language.states import pad


@dataclass(frozen=True)
class Continuation:
    """What the model wrote after a prompt.

    Attributes:
        ids: the tokens written, the stop included.
        text: their text, without the stop.
        logprobs: natural log-probability of each token under the distribution it was drawn from; under the model's
            own distribution for greedy decoding.
        entropies: of the model's own distribution at each step, in nats.
        finish_reason: `closed` by the closing text, `end_of_turn` by the model's token for it, or `length`.
        seconds: this continuation's share of its batch's wall time.
        num_before_stop: how many of the ids come before the stop.
    """

    ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    finish_reason: FinishReason
    seconds: float
    num_before_stop: int

    @property
    def ids_before_stop(self) -> tuple[int, ...]:
        """The sampled ids without their stop: no end-of-turn token, and no token that holds a part of the closing."""
        return self.ids[: self.num_before_stop]


def sampling_logprobs(logits_BV: Float[Tensor, "B V"], options: GenerationOptions) -> Float[Tensor, "B V"]:
    """The log of the distribution that is really sampled: temperature, then top-k, then top-p, renormalised.

    Tokens that were cut have -inf. With temperature 0 it is the model's own distribution.
    """
    logits_BV = logits_BV.float()
    if options.temperature == 0:
        return logits_BV.log_softmax(dim=-1)
    logits_BV = logits_BV / options.temperature
    if options.top_k is not None and options.top_k < logits_BV.shape[1]:
        kth_B1 = logits_BV.topk(options.top_k, dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < kth_B1, -torch.inf)
    if options.top_p < 1:
        sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True)
        before_BV = sorted_BV.softmax(dim=-1).cumsum(dim=-1) - sorted_BV.softmax(dim=-1)
        cut_BV = (before_BV >= options.top_p).scatter(1, order_BV, before_BV >= options.top_p)
        logits_BV = logits_BV.masked_fill(cut_BV, -torch.inf)
    return logits_BV.log_softmax(dim=-1)


@torch.inference_mode()
def generate(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    closing: str | None = None,
) -> list[Continuation]:
    """Write one continuation per prompt, in the prompts' order.

    Args:
        backbone: the model; an adapter on it is active.
        prompts: token ids, none empty; any lengths. They are batched by length.
        options: every setting of the decoding.
        closing: text that ends a continuation as soon as it is written; None to end by the model's turn alone.

    Sampling is seeded per call; a prompt's draw depends on the batch it falls into.
    """
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    random = torch.Generator(backbone.device).manual_seed(options.seed)
    answers: dict[int, Continuation] = {}
    for start in range(0, len(prompts), options.batch_size):
        rows = by_length[start : start + options.batch_size]
        answers.update(
            zip(rows, _generate_batch(backbone, [prompts[i] for i in rows], options, closing, random), strict=True)
        )
    return [answers[i] for i in range(len(prompts))]


def _generate_batch(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    closing: str | None,
    random: torch.Generator,
) -> list[Continuation]:
    started = time.perf_counter()
    ids_BT, mask_BT = pad(prompts, backbone.pad_id, side="left", device=backbone.device)
    next_position_B = mask_BT.sum(dim=1)
    # Allocated once: a cache that grows by copying is slower and leaves gigabytes of holes behind.
    cache = StaticCache(config=backbone.model.config, max_cache_len=ids_BT.shape[1] + options.max_new_tokens)
    position_ids_BT = (mask_BT.long().cumsum(dim=1) - 1).clamp(min=0)
    rows = [_Row(backbone, closing) for _ in prompts]
    for _ in range(options.max_new_tokens):
        with backbone.precision():
            output = backbone.model(
                input_ids=ids_BT,
                attention_mask=mask_BT.long(),
                position_ids=position_ids_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits_BV = output.logits[:, -1]
        chosen_B, logprobs_B, entropies_B = _choose(logits_BV, options, random)
        for row, token, logprob, entropy in zip(
            rows, chosen_B.tolist(), logprobs_B.tolist(), entropies_B.tolist(), strict=True
        ):
            row.take(token, logprob, entropy)
        if all(row.finish_reason is not None for row in rows):
            break
        ids_BT, position_ids_BT = chosen_B[:, None], next_position_B[:, None]
        next_position_B = next_position_B + 1
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)
    share = (time.perf_counter() - started) / len(rows)
    return [row.finished(share) for row in rows]


def _choose(
    logits_BV: Float[Tensor, "B V"], options: GenerationOptions, random: torch.Generator
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Pick a token per row; return it, its log-probability as sampled, and the model's own entropy."""
    own_BV = logits_BV.float().log_softmax(dim=-1)
    entropies_B = -(own_BV.exp() * own_BV.clamp(min=-1e4)).sum(dim=-1)
    if options.temperature == 0:
        chosen_B, sampled_BV = own_BV.argmax(dim=-1), own_BV
    else:
        sampled_BV = sampling_logprobs(logits_BV, options)
        chosen_B = torch.multinomial(sampled_BV.exp(), num_samples=1, generator=random)[:, 0]
    return chosen_B, sampled_BV.gather(1, chosen_B[:, None])[:, 0], entropies_B


class _Row:
    """One sequence while it is being written."""

    def __init__(self, backbone: Backbone, closing: str | None) -> None:
        self.backbone, self.closing = backbone, closing
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.entropies: list[float] = []
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self.num_before_stop = 0

    def take(self, token: int, logprob: float, entropy: float) -> None:
        """Append a token, unless the row has ended already."""
        if self.finish_reason is not None:
            return
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.entropies.append(entropy)
        if token in self.backbone.end_of_turn_ids:
            self.finish_reason = "end_of_turn"
            return
        self.text = self.decode(len(self.ids))
        self.num_before_stop = len(self.ids)
        if self.closing is not None and self.closing in self.text:
            self.text = self.text.partition(self.closing)[0]
            self.finish_reason = "closed"
            while self.num_before_stop and len(self.decode(self.num_before_stop)) > len(self.text):
                self.num_before_stop -= 1

    def decode(self, count: int) -> str:
        return str(self.backbone.tokenizer.decode(self.ids[:count]))

    def finished(self, seconds: float) -> Continuation:
        return Continuation(
            tuple(self.ids),
            self.text,
            tuple(self.logprobs),
            tuple(self.entropies),
            self.finish_reason or "length",
            seconds,
            self.num_before_stop,
        )

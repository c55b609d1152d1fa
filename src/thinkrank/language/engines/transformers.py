"""Continue prompts token by token, and know the probability of every token that was written.

Every setting is explicit. A model's own generation config (its temperature, penalties, lengths) never leaks in; of it,
only the end-of-turn tokens are taken.

Shape legend: R rows being written, V vocabulary, D width.
"""

import hashlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thinkrank.errors import ThinkrankError
from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.base import TRAINED, Completion
from thinkrank.language.engines.kv_cache import KVCache
from thinkrank.language.engines.prefix_cache import PrefixCache
from thinkrank.language.engines.writers import Writers
from thinkrank.language.logprobs import log_softmax, logits
from thinkrank.language.options import FinishReason, GenerationOptions
from thinkrank.language.prefix_tree import PrefixTree

_CHUNK_LOGITS, _CHUNK_LOGITS_ELSEWHERE = 2**17, 2**26
"""Logits looked at together when tokens are chosen: half a MiB in fp32 on a CPU, 256 MiB on other devices."""


def sampling_logprobs(logits_RV: Float[Tensor, "R V"], options: GenerationOptions) -> Float[Tensor, "R V"]:
    """Return the log of the distribution that is really sampled: temperature, then top-k, then top-p, renormalised.

    Tokens that were cut have -inf. With temperature 0 it is the model's own distribution.
    """
    logits_RV = logits_RV.float()
    if options.temperature == 0:
        return log_softmax(logits_RV)
    logits_RV = logits_RV / options.temperature
    if options.top_k is not None and options.top_k < logits_RV.shape[1]:
        kth_R1 = logits_RV.topk(options.top_k, dim=-1).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < kth_R1, -torch.inf)
    if options.top_p < 1:
        # from the least likely on and in fp32, as transformers' TopPLogitsWarper does it: the same cut to the bit
        sorted_RV, order_RV = logits_RV.sort(dim=-1)
        cut_RV = sorted_RV.softmax(dim=-1).cumsum(dim=-1) <= 1 - options.top_p
        cut_RV[:, -1] = False
        logits_RV = logits_RV.masked_fill(cut_RV.scatter(1, order_RV, cut_RV), -torch.inf)
    return log_softmax(logits_RV)


class TransformersEngine:
    """Reference engine: the model itself, as transformers runs it.

    A node of the tree is read once, when the first row that needs it is admitted; its keys and values serve every row
    below it and are dropped with the last. Rows join longest prompt first, as the memory allows, and leave when they
    are done.

    Draws are independent of the batch; log-probabilities agree with a lone run to rounding (about 1e-5 in fp32, .05
    in bf16), so a batch may change a token only where two outcomes are that close.

    Args:
        backbone: the model, with the adapter of the writer "trained" if there is one.
        prefixes: keeps what prompts begin with between calls; None keeps nothing.
    """

    def __init__(self, backbone: Backbone, prefixes: PrefixCache | None = None) -> None:
        self.backbone, self.prefixes = backbone, prefixes
        self._writers = Writers(backbone)

    def publish(self, writer: str, adapter: Mapping[str, Tensor]) -> None:
        """Give adapter weights a name to write under; see `Engine`."""
        self._writers.publish(writer, adapter)

    def withdraw(self, writer: str) -> None:
        """Forget what was published under a name, so that weights in training can be published again and again."""
        self._writers.withdraw(writer)

    def sample(
        self,
        prompts: PrefixTree,
        options: GenerationOptions,
        *,
        writer: str = TRAINED,
        num_samples: int = 1,
        stop: str | None = None,
        suffix: Sequence[int] = (),
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Write `num_samples` completions of every leaf of the tree; see `Engine`."""
        seeds = leaf_seeds(prompts) if seeds is None else seeds
        rows = [
            [_Row(self.backbone, leaf, stop, tuple(suffix), options, seed, number) for number in range(num_samples)]
            for leaf, seed in zip(prompts.leaves, seeds, strict=True)
        ]
        root_of = [prompts.path(leaf)[0] for leaf in prompts.leaves]
        longest: dict[int, int] = {}
        for leaf, root in zip(prompts.leaves, root_of, strict=True):
            longest[root] = max(longest.get(root, 0), prompts.ends[leaf])
        order = sorted(
            range(len(rows)), key=lambda i: (-longest[root_of[i]], root_of[i], prompts.path(prompts.leaves[i]))
        )
        num_own = options.max_new_tokens + len(suffix)
        prefixes = None if self.prefixes is None else partial(self.prefixes.read, writer=writer)
        with self._writers.acting(writer):
            memory = KVCache(self.backbone, prompts, num_own, options.kv_gib * 2**30, prefixes)
            self._run(memory, options, deque(row for i in order for row in rows[i]))
        return [[row.finished() for row in samples] for samples in rows]

    @torch.inference_mode()
    def _run(self, memory: KVCache, options: GenerationOptions, waiting: "deque[_Row]") -> None:
        rows: list[_Row] = []
        while waiting or rows:
            clock = time.perf_counter()
            going = [i for i, row in enumerate(rows) if row.feed]
            if len(going) * 8 <= len(rows) * 7:
                joining = self._admit(memory, [rows[i] for i in going], waiting, options)
                states_JD = memory.rebuild(going, [row.leaf for row in joining])
                rows = [rows[i] for i in going] + joining
                self._write(joining, states_JD)
            else:
                states_RD = memory.read(*zip(*(row.next_read() for row in rows), strict=True))
                fresh = [i for i, row in enumerate(rows) if row.arrived(states_RD[i])]
                self._write([rows[i] for i in fresh], states_RD[fresh])
            seconds = (time.perf_counter() - clock) / max(1, len(rows))
            for row in rows:
                row.seconds += seconds

    def _admit(
        self, memory: KVCache, going: "list[_Row]", waiting: "deque[_Row]", options: GenerationOptions
    ) -> "list[_Row]":
        """Take waiting rows as the memory allows."""
        leaves = [row.leaf for row in going]
        joining: list[_Row] = []
        while waiting and len(leaves) < options.batch_size and memory.fits([*leaves, waiting[0].leaf]):
            joining.append(waiting.popleft())
            leaves.append(joining[-1].leaf)
        if waiting and not leaves:
            raise ThinkrankError(
                f"a prompt of {memory.forest.ends[waiting[0].leaf]} tokens with {memory.num_own} new ones does not fit "
                f"into the {options.kv_gib:g} GiB that keys and values may take: raise kv_gib or shorten the prompt"
            )
        return joining

    def _write(self, rows: "Sequence[_Row]", states_RD: Float[Tensor, "R D"]) -> None:
        """Choose the next token of each row from its state.

        The head is read once for all rows. Then come those that draw alike; on a CPU a few at a time, so that what is
        made of their logits stays in its caches.
        """
        if not rows:
            return
        logits_RV = logits(self.backbone, states_RD)
        chunk = _CHUNK_LOGITS if logits_RV.is_cpu else _CHUNK_LOGITS_ELSEWHERE
        few = max(1, chunk // logits_RV.shape[1])
        alike: dict[tuple[float, int | None, float], list[int]] = {}
        for index, row in enumerate(rows):
            alike.setdefault((row.options.temperature, row.options.top_k, row.options.top_p), []).append(index)
        for indices in alike.values():
            for part in (indices[start : start + few] for start in range(0, len(indices), few)):
                uniforms_R = torch.tensor([rows[index].draw for index in part], dtype=torch.float64)
                chosen = choose(logits_RV[part], rows[part[0]].options, uniforms_R)
                for index, *written in zip(part, *(number.tolist() for number in chosen), strict=True):
                    rows[index].take(states_RD[index], *written)


def choose(
    logits_RV: Float[Tensor, "R V"], options: GenerationOptions, uniforms_R: Float[Tensor, "R"]
) -> tuple[Int[Tensor, "R"], Float[Tensor, "R"], Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Pick a token per row by inverting the cumulated distribution at the row's uniform draw.

    Returns:
        the token, its log-probability as sampled, its log-probability under the model, and the model's entropy.
    """
    own_RV = log_softmax(logits_RV)
    p_RV = own_RV.exp()
    entropies_R = -torch.linalg.vecdot(p_RV, own_RV)
    if options.temperature == 0:
        chosen_R, sampled_RV = own_RV.argmax(dim=-1), own_RV
    else:
        if options.is_own:
            sampled_RV = own_RV
        else:
            sampled_RV = sampling_logprobs(logits_RV, options)
            p_RV = sampled_RV.exp()
        # in fp64, or rare tokens would leave the sum as it was and could not be drawn; Apple's devices have no fp64
        mass_RV = (p_RV.cpu() if p_RV.device.type == "mps" else p_RV).double().cumsum(dim=-1)
        # the first token whose cumulated mass exceeds the draw: one of probability 0 never does
        drawn_R1 = uniforms_R[:, None].to(mass_RV).clamp(max=1 - 1e-15) * mass_RV[:, -1:]
        chosen_R = torch.searchsorted(mass_RV, drawn_R1, right=True)[:, 0].to(p_RV.device)
    index = chosen_R[:, None]
    return chosen_R, sampled_RV.gather(1, index)[:, 0], own_RV.gather(1, index)[:, 0], entropies_R


class _Row:
    """Follow one completion while it is being written, then while its end is being read."""

    def __init__(
        self,
        backbone: Backbone,
        leaf: int,
        stop: str | None,
        suffix: tuple[int, ...],
        options: GenerationOptions,
        seed: int,
        number: int,
    ) -> None:
        self.backbone, self.leaf, self.stop, self.suffix, self.options = backbone, leaf, stop, suffix, options
        self.uniforms = _uniforms(options, seed, number)
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.own_logprobs: list[float] = []
        self.entropies: list[float] = []
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self.num_before_stop = 0
        self.seconds = 0.0
        self.feed: deque[int] = deque()
        """Tokens to be read; the row is done when it is empty."""
        self.num_read = 0
        """Own tokens that the memory holds."""
        self.prompt_state: Tensor | None = None
        self.last_state: Tensor | None = None

    @property
    def draw(self) -> float:
        """Return the random number of the next token; 0 where nothing is drawn."""
        return self.uniforms[len(self.ids)] if self.uniforms else 0.0

    def take(self, state_D: Tensor, token: int, logprob: float, own_logprob: float, entropy: float) -> None:
        """Append a token that was chosen from this state, and decide what is to be read next."""
        self.prompt_state = state_D if not self.ids else self.prompt_state
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.own_logprobs.append(own_logprob)
        self.entropies.append(entropy)
        if token in self.backbone.end_of_turn_ids:
            self.finish_reason = "end_of_turn"
        else:
            self.num_before_stop = len(self.ids)
            if self.stop is not None:
                self._look_for(self.stop)
            if len(self.ids) == self.options.max_new_tokens and self.finish_reason is None:
                self.finish_reason = "length"
        if self.finish_reason is None:
            self.feed.append(token)
            return
        kept = (*self.ids[: self.num_before_stop], *self.suffix)
        if not kept:
            self.last_state = self.prompt_state
        elif self.num_read == len(kept) and not self.suffix:  # else what was read is not what is kept
            self.last_state = state_D
        self.num_read = min(self.num_read, self.num_before_stop, max(0, len(kept) - 1))
        if self.last_state is None:
            self.feed.extend(kept[self.num_read :])

    def _look_for(self, stop: str) -> None:
        if (before := before_stop(self.backbone, self.ids, stop)) is not None:
            self.finish_reason = "closed"
            self.text, self.num_before_stop = before

    def next_read(self) -> tuple[int, int]:
        """Return the token to read and its place among the own ones; a row that is done reads anything, in vain."""
        return (self.feed[0], self.num_read) if self.feed else (self.ids[0], 0)

    def arrived(self, state_D: Tensor) -> bool:
        """Note that the token was read; say whether the next one is to be chosen from this state."""
        if not self.feed:
            return False
        self.feed.popleft()
        self.num_read += 1
        if self.finish_reason is not None and not self.feed:
            self.last_state = state_D
        return self.finish_reason is None

    def finished(self) -> Completion:
        if self.finish_reason is None or self.last_state is None:
            raise RuntimeError("this row is still being written")
        text = self.text if self.finish_reason == "closed" else decode(self.backbone, self.ids[: self.num_before_stop])
        return Completion(
            tuple(self.ids),
            text,
            tuple(self.logprobs),
            tuple(self.own_logprobs),
            tuple(self.entropies),
            self.finish_reason,
            self.seconds,
            self.num_before_stop,
            self.last_state.clone(),  # outside inference mode, so that it may enter a gradient
        )


def decode(backbone: Backbone, ids: Sequence[int]) -> str:
    """Return the text of sampled tokens as a stop is looked for in it: control tokens are written out."""
    return str(backbone.tokenizer.decode(list(ids)))


def before_stop(backbone: Backbone, ids: Sequence[int], stop: str) -> tuple[str, int] | None:
    """Find the text before the stop, and how many tokens stand wholly in it; None if the stop is not written."""
    text, found, _ = decode(backbone, ids).partition(stop)
    if not found:
        return None
    count = len(ids)
    while count and len(decode(backbone, ids[:count])) > len(text):
        count -= 1
    return text, count


def leaf_seeds(prompts: PrefixTree) -> list[int]:
    """Make a seed of each leaf's tokens, 63 bits: the same sequence has the same seed in any forest."""
    return [_hashed(",".join(map(str, sequence))) for sequence in prompts.sequences()]


def completion_seed(options: GenerationOptions, seed: int, number: int) -> int:
    """Mix what the draws of one completion depend on into 63 bits: the run's seed, its leaf's and its number."""
    return _hashed(f"{options.seed}/{seed}/{number}")


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _uniforms(options: GenerationOptions, seed: int, number: int) -> list[float]:
    """Draw the random numbers of one completion, one per token."""
    if options.temperature == 0:
        return []
    random = torch.Generator().manual_seed(completion_seed(options, seed, number))
    coarse, fine = (torch.rand(options.max_new_tokens, generator=random).double() for _ in range(2))  # 24 bits each
    uniforms: list[float] = (coarse + fine * 2.0**-24).tolist()
    return uniforms

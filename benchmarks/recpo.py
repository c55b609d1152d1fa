"""What a RecPO step costs beside the two things it cannot do without: sampling its thoughts and one packed update.

SmolLM2-135M-Instruct in bf16 with an adapter on all layers, two threads, 8 histories of MovieLens-100K in prompts of up
to 256 tokens, 4 thoughts of 48 tokens about each. Per round the very same histories are taken three times: by the
sampler alone, as `benchmarks/language.py` times it; by one packed forward and backward pass over the same prompts and
thoughts, as it times that; and by a whole step. The order rotates, so that no way always runs first.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from _figures import parser, tell
from thinkrank.data import load_dataset, split_dataset
from thinkrank.language import (
    Backbone,
    Completion,
    GenerationOptions,
    LoraOptions,
    Packing,
    PrefixTree,
    TransformersEngine,
    load_backbone,
    packed_states,
    selective_logprobs,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.prompts.options import PromptOptions
from thinkrank.retrieve import R2ec, R2ecConfig, RecpoOptions
from thinkrank.retrieve.r2ec.recpo import RecpoTrainer
from thinkrank.training import Run


class Endless(Backbone):
    """A model that never ends its turn, so that every thought has its full length."""

    @property
    def end_of_turn_ids(self) -> frozenset[int]:
        return frozenset()


def prepared(quick: bool, folder: Path) -> RecpoTrainer:
    users, tokens = (2, 6) if quick else (8, 48)
    split = split_dataset(load_dataset("movielens-100k"))
    base = load_backbone("smollm2")
    config = R2ecConfig(
        lora=LoraOptions(rank=16),
        # the line's end is not the closing, so that no thought can close itself before its budget is used
        prompt=PromptOptions(noun="movie", closing="<answer>", history_tokens=200, history_window=40),
    )
    made = R2ec.create(config, split.dataset.catalogue, backbone=base)
    adapted = Endless(made.backbone.model, base.tokenizer, base.source)
    model = R2ec(config, adapted, made.catalogue, made.head, made.states)
    options = RecpoOptions(
        steps=100,
        users=users,
        group_size=4,
        rollout=GenerationOptions(max_new_tokens=tokens, temperature=1.0),
        candidates="catalogue",
        validation_samples=1,
        batch_tokens=4096,
    )
    return RecpoTrainer(model, split, options, Run(folder, {}, {}))


def ways_of(trainer: RecpoTrainer) -> dict[str, Callable[[], object]]:
    """The next histories by the sampler alone, their thoughts by one packed update alone, and both by a step."""
    model, options = trainer.model, trainer.options
    drawn = trainer.counters.drawn
    prompts = [model.prompts.user(sample.history).prompt.ids for _, sample in trainer.next_samples(options.users)]
    forest = PrefixTree.rows(prompts).share()
    closing = tuple(model.prompts.closing_ids)

    def sampling() -> list[list[Completion]]:
        return TransformersEngine(model.backbone).sample(
            forest,
            options.rollout,
            num_samples=options.group_size,
            stop=model.config.prompt.closing,
            suffix=closing,
        )

    thoughts = forest.grow([[thought.ids + closing for thought in many] for many in sampling()])
    adapter = list(adapter_state(model.backbone).values())

    def update() -> None:
        packing = Packing(thoughts)
        states = packed_states(model.backbone, packing)
        scored = packing.ids_T[packing.tokens(thoughts.leaves)]
        scores = selective_logprobs(model.backbone, states[packing.predictors(thoughts.leaves)], scored)
        torch.autograd.grad(scores.logprobs_N.sum(), adapter)

    def step() -> None:
        trainer.counters.drawn = drawn
        trainer.step()

    return {"sampling": sampling, "update": update, "step": step}


def measure(quick: bool) -> dict[str, float]:
    rounds = 1 if quick else 4
    took: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = prepared(quick, Path(folder))
        for turn in range(rounds + 1):  # the first one is not counted
            ways = list(ways_of(trainer).items())
            for name, way in ways[turn % 3 :] + ways[: turn % 3]:
                started = time.perf_counter()
                way()
                if turn:
                    took[name] += time.perf_counter() - started
        rows = [row for row in trainer.run.metrics() if "reward" in row][1:]
    figures = {"step_over_parts": took["step"] / (took["sampling"] + took["update"])}
    figures |= {f"{name}_seconds": seconds / rounds for name, seconds in took.items()}
    for name in ("share_sampling", "share_scoring", "share_update", "thought_tokens", "sampled_tokens_per_second"):
        figures[f"step_{name}"] = sum(row[name] for row in rows) / rounds
    return figures


def main() -> None:
    arguments = parser(__doc__, quick="two users and short thoughts: a check that it runs").parse_args()
    torch.set_num_threads(2)
    figures = measure(arguments.quick)
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()

"""What sharing a user's prefix is worth when 20 candidates are scored, and what 1,000 candidates need.

SmolLM2-135M-Instruct in bf16, two threads, users of MovieLens-100K with the newest lines of their history within 512
tokens, 20 candidates each. `pair_scoring_speedup` compares one reading of prefix and candidates with 20 prompts that
are each read whole, in one packed pass without padding, so that sharing is the only difference. Beside it the same
with a thought of 24 tokens about each pair, and a second call for the same user, whose prefix is kept. The scores of
both ways are compared, in fp32 as well, where they have to agree. The order of the ways changes from user to user.
"""

import resource
import time
from collections import Counter

import numpy as np
import torch

from _figures import parser, tell
from thinkrank.data import History, load_dataset, split_dataset
from thinkrank.data.candidates import candidate_sets
from thinkrank.language import (
    Backbone,
    GenerationOptions,
    LoraOptions,
    Packing,
    PrefixTree,
    TransformersEngine,
    load_backbone,
    packed_states,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.rank import R2Rank, R2RankConfig

THOUGHT_TOKENS = 24


class Endless(Backbone):
    """A model that never ends its turn, so that every thought has its full length."""

    @property
    def end_of_turn_ids(self) -> frozenset[int]:
        return frozenset()


def prepared(thinks: bool, dtype: str = "bfloat16") -> R2Rank:
    config = R2RankConfig(
        thinks=thinks,
        lora=LoraOptions(rank=16),
        # the line's end is not the closing, so that no thought can close itself before its budget is used
        prompt=PairPromptOptions(noun="movie", closing="<answer>", history_window=200, history_tokens=512),
        thought=GenerationOptions(max_new_tokens=THOUGHT_TOKENS),
    )
    base = load_backbone("smollm2", dtype=dtype)
    catalogue = load_dataset("movielens-100k").catalogue
    made = R2Rank.create(config, catalogue, backbone=base)
    adapted = Endless(made.backbone.model, base.tokenizer, base.source)
    model = R2Rank(config, adapted, catalogue, made.head)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in [*adapter_state(model.backbone).values(), *model.head.parameters()]:
            weight.add_(0.02 * torch.randn(weight.shape, generator=random))
    return model


def scores(model: R2Rank, history: History, items: np.ndarray) -> np.ndarray:
    """What the model says of one user's candidates, in the order given."""
    return model.rank([history], items[None]).scores_given(len(items))[0]


def separate_scores(model: R2Rank, history: History, rows: list[int]) -> np.ndarray:
    """Every prompt read from its first token to its last."""
    prefix, closing = model.prompts.prefix(history), model.prompts.closing_ids
    forest = PrefixTree.rows((*prefix, *model.prompts.candidate(row), *closing) for row in rows)
    packing = Packing(forest)
    with torch.no_grad(), model.backbone.exact():
        states_RD = packed_states(model.backbone, packing)[packing.last_tokens(forest.leaves)]
        return model.head(states_RD[:, None])[:, 0].numpy()


def separate_thoughts(model: R2Rank, history: History, rows: list[int]) -> np.ndarray:
    """The same with a thought behind each prompt."""
    prefix = model.prompts.prefix(history)
    forest = PrefixTree.rows((*prefix, *model.prompts.candidate(row)) for row in rows)
    written = TransformersEngine(model.backbone).sample(
        forest, model.config.thought, stop=model.config.prompt.closing, suffix=model.prompts.closing_ids
    )
    ends = [[*thought.ids_before_stop, *model.prompts.closing_ids] for (thought,) in written]
    read = PrefixTree.rows((*prompt, *end) for prompt, end in zip(forest.sequences(), ends, strict=True))
    packing = Packing(read)
    with torch.no_grad(), model.backbone.exact():
        states_RD = packed_states(model.backbone, packing)[packing.last_tokens(read.leaves)]
        return model.head(states_RD[:, None])[:, 0].numpy()


def measure(quick: bool) -> dict[str, float]:
    split = split_dataset(load_dataset("movielens-100k"))
    long = [i for i, history in enumerate(split.test.histories()) if len(history) >= 80]
    users = 2 if quick else 4
    chosen = type(split.test)(
        split.dataset, split.test.positions[long[:: max(1, len(long) // (users + 1))][: users + 1]]
    )
    sets = candidate_sets(chosen, size=20)
    figures = memory(sets.histories[0], 100 if quick else 1000)  # first: a process only ever shows its highest peak
    for name, thinks, alone in (("scoring", False, separate_scores), ("thinking", True, separate_thoughts)):
        model, took, differences, spreads = prepared(thinks), Counter(), [], []

        def shared(history: History, items: np.ndarray, model: R2Rank = model) -> np.ndarray:
            return scores(model, history, items)

        for turn, (history, items) in enumerate(zip(sets.histories, sets.items_BN, strict=True)):
            ways = {
                "shared": lambda h=history, i=items, s=shared: s(h, i),
                "separate": lambda h=history, i=items, a=alone, m=model: a(m, h, i.tolist()),
            }
            answers = {}
            for way in list(ways)[:: 1 if turn % 2 else -1]:
                started = time.perf_counter()
                answers[way] = ways[way]()
                if turn:  # the first user is not counted
                    took[way] += time.perf_counter() - started
            if not thinks:  # greedy thoughts may differ where two words are equally likely
                differences.append(np.abs(answers["shared"] - answers["separate"]).max())
                spreads.append(answers["separate"].std())
            started = time.perf_counter()
            shared(history, items)
            if turn:
                took["again"] += time.perf_counter() - started
        figures[f"pair_{name}_speedup"] = took["separate"] / took["shared"]
        figures[f"kept_prefix_{name}_speedup"] = took["shared"] / took["again"]
        figures[f"{name}_pairs_per_second"] = 20 * users / took["shared"]
        if differences:
            figures["max_score_difference"] = float(max(differences))
            figures["score_deviation"] = float(np.mean(spreads))
    exact = prepared(False, "float32")
    history, items = sets.histories[0], sets.items_BN[0]
    apart = separate_scores(exact, history, items.tolist())
    figures["max_score_difference_fp32"] = float(np.abs(scores(exact, history, items) - apart).max())
    assert figures["max_score_difference_fp32"] < 0.01 * apart.std(), "the two ways do not score alike"
    figures["tokens_per_thought"] = float(THOUGHT_TOKENS)
    return figures


def memory(history: History, many: int) -> dict[str, float]:
    """What many candidates of one user take, and by how much they raise the peak that 20 of them have reached."""
    model = prepared(False)
    scores(model, history, np.arange(20, dtype=np.int32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    scores(model, history, np.arange(many, dtype=np.int32))
    return {
        "many_candidates": float(many),
        "many_seconds": time.perf_counter() - started,
        "many_more_gib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20,
    }


def main() -> None:
    arguments = parser(__doc__, quick="two users and 100 candidates: a check that it runs").parse_args()
    torch.set_num_threads(2)
    tell(measure(arguments.quick), arguments.json)


if __name__ == "__main__":
    main()

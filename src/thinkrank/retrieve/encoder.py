"""Read prompts with the language model, many at a time.

Shape legend: B prompts, D width.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.language import Backbone, Forest, Packing, Prompt, packed_states


def read_last(backbone: Backbone, prompts: Sequence[Prompt]) -> Float[Tensor, "B D"]:
    """The state at the last token of each prompt, in one differentiable pass; what all begin with is read once."""
    forest = Forest.rows(prompt.ids for prompt in prompts).share()
    packing = Packing(forest, backbone.device)
    return packed_states(backbone, packing)[packing.last_tokens(forest.leaves)]


def batches(prompts: Sequence[Prompt], tokens: int) -> Iterator[range]:
    """Cut prompts into runs of at most `tokens` tokens, none above it unless one prompt alone is."""
    start = total = 0
    for index, prompt in enumerate(prompts):
        if index > start and total + len(prompt) > tokens:
            yield range(start, index)
            start, total = index, 0
        total += len(prompt)
    if start < len(prompts):
        yield range(start, len(prompts))


@torch.no_grad()
def read_all(backbone: Backbone, prompts: Sequence[Prompt], *, batch_tokens: int = 4096) -> Float[Tensor, "B D"]:
    """The state at the last token of each prompt, without gradient, in batches of bounded size."""
    states_BD = torch.empty(len(prompts), backbone.hidden_size, device=backbone.device)
    for rows in batches(prompts, batch_tokens):
        states_BD[rows.start : rows.stop] = read_last(backbone, prompts[rows.start : rows.stop])
    return states_BD

"""Read prompts with the language model, many at a time.

Shape legend: B prompts, D width.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.language import Backbone, Prompt, hidden_states, last_states, pad


def read_last(backbone: Backbone, prompts: Sequence[Prompt]) -> Float[Tensor, "B D"]:
    """The state at the last token of each prompt, in one differentiable pass."""
    ids_BT, mask_BT = pad([prompt.ids for prompt in prompts], backbone.pad_id, device=backbone.device)
    return last_states(hidden_states(backbone, ids_BT, mask_BT), mask_BT)


def batches_by_length(prompts: Sequence[Prompt], tokens: int) -> Iterator[list[int]]:
    """Cut prompts into batches of similar length, none above `tokens` padded tokens unless one prompt alone is.

    Yields:
        indices into `prompts`, longest batch first, so that memory is at its highest at once.
    """
    rest = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    while rest:
        count = max(1, tokens // max(1, len(prompts[rest[0]])))
        yield rest[:count]
        rest = rest[count:]


@torch.no_grad()
def read_all(backbone: Backbone, prompts: Sequence[Prompt], *, batch_tokens: int = 4096) -> Float[Tensor, "B D"]:
    """The state at the last token of each prompt, without gradient, in batches of bounded size."""
    states_BD = torch.empty(len(prompts), backbone.hidden_size, device=backbone.device)
    for rows in batches_by_length(prompts, batch_tokens):
        states_BD[rows] = read_last(backbone, [prompts[row] for row in rows])
    return states_BD

"""Read prompts with the language model, many at a time.

Shape legend: B prompts, S a token's state and those of the latent positions behind it, D width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.language.backbone import Backbone
from thinkrank.language.exact import is_exact
from thinkrank.language.latent import LatentPositions, read_places, steps_of
from thinkrank.language.packing import Packing, batches, packed_states
from thinkrank.language.prefix_tree import PrefixTree, common_length
from thinkrank.language.text import Prompt


def read_last(backbone: Backbone, prompts: Sequence[Prompt]) -> Float[Tensor, "B D"]:
    """Read the state at the last token of each prompt in one differentiable pass; what all begin with is read once."""
    return _read(backbone, PrefixTree.rows(prompt.ids for prompt in prompts))


def _read(backbone: Backbone, forest: PrefixTree) -> Float[Tensor, "B D"]:
    forest = forest.share()
    packing = Packing(forest, backbone.device)
    return packed_states(backbone, packing)[packing.last_tokens(forest.leaves)]


@torch.no_grad()
def read_all(backbone: Backbone, prompts: Sequence[Prompt], *, batch_tokens: int = 4096) -> Float[Tensor, "B D"]:
    """Read the state at the last token of each prompt, without gradient, in batches of bounded size."""
    parts = [read_last(backbone, prompts[part]) for part in batches([len(p) for p in prompts], batch_tokens)]
    return torch.cat([torch.empty(0, backbone.hidden_size, device=backbone.device), *parts])


def read_growing(backbone: Backbone, prompts: Sequence[Prompt], *, batch_tokens: int = 4096) -> Float[Tensor, "B D"]:
    """Read the state at the last token of each prompt, without gradient; of neighbours that grow only the longest.

    A token sees nothing behind itself, so what a prompt begins with is read where another one goes on from it.
    """
    return read_steps(backbone, prompts, None, batch_tokens=batch_tokens)[:, 0]


@torch.no_grad()
def read_steps(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    latents: LatentPositions | None,
    *,
    batch_tokens: int = 4096,
    exchanged: bool = False,
) -> Float[Tensor, "B S D"]:
    """Read the state at the last token of each prompt and at the latent positions behind it; see `read_growing`.

    Args:
        backbone: the model.
        prompts: what stands before them.
        latents: the positions; None for none.
        batch_tokens: tokens read in one pass, unless one prompt alone has more.
        exchanged: see `read_places`; prompts read in one pass exchange what they feed back, and nothing is kept.
    """
    if backbone.kept is not None and not exchanged:
        sequences = [prompt.ids for prompt in prompts]
        return backbone.kept.read(backbone, sequences, batch_tokens=batch_tokens, latents=latents)
    chains: list[tuple[tuple[int, ...], list[int]]] = []
    for prompt in prompts:
        if chains and prompt.ids[: len(chains[-1][0])] == chains[-1][0]:
            chains[-1] = prompt.ids, [*chains[-1][1], len(prompt)]
        else:
            chains.append((prompt.ids, [len(prompt)]))
    parts = [torch.empty(0, 1 + steps_of(latents), backbone.hidden_size, device=backbone.device)]
    for part in batches([len(ids) for ids, _ in chains], batch_tokens):
        forest = PrefixTree.rows(ids for ids, _ in chains[part])
        packing = Packing(forest, backbone.device, records=latents is not None)
        ends = [packing.place(node, end - 1) for node, (_, of_chain) in enumerate(chains[part]) for end in of_chain]
        places_N = torch.tensor(ends, device=backbone.device)
        parts.append(read_places(backbone, packing, places_N, latents, exchanged=exchanged))
    return torch.cat(parts)


@torch.no_grad()
def read_behind(
    backbone: Backbone, prompts: Sequence[Prompt], endings: Sequence[Sequence[int]], *, batch_tokens: int = 4096
) -> Float[Tensor, "B D"]:
    """Read the state at the end of each ending behind its prompt, without gradient.

    Neighbours share one reading of what they begin with, such as thoughts about one history or about one that grows.
    """
    rows = [(*prompt.ids, *ending) for prompt, ending in zip(prompts, endings, strict=True)]
    if backbone.kept is not None:
        return backbone.kept.read(backbone, rows, batch_tokens=batch_tokens)[:, 0]
    lengths = [len(row) - (common_length(rows[at - 1], row) if at else 0) for at, row in enumerate(rows)]
    parts = [_read(backbone, PrefixTree.neighbours(rows[part])) for part in batches(lengths, batch_tokens)]
    return torch.cat([torch.empty(0, backbone.hidden_size, device=backbone.device), *parts])


@torch.no_grad()
def read_below(
    backbone: Backbone, prompts: Sequence[Prompt], *, batch_tokens: int = 4096
) -> list[Float[Tensor, "_ D"]]:
    """Read every token of each prompt up to the boundary at which items enter, without gradient."""
    found: list[Tensor] = []
    for part in batches([len(prompt) for prompt in prompts], batch_tokens):
        packing = Packing(PrefixTree.rows(prompt.ids for prompt in prompts[part]), backbone.device)
        with backbone.precision():
            states_TD = backbone.halves.below(packing.ids_T[None], packing.positions_T[None], packing)[0]
        found += states_TD.to(backbone.dtype).split([len(prompt) for prompt in prompts[part]])
    return found


@torch.no_grad()
def read_above(
    backbone: Backbone, below: Sequence[Float[Tensor, "_ D"]], *, batch_tokens: int = 4096
) -> Float[Tensor, "B D"]:
    """Read on from what `read_below` returned, to the state at the last token of each prompt, without gradient."""
    parts = [torch.empty(0, backbone.hidden_size, device=backbone.device)]
    for part in batches([len(states) for states in below], batch_tokens):
        forest = PrefixTree.rows([(0,) * len(states) for states in below[part]])
        packing = Packing(forest, backbone.device)
        with backbone.precision():
            inputs_TD = torch.cat(list(below[part]))
            inputs_TD = inputs_TD.float() if is_exact() else inputs_TD
            states_TD = backbone.halves.above(inputs_TD[None], packing.positions_T[None], packing)[0].float()
        parts.append(states_TD[packing.last_tokens(forest.leaves)])
    return torch.cat(parts)

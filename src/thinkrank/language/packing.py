"""A forest as one differentiable forward pass that computes every node once.

The tokens of all nodes stand behind one another in a single row. Everything in a decoder but attention looks at one
token at a time, so only attention has to know the forest: each node attends to the nodes above it and to itself. The
result equals the separate passes over every sequence, gradients included.

Shape legend: T tokens of the forest, H heads, J key-value heads, E head width, D hidden width, A tokens asked for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from thinkrank.language.attention import AttentionPattern, visible
from thinkrank.language.backbone import Backbone
from thinkrank.language.item_tokens import Halves
from thinkrank.language.prefix_tree import PrefixTree
from thinkrank.language.states import forward
from thinkrank.language.text_runs import part_of, text_runs

PrefixKV: TypeAlias = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values, (1, J, P, E) each, of a root's P tokens in every layer."""

_BLOCK_TOKENS = 256
"""Leaves beside one another attend in one call up to this many tokens, masked from each other: larger calls waste
work on masked pairs, smaller ones on call overhead (docs/lab-log.md)."""


@dataclass(frozen=True)
class _Block:
    """Hold nodes that attend together: one inner node, or some leaves under the same parent."""

    nodes: tuple[int, ...]
    above: tuple[int, ...]
    """Blocks of the nodes above them; each of those holds a single node."""


class Packing:
    """Put a forest's tokens into one row, and know what each of them attends to.

    Args:
        forest: the sequences.
        device: where the indices live.
        held: roots that were read before, by node. They have no tokens in the row, and no gradient flows into them.
        records: whether keys and values of the row are kept, for what is read behind it.

    Attributes:
        recorded: those keys and values by layer, of layers that read all tokens; None where none are kept.
    """

    def __init__(
        self,
        forest: PrefixTree,
        device: torch.device | str = "cpu",
        *,
        held: Mapping[int, PrefixKV] | None = None,
        records: bool = False,
    ) -> None:
        self.forest = forest
        self.device = torch.device(device)
        self.recorded: dict[int, tuple[Tensor, Tensor]] | None = {} if records else None
        blocks = _blocks(forest)
        held = held or {}
        if any(forest.parents[node] >= 0 or node in forest.leaves for node in held):
            raise ValueError("only a root with something below it can be held")
        self.blocks = blocks
        self._held = {index: held[node] for index, (node, *_) in enumerate(b.nodes for b in blocks) if node in held}
        order = [node for block in blocks for node in block.nodes if node not in held]
        self.offsets: dict[int, int] = {}
        offset = 0
        for node in order:
            self.offsets[node] = offset
            offset += len(forest.ids[node])
        self.ids_T = self._tensor(token for node in order for token in forest.ids[node])
        self.positions_T = self._tensor(
            position for node in order for position in range(forest.starts[node], forest.ends[node])
        )
        self._sizes = [sum(len(forest.ids[node]) for node in b.nodes if node not in held) for b in blocks]
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}

    def _tensor(self, numbers: Iterable[int]) -> Int[Tensor, "N"]:
        return torch.tensor(list(numbers), dtype=torch.long, device=self.device)

    def __len__(self) -> int:
        return len(self.ids_T)

    def tokens(self, nodes: Sequence[int]) -> Int[Tensor, "A"]:
        """Tell where the tokens of these nodes stand in the row, node by node."""
        return self._tensor(self.offsets[node] + i for node in nodes for i in range(len(self.forest.ids[node])))

    def place(self, node: int, position: int) -> int:
        """Tell where the token at this position of the sequence that ends with the node stands in the row.

        Raises:
            ValueError: if the sequence has no such position.
        """
        step = node
        while step >= 0 and position < self.forest.starts[step]:
            step = self.forest.parents[step]
        if step < 0 or position >= self.forest.ends[step]:
            raise ValueError(f"the sequence that ends in node {node} has no position {position}")
        return self.offsets[step] + position - self.forest.starts[step]

    def predictors(self, nodes: Sequence[int]) -> Int[Tensor, "A"]:
        """Tell where the token before each token of these nodes stands: its state predicts that token.

        Raises:
            ValueError: for the first token of a sequence, which nothing predicts.
        """
        return self._tensor(
            self.offsets[node] + i - 1 if i else self.last(self.forest.parents[node])
            for node in nodes
            for i in range(len(self.forest.ids[node]))
        )

    def last(self, node: int) -> int:
        """Tell where the last token of the sequence that ends with this node stands.

        Raises:
            ValueError: if that sequence is empty.
        """
        while node >= 0 and not self.forest.ids[node]:
            node = self.forest.parents[node]
        if node < 0:
            raise ValueError("there is no token before the first one of a sequence")
        return self.offsets[node] + len(self.forest.ids[node]) - 1

    def last_tokens(self, nodes: Sequence[int]) -> Int[Tensor, "A"]:
        """Tell where the last token of each of these nodes' sequences stands: its state is the text's vector."""
        return self._tensor(self.last(node) for node in nodes)

    def text_below(self, halves: Halves, first_item: int) -> tuple[Int[Tensor, "A"], Float[Tensor, "A D"]]:
        """Read the tokens that are no items up to the boundary of the halves, run by run; see `text_runs`.

        Raises:
            ValueError: if a root is held and text stands behind it: of the root only the upper layers are known.
        """
        texts, tokens = text_runs(self.forest, first_item)
        if self._held:
            if any(token.node in self.offsets for token in tokens):
                raise ValueError("text behind a prompt that is held cannot be read beside items")
            return self._tensor(()), torch.empty(0, 0, device=self.device)
        states = _states_of_texts(halves, texts, self.device)
        starts = [0, *accumulate(map(len, texts.ids))]
        places_A = self._tensor(self.offsets[token.node] + token.place for token in tokens)
        sources_A = self._tensor(starts[token.text_node] + token.text_place for token in tokens)
        return places_A, states[sources_A]

    def attend(
        self,
        layer: int,
        queries_BHTE: Float[Tensor, "1 H T E"],
        keys_BJTE: Float[Tensor, "1 J T E"],
        values_BJTE: Float[Tensor, "1 J T E"],
        *,
        scale: float,
        window: int | None,
    ) -> Float[Tensor, "1 H T E"]:
        """Attend block by block; see `AttentionPattern`."""
        if self.recorded is not None:
            self.recorded[layer] = keys_BJTE, values_BJTE
        queries = queries_BHTE.split(self._sizes, dim=2)
        keys, values = self._per_block(layer, keys_BJTE, values_BJTE)
        mixed = []
        for index, block in enumerate(self.blocks):
            if not self._sizes[index]:
                mixed.append(queries[index])
                continue
            seen = [*block.above, index]
            seen_keys = torch.cat([keys[i] for i in seen], dim=2) if block.above else keys[index]
            seen_values = torch.cat([values[i] for i in seen], dim=2) if block.above else values[index]
            mixed.append(_mix(queries[index], seen_keys, seen_values, self._mask(index, window), scale))
        return torch.cat(mixed, dim=2)

    def _per_block(self, layer: int, keys_BJTE: Tensor, values_BJTE: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return keys and values of each block, of those that are held too."""
        keys, values = ([*x.split(self._sizes, dim=2)] for x in (keys_BJTE, values_BJTE))
        for index, layers in self._held.items():
            keys[index], values[index] = layers[layer]
        return keys, values

    def _mask(self, index: int, window: int | None) -> Tensor | None:
        """Mask what a block's tokens see of the nodes above and of each other; None is plain causality."""
        block = self.blocks[index]
        if window is not None and max(self.forest.ends[node] for node in block.nodes) <= window:
            window = None
        if window is None and not block.above and len(block.nodes) == 1:
            return None
        if (index, window) not in self._masks:
            above = [node for i in block.above for node in self.blocks[i].nodes]
            nodes_T, positions_T = self._owners(block.nodes)
            nodes_S, positions_S = self._owners([*above, *block.nodes])
            own_S = torch.isin(nodes_S, self._tensor(block.nodes))
            strangers_TS = own_S[None, :] & (nodes_T[:, None] != nodes_S[None, :])
            self._masks[index, window] = visible(positions_T, positions_S, window) & ~strangers_TS
        return self._masks[index, window]

    def _owners(self, nodes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the node and the position of each token of these nodes."""
        forest = self.forest
        owners = self._tensor(node for node in nodes for _ in forest.ids[node])
        return owners, self._tensor(p for node in nodes for p in range(forest.starts[node], forest.ends[node]))


class Behind:
    """Attention of positions that stand behind places of a row which was read: steps, one position of each at a time.

    A position sees what the token at its place sees, that token, and itself; and of the steps before it those behind
    the same place, if `sees_steps`. Nothing in the row sees it.

    Args:
        packing: the row; it recorded its keys and values.
        places_N: where the positions stand, in any order.
        sees_steps: whether a step sees those before it.

    Attributes:
        order_N: the places' order in which queries are given: those of one block stand beside one another.
    """

    def __init__(self, packing: Packing, places_N: Int[Tensor, "N"], *, sees_steps: bool) -> None:
        if packing.recorded is None:
            raise ValueError("the packing has recorded no keys and values: make it with records=True")
        self._recorded = packing.recorded
        self._packing, self._sees_steps = packing, sees_steps
        ends = torch.tensor(packing._sizes, device=packing.device).cumsum(dim=0)
        blocks_N = torch.searchsorted(ends, places_N, right=True)
        self.order_N = blocks_N.argsort(stable=True)
        self._places_N = places_N[self.order_N]
        self._counts = torch.bincount(blocks_N, minlength=len(packing.blocks)).tolist()
        self._masks: dict[tuple[int, int | None, int], Tensor] = {}
        self._steps: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def attend(
        self,
        layer: int,
        queries_BHTE: Float[Tensor, "1 H T E"],
        keys_BJTE: Float[Tensor, "1 J T E"],
        values_BJTE: Float[Tensor, "1 J T E"],
        *,
        scale: float,
        window: int | None,
    ) -> Float[Tensor, "1 H T E"]:
        """Attend to the row and to the steps so far; see `AttentionPattern`."""
        packing = self._packing
        before = self._steps.setdefault(layer, []) if self._sees_steps else []
        before.append((keys_BJTE, values_BJTE))
        rows = packing._per_block(layer, *self._recorded[layer])
        steps = [[x.split(self._counts, dim=2) for x in both] for both in before]
        mixed = []
        for index, queries in enumerate(queries_BHTE.split(self._counts, dim=2)):
            if not self._counts[index]:
                continue
            seen = [*packing.blocks[index].above, index]
            keys, values = (
                torch.cat([*(row[i] for i in seen), *(step[kind][index] for step in steps)], dim=2)
                for kind, row in enumerate(rows)
            )
            mixed.append(_mix(queries, keys, values, self._mask(index, window, len(before)), scale))
        return torch.cat(mixed, dim=2)

    def _mask(self, index: int, window: int | None, steps: int) -> Bool[Tensor, "T S"]:
        """Mask what the positions behind a block's places see of it, of what is above it and of the steps."""
        if (index, window, steps) not in self._masks:
            packing, block = self._packing, self._packing.blocks[index]
            first = sum(self._counts[:index])
            places_T = self._places_N[first : first + self._counts[index]] - sum(packing._sizes[:index])
            above = [node for i in block.above for node in packing.blocks[i].nodes]
            own_nodes, own_positions = packing._owners(block.nodes)
            _, above_positions = packing._owners(above)
            nodes_T, positions_T = own_nodes[places_T], own_positions[places_T]
            # a step stands so much further behind that the window moves on with it
            reach = None if window is None else window - (steps if self._sees_steps else 1)
            same_TS = nodes_T[:, None] == own_nodes[None, :]
            parts = [
                visible(positions_T, above_positions, reach),
                visible(positions_T, own_positions, reach) & same_TS,
                torch.eye(len(places_T), dtype=torch.bool, device=packing.device).repeat(1, steps),
            ]
            self._masks[index, window, steps] = torch.cat(parts, dim=1)
        return self._masks[index, window, steps]


def _mix(
    queries_1HTE: Tensor, keys_1JSE: Tensor, values_1JSE: Tensor, mask_TS: Bool[Tensor, "T S"] | None, scale: float
) -> Tensor:
    """Mix values by one call of torch's attention; without a mask it is plain causality."""
    groups = queries_1HTE.shape[1] // keys_1JSE.shape[1]
    if groups > 1 and mask_TS is not None and not keys_1JSE.is_cpu:
        # kernels of other devices take a mask or shared keys, not both, and fall back to slow ones
        keys_1JSE, values_1JSE = (x.repeat_interleave(groups, dim=1) for x in (keys_1JSE, values_1JSE))
    return scaled_dot_product_attention(
        queries_1HTE,
        keys_1JSE,
        values_1JSE,
        attn_mask=mask_TS,
        is_causal=mask_TS is None,
        scale=scale,
        enable_gqa=queries_1HTE.shape[1] != keys_1JSE.shape[1],
    )


def _blocks(forest: PrefixTree) -> list[_Block]:
    """Cut a forest into blocks, parents first; neighbouring leaves under one parent share a block."""
    children: dict[int, list[int]] = {node: [] for node in range(-1, len(forest.ids))}
    for node, parent in enumerate(forest.parents):
        children[parent].append(node)
    blocks: list[_Block] = []

    def visit(parent: int, above: tuple[int, ...]) -> None:
        waiting: list[int] = []
        for leaf in (node for node in children[parent] if not children[node]):
            if waiting and sum(len(forest.ids[node]) for node in (*waiting, leaf)) > _BLOCK_TOKENS:
                blocks.append(_Block(tuple(waiting), above))
                waiting = []
            waiting.append(leaf)
        if waiting:
            blocks.append(_Block(tuple(waiting), above))
        for inner in (node for node in children[parent] if children[node]):
            blocks.append(_Block((inner,), above))
            visit(inner, (*above, len(blocks) - 1))

    visit(-1, ())
    return blocks


def _states_of_texts(halves: Halves, texts: PrefixTree, device: torch.device) -> Float[Tensor, "A D"]:
    """Read texts up to the boundary of the halves, node by node; what is kept of them is not read again."""
    sequences = [texts.sequence(node) for node in range(len(texts.ids))]
    kept = [halves.kept_text(ids, len(own)) for ids, own in zip(sequences, texts.ids, strict=True)]
    found = {node: states for node, states in enumerate(kept) if states is not None}
    part, numbers = part_of(texts, (node for node in range(len(sequences)) if node not in found))
    if len(part.ids):
        packing = Packing(part, device)
        read_TD = halves.below(packing.ids_T[None], packing.positions_T[None], packing)[0]
        for node, number in enumerate(numbers):
            if number not in found:
                start = packing.offsets[node]
                found[number] = read_TD[start : start + len(part.ids[node])]
                halves.keep_text(sequences[number], found[number])
    return torch.cat([torch.empty(0, device=device), *(found[node] for node in range(len(sequences)))])


def packed_states(
    backbone: Backbone, packing: Packing, *, sight: AttentionPattern | None = None
) -> Float[Tensor, "T D"]:
    """Read the final (normed) hidden state of every token of the forest, in fp32, in one differentiable pass.

    Args:
        backbone: the model; an adapter on it is active.
        packing: the forest; its order of tokens is the order of the states.
        sight: what attends instead of the packing, to watch it.
    """
    return forward(backbone, packing.ids_T[None], packing.positions_T[None], sight or packing)[0]


def batches(lengths: Sequence[int], tokens: int) -> Iterator[slice]:
    """Cut texts into runs of at most `tokens` tokens, none above it unless one text alone is."""
    start = total = 0
    for index, length in enumerate(lengths):
        if index > start and total + length > tokens:
            yield slice(start, index)
            start, total = index, 0
        total += length
    if start < len(lengths):
        yield slice(start, len(lengths))

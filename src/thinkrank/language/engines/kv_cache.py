"""Keys and values of a prefix tree while completions of its leaves are being written.

Each node's keys and values exist once, whatever hangs below it. In one step, level by level of the forest, all rows
below a node are multiplied with that node's keys as one matrix (see `kv_levels`); then every row with what it has
written itself; one softmax goes over all of them.

Where items are tokens, the layers below the boundary hold the text of the same tree alone, at positions that count
text: what is written stands behind a beginning, items, and at most one run of text.

Shape legend: R rows, N nodes of a level, F rows below a node at most, P tokens of a level's longest node, O own tokens,
H heads, J key-value heads, G = H / J, E head width, S seen tokens, D hidden width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.kv_levels import Level
from thinkrank.language.item_tokens import Halves, ItemTokens
from thinkrank.language.kept_states import Pieces
from thinkrank.language.packing import Packing, PrefixKV, packed_states
from thinkrank.language.prefix_tree import PrefixTree
from thinkrank.language.states import forward
from thinkrank.language.text_runs import text_alone

_PREFILL_TOKENS = 4096
"""Tokens read in one pass, unless one tree alone has more."""


class KVCache:
    """Hold the keys and values of a tree's nodes and of the rows that are being written.

    Args:
        backbone: the model.
        forest: the prompts.
        num_own: tokens each row may add.
        limit: bytes of keys and values held at most.
        prefixes: gives the keys and values of roots, by their ids, or None for those to read here; None gives none.
    """

    def __init__(
        self,
        backbone: Backbone,
        forest: PrefixTree,
        num_own: int,
        limit: float,
        prefixes: Callable[[Sequence[tuple[int, ...]]], Sequence[PrefixKV | None]] | None = None,
    ) -> None:
        self.backbone, self.forest, self.num_own, self.limit = backbone, forest, num_own, limit
        self.prefixes = prefixes
        config = backbone.model.config
        heads = config.num_key_value_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.num_layers = int(config.num_hidden_layers)
        self.groups = config.num_attention_heads // heads
        self.shape = (int(heads), int(width))
        self.dtype = torch.bfloat16 if backbone.dtype == torch.bfloat16 else torch.float32
        self.token_bytes = 2 * self.num_layers * heads * width * self.dtype.itemsize
        self.leaves: list[int] = []
        everything = range(self.num_layers)
        self.sides = [_Side(forest, everything)]
        """The tree as all layers see it; or as those below the boundary do, and those above it."""
        if (items := backbone.items) is not None and self._holds_items(forest):
            text = _Side(text_alone(forest, items.first_id), everything[: items.depth])
            self.sides = [text, _Side(forest, everything[items.depth :])]
        self.own = [self._own(0) for _ in range(self.num_layers)]
        self.written_R = torch.zeros(0, dtype=torch.long)
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def _holds_items(self, forest: PrefixTree) -> bool:
        items = self.backbone.items
        return items is not None and any(token >= items.first_id for ids in forest.ids for token in ids)

    def replant(self, forest: PrefixTree, moved: Mapping[int, int], num_own: int) -> bool:
        """Go on with other prompts, of which some were there before; `rebuild` must follow.

        Args:
            forest: the prompts from now on.
            moved: number of each node that stays, before and from now on.
            num_own: tokens each row may add, if that is more than before.

        Returns:
            False, and nothing has changed, if only one of the two holds items.
        """
        if self._holds_items(forest) != (len(self.sides) > 1):
            return False
        more = num_own - self.num_own
        if more > 0:
            self.num_own = num_own
            self.own = [(pad(keys, (0, more)), pad(values, (0, 0, 0, more))) for keys, values in self.own]
        self.forest, self.leaves = forest, [moved.get(leaf, -1) for leaf in self.leaves]
        items = self.backbone.items
        for side in self.sides:
            lower = items is not None and side is not self.sides[-1]
            side.forest = text_alone(forest, cast(ItemTokens, items).first_id) if lower else forest
            for level in side.levels:
                level.index = {moved[node]: place for node, place in level.index.items() if node in moved}
        return True

    def _empty(self, rows: int, tokens: int) -> tuple[Tensor, Tensor]:
        heads, width = self.shape
        keys, values = (
            torch.zeros(rows, heads, tokens, width, dtype=self.dtype, device=self.backbone.device) for _ in range(2)
        )
        return keys, values

    def _own(self, rows: int) -> tuple[Tensor, Tensor]:
        """Make room for what rows write; the keys stand as columns, ready to be multiplied."""
        keys, values = self._empty(rows, self.num_own)
        return keys.transpose(2, 3).contiguous(), values

    def fits(self, leaves: Sequence[int]) -> bool:
        """Tell whether rows below these leaves (one each, a leaf may occur often) can be held together."""
        cells = len(leaves) * self.num_own * self.num_layers
        for nodes in self._nodes_by_level(leaves):
            for side in self.sides:
                cells += len(side.layers) * len(nodes) * max(len(side.forest.ids[node]) for node in nodes)
        return cells * self.token_bytes <= self.limit * self.num_layers

    def _nodes_by_level(self, leaves: Iterable[int]) -> list[list[int]]:
        levels: list[dict[int, None]] = []
        for leaf in dict.fromkeys(leaves):
            for depth, node in enumerate(self.forest.path(leaf)):
                if depth == len(levels):
                    levels.append({})
                levels[depth][node] = None
        return [list(nodes) for nodes in levels]

    def rebuild(self, kept: Sequence[int], joining: Sequence[int]) -> Float[Tensor, "N D"]:
        """Drop all rows but `kept` (indices), add one below each leaf of `joining`, and read the nodes they need.

        Returns:
            the state at the last token of each joining row's prompt.
        """
        self.leaves = [self.leaves[row] for row in kept] + list(joining)
        known = {node for level in self.sides[-1].levels for node in level.index}
        self._seat(kept)
        states: dict[int, Tensor] = {}
        for leaves in self._prefill_batches(joining):
            states.update(self._prefill(leaves, known))
        width = self.backbone.hidden_size
        return torch.stack([states[leaf] for leaf in joining]) if joining else torch.empty(0, width)

    def _seat(self, kept: Sequence[int]) -> None:
        """Give the nodes that rows need their places, and the rows theirs, with room for more as the limit allows."""
        nodes_by_level = self._nodes_by_level(self.leaves)
        for side in self.sides:
            known = side.levels[: len(nodes_by_level)]
            new = range(len(known), len(nodes_by_level))
            side.levels = [*known, *(Level(depth, side.layers, self._empty, self.backbone.device) for depth in new)]
        seats = [(side, *both) for side in self.sides for both in zip(side.levels, nodes_by_level, strict=True)]
        rows, count = len(self.own[0][0]), len(self.leaves)
        rows = rows if count <= rows <= 2 * count else count
        cells = rows * self.num_own * self.num_layers
        for side, level, nodes in seats:
            places, width = level.room(side.forest, nodes)
            cells += len(side.layers) * places * width
        tight = cells * self.token_bytes > self.limit * self.num_layers
        for side, level, nodes in seats:
            level.seat(side.forest, nodes, self.leaves, tight=tight)
        self._seat_own(kept, count if tight else rows)

    def _seat_own(self, kept: Sequence[int], room: int) -> None:
        """Put what kept rows have written first, with room for so many rows."""
        rows = torch.as_tensor(kept, dtype=torch.long, device=self.backbone.device)
        as_was = list(kept) == list(range(len(kept)))
        for layer, before in enumerate(self.own):
            after = before if room == len(before[0]) else self._own(room)
            if after is not before or not as_was:
                for to, was in zip(after, before, strict=True):
                    to[: len(kept)] = was[rows]
            self.own[layer] = after

    def _prefill_batches(self, joining: Sequence[int]) -> Iterator[list[int]]:
        """Cut leaves into batches of whole trees and bounded size."""
        batch: list[int] = []
        nodes: set[int] = set()
        for leaf in dict.fromkeys(joining):
            path = self.forest.path(leaf)
            tokens = sum(len(self.forest.ids[node]) for node in nodes.union(path))
            if batch and path[0] not in nodes and tokens > _PREFILL_TOKENS:
                yield batch
                batch, nodes = [], set()
            batch.append(leaf)
            nodes.update(path)
        if batch:
            yield batch

    def _prefill(self, leaves: Sequence[int], known: set[int]) -> dict[int, Tensor]:
        """Read the paths to these leaves, keep what is not known yet, and return the leaves' last states."""
        nodes = sorted({node for leaf in leaves for node in self.forest.path(leaf)})
        place = {node: i for i, node in enumerate(nodes)} | {-1: -1}
        part = PrefixTree(
            tuple(self.forest.ids[node] for node in nodes), tuple(place[self.forest.parents[node]] for node in nodes)
        )
        held = self._held(part)
        packing = Packing(part, self.backbone.device, held=held)
        for side in self.sides:
            for level, n, node in self._fresh(side, place, known):
                for layer, kept in zip(side.layers, held.get(node, ()), strict=False):
                    for to, was in zip(level.layers[layer], kept, strict=True):
                        to[n, :, : was.shape[2]] = was[0]
        recorder = _Recorder(packing, self.sides, lambda side: self._fresh(side, place, known), frozenset(held))
        states_TD = packed_states(self.backbone, packing, sight=recorder)
        return {leaf: states_TD[packing.last(place[leaf])] for leaf in leaves}

    def _fresh(self, side: "_Side", place: Mapping[int, int], known: set[int]) -> "list[tuple[Level, int, int]]":
        """List the nodes whose keys and values are not there yet: level, place in it, node of the part."""
        return [
            (level, level.index[node], place[node])
            for level in side.levels
            for node in level.index
            if node in place and node not in known and side.forest.ids[node]
        ]

    def _held(self, part: PrefixTree) -> dict[int, PrefixKV]:
        """Find the roots with something below them in the prefixes that are kept."""
        if self.prefixes is None:
            return {}
        above = set(part.parents)
        roots = [node for node, parent in enumerate(part.parents) if parent < 0 and node in above]
        found = zip(roots, self.prefixes([part.ids[root] for root in roots]), strict=True)
        return {root: kept for root, kept in found if kept is not None}

    def layers_of(self, leaf: int) -> list[Pieces] | None:
        """Return the keys and values of a whole prompt that was read; None where layers below items saw only text."""
        if len(self.sides) > 1:
            return None
        (side,) = self.sides
        places = [
            (level.layers, level.index[node], len(side.forest.ids[node]))
            for level, node in zip(side.levels, side.forest.path(leaf), strict=False)
        ]
        return [
            (
                [layers[layer][0][n : n + 1, :, :length] for layers, n, length in places],
                [layers[layer][1][n : n + 1, :, :length] for layers, n, length in places],
            )
            for layer in side.layers
        ]

    def read(self, tokens: Sequence[int], written: Sequence[int]) -> Float[Tensor, "R D"]:
        """Read one token per row and return its state.

        Args:
            tokens: the token of each row.
            written: how many own tokens stand before it; those behind are forgotten.
        """
        device = self.backbone.device
        self.written_R = torch.as_tensor(written, device=device)
        self._masks.clear()
        for side in self.sides:
            starts_R = torch.as_tensor([side.forest.ends[leaf] for leaf in self.leaves], device=device)
            side.positions_R = starts_R + self.written_R
        self.most_written = max(written) + 1
        ids_R1 = torch.as_tensor(tokens, device=device)[:, None]
        places = [side.positions_R[:, None] for side in self.sides]
        if len(places) == 1:
            return forward(self.backbone, ids_R1, places[0], self)[:, 0]
        halves = self.backbone.halves
        with self.backbone.precision():
            return halves.above(halves.below(ids_R1, places[0], self), places[1], self).float()[:, 0]

    def attend(
        self,
        layer: int,
        queries_BHTE: Float[Tensor, "R H 1 E"],
        keys_BJTE: Float[Tensor, "R J 1 E"],
        values_BJTE: Float[Tensor, "R J 1 E"],
        *,
        scale: float,
        window: int | None,
    ) -> Float[Tensor, "R H 1 E"]:
        """Attend to the nodes above each row and to what it has written; see `AttentionPattern`."""
        rows, heads, _, width = queries_BHTE.shape
        own_keys, own_values = (both[:rows] for both in self.own[layer])
        everyone = torch.arange(rows, device=queries_BHTE.device)
        own_keys[everyone, :, :, self.written_R] = keys_BJTE[:, :, 0].to(self.dtype)
        own_values[everyone, :, self.written_R] = values_BJTE[:, :, 0].to(self.dtype)
        queries_RJGE = (queries_BHTE * scale).to(self.dtype).view(rows, -1, self.groups, width)
        number = 0 if layer in self.sides[0].layers else 1
        levels = self.sides[number].levels
        scores = [level.scores(layer, queries_RJGE) for level in levels]
        scores.append(queries_RJGE @ own_keys[..., : self.most_written])
        shares = (torch.cat(scores, dim=-1) + self._hidden(number, window)).softmax(dim=-1).to(self.dtype)
        *above, own = shares.split([score.shape[-1] for score in scores], dim=-1)
        mixed_RJGE = own @ own_values[:, :, : self.most_written]
        for level, share in zip(levels, above, strict=True):
            mixed_RJGE = mixed_RJGE + level.mix(layer, share)
        return mixed_RJGE.view(rows, heads, 1, width).to(queries_BHTE.dtype)

    def _hidden(self, number: int, window: int | None) -> Float[Tensor, "R 1 1 S"]:
        """Mask, by an addend, what rows must not see of the nodes above and of their own memory, once per step."""
        if (number, window) not in self._masks:
            side = self.sides[number]
            behind = [level.behind(side.positions_R) for level in side.levels]
            behind.append(self.written_R[:, None] - torch.arange(self.most_written, device=self.written_R.device))
            behind_RS = torch.cat(behind, dim=1)
            hidden_RS = behind_RS < 0 if window is None else (behind_RS < 0) | (behind_RS >= window)
            mask_RS = torch.zeros(hidden_RS.shape, device=hidden_RS.device).masked_fill_(hidden_RS, -torch.inf)
            self._masks[number, window] = mask_RS[:, None, None, :]
        return self._masks[number, window]


class _Side:
    """Hold a tree as some layers see it, and what they keep of it."""

    def __init__(self, forest: PrefixTree, layers: range) -> None:
        self.forest, self.layers = forest, layers
        self.levels: list[Level] = []
        self.positions_R = torch.zeros(0, dtype=torch.long)


class _Recorder:
    """Attend as a packing does, and keep the keys and values of some nodes."""

    def __init__(
        self,
        packing: Packing,
        sides: Sequence[_Side],
        fresh: Callable[[_Side], list[tuple[Level, int, int]]],
        held: frozenset[int] = frozenset(),
    ) -> None:
        self.packing, self.sides, self.fresh = packing, sides, fresh
        self.pieces = [
            (level, n, slice(packing.offsets[node], packing.offsets[node] + len(packing.forest.ids[node])))
            for side in sides  # both: where a part of the tree holds no item, all layers read it at once
            for level, n, node in fresh(side)
            if node not in held
        ]

    def text_below(self, halves: Halves, first_item: int) -> tuple[Int[Tensor, "A"], Float[Tensor, "A D"]]:
        """Keep what the layers below the boundary see; see `MixedPattern`."""
        forest, offsets = self.packing.forest, self.packing.offsets
        text = Packing(text_alone(forest, first_item), self.packing.device)
        places = [
            offsets[node] + place
            for node in text.offsets
            for place, token in enumerate(forest.ids[node])
            if token < first_item
        ]
        watched = _Recorder(text, self.sides[:1], self.fresh)
        states_1AD = halves.below(text.ids_T[None], text.positions_T[None], watched)
        return torch.tensor(places, dtype=torch.long, device=self.packing.device), states_1AD[0]

    def attend(
        self,
        layer: int,
        queries_BHTE: Tensor,
        keys_BJTE: Tensor,
        values_BJTE: Tensor,
        *,
        scale: float,
        window: int | None,
    ) -> Tensor:
        for level, n, part in self.pieces:
            if layer not in level.layers:
                continue
            keys, values = level.layers[layer]
            keys[n, :, : part.stop - part.start] = keys_BJTE[0, :, part]
            values[n, :, : part.stop - part.start] = values_BJTE[0, :, part]
        return self.packing.attend(layer, queries_BHTE, keys_BJTE, values_BJTE, scale=scale, window=window)

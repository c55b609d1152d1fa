"""Histories that grow are read where they went on: keys and values of sequences, kept between requests within a bound.

A token sees nothing behind itself. What a sequence begins with was often read before: the same user came back with an
event more, or somebody takes an item out of a history to see what follows. Only what is new is read then, and the
states equal a whole reading to rounding.

Shape legend: B sequences, S a token's state and those of the latent positions behind it, D width.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.language.backbone import Backbone
from thinkrank.language.exact import is_exact
from thinkrank.language.latent import LatentPositions, read_places, steps_of
from thinkrank.language.packing import Packing, PrefixKV, batches
from thinkrank.language.prefix_tree import PrefixTree

Ids = tuple[int, ...]

Pieces = tuple[list[Tensor], list[Tensor]]
"""Keys and values of one layer, (1, heads, tokens, width) each, one behind the other; none where none are kept."""

_OUTGROWN = 0.9
"""A sequence is dropped when another one goes on from this share of it: its history has grown."""


@dataclass(frozen=True, eq=False)
class _Kept:
    ids: Ids
    exact: bool
    hashes: tuple[int, ...]
    layers: PrefixKV


class KeptStates:
    """Read sequences, and keep what was read; the least recently used are dropped first. Threads may read at once.

    For a model whose weights no longer change. Whoever asks in fp32 (see `exact`) gets what was read in fp32.

    Args:
        max_tokens: tokens whose keys and values are kept at most.

    Attributes:
        hits: sequences of which a beginning was kept.
        misses: the others.
        tokens_kept: tokens that were not read again.
        tokens_read: tokens that were.
    """

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.hits = self.misses = self.tokens_kept = self.tokens_read = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._by_hash: dict[int, _Kept] = {}
        self._lock = threading.Lock()
        self._num_tokens = 0

    @property
    def num_tokens(self) -> int:
        """Count the tokens kept now."""
        return self._num_tokens

    @torch.no_grad()
    def read(
        self,
        backbone: Backbone,
        sequences: Sequence[Sequence[int]],
        *,
        batch_tokens: int = 4096,
        latents: LatentPositions | None = None,
    ) -> Float[Tensor, "B S D"]:
        """Read the state at the last token of each sequence, and at each latent position behind it, without gradient.

        Args:
            backbone: always the same model.
            sequences: token ids, none empty.
            batch_tokens: tokens read in one pass, unless one sequence alone has more.
            latents: what stands behind each sequence; nothing of it is kept. None for nothing.
        """
        wanted = [tuple(ids) for ids in sequences]
        beginnings = {ids: self._begin(backbone, ids) for ids in dict.fromkeys(wanted)}
        found: dict[Ids, Tensor] = {}
        for with_kept in (False, True):
            part = [ids for ids, (_, count) in beginnings.items() if bool(count) == with_kept]
            for some in batches([len(ids) - beginnings[ids][1] for ids in part], batch_tokens):
                found |= self._read(backbone, {ids: beginnings[ids] for ids in part[some]}, latents)
        empty = torch.empty(0, 1 + steps_of(latents), backbone.hidden_size, device=backbone.device)
        return torch.stack([found[ids] for ids in wanted]) if wanted else empty

    def beginning(self, backbone: Backbone, ids: Ids) -> tuple[int, PrefixKV]:
        """Find the longest kept beginning of a sequence that is about to be read elsewhere, and count it.

        Returns:
            its length, at most all but the last token, and its keys and values; 0 and none if none is kept.
        """
        kept, count = self._begin(backbone, ids)
        return (0, ()) if kept is None else (count, _first(kept.layers, count))

    def keep(self, ids: Ids, layers: Sequence[Pieces]) -> None:
        """Keep a copy of the keys and values of a sequence that was read elsewhere."""
        self._keep(_Kept(ids, is_exact(), _hashes(ids, is_exact()), _copied(layers)))

    def _begin(self, backbone: Backbone, ids: Ids) -> tuple[_Kept | None, int]:
        """Find the longest kept beginning, at most all but the last token, and count it."""
        hashes, exact = _hashes(ids, is_exact()), is_exact()
        found: tuple[_Kept | None, int] = (None, 0)
        with self._lock:
            for count in range(len(ids) - 1, 0, -1):
                kept = self._by_hash.get(hashes[count - 1])
                if kept is not None and kept.exact == exact and kept.ids[:count] == ids[:count]:
                    if _is_enough(backbone, kept, ids, count):
                        self._kept.move_to_end(id(kept))
                        found = kept, count
                    break
            self.hits, self.misses = self.hits + bool(found[1]), self.misses + (not found[1])
            self.tokens_kept, self.tokens_read = self.tokens_kept + found[1], self.tokens_read + len(ids) - found[1]
        return found

    def _read(
        self, backbone: Backbone, some: dict[Ids, tuple[_Kept | None, int]], latents: LatentPositions | None
    ) -> dict[Ids, Tensor]:
        """Read what is new of some sequences, all of which have a kept beginning or none."""
        ids: list[Ids] = []
        parents: list[int] = []
        held: dict[int, PrefixKV] = {}
        leaves: list[int] = []
        for sequence, (kept, count) in some.items():
            if kept is not None:
                held[len(ids)] = _first(kept.layers, count)
                ids, parents = [*ids, sequence[:count]], [*parents, -1]
            leaves.append(len(ids))
            ids, parents = [*ids, sequence[count:]], [*parents, len(ids) - 1 if kept is not None else -1]
        packing = Packing(PrefixTree(tuple(ids), tuple(parents)), backbone.device, held=held, records=True)
        states_LSD = read_places(backbone, packing, packing.last_tokens(leaves), latents)
        exact = is_exact()
        for (sequence, (kept, count)), leaf in zip(some.items(), leaves, strict=True):
            begin = packing.offsets[leaf]
            new = slice(begin, begin + len(sequence) - count)
            layers = _pieces(packing, new, None if kept is None else held[leaf - 1])
            self._keep(_Kept(sequence, exact, _hashes(sequence, exact), _copied(layers)))
        return dict(zip(some, states_LSD, strict=True))

    def _keep(self, new: _Kept) -> None:
        if len(new.ids) > self.max_tokens:
            return
        with self._lock:
            outgrown = next((self._by_hash[one] for one in reversed(new.hashes) if one in self._by_hash), None)
            self._kept[id(new)] = new
            self._by_hash |= dict.fromkeys(new.hashes, new)
            self._num_tokens += len(new.ids)
            if outgrown is not None and outgrown.exact == new.exact:
                count = int(_OUTGROWN * len(outgrown.ids))
                if outgrown.ids[:count] == new.ids[:count]:
                    self._drop(outgrown)
            while self._num_tokens > self.max_tokens:
                self._drop(next(iter(self._kept.values())))

    def _drop(self, old: _Kept) -> None:
        del self._kept[id(old)]
        self._num_tokens -= len(old.ids)
        for one in old.hashes:
            if self._by_hash.get(one) is old:
                del self._by_hash[one]


def _pieces(packing: Packing, part: slice, held: PrefixKV | None) -> list[Pieces]:
    """Find the keys and values of some tokens behind those that were held; nothing of layers below items."""
    recorded = packing.recorded or {}
    made: list[Pieces] = []
    for layer in range(max(recorded) + 1):
        if layer in recorded:
            keys, values = (both[:, :, part] for both in recorded[layer])
            before = () if held is None else held[layer]
            made.append(([*before[:1], keys], [*before[1:], values]))
        else:
            made.append(([], []))
    return made


def _copied(layers: Sequence[Pieces]) -> PrefixKV:
    """Copy keys and values into one block of memory, which goes back as a whole and leaves no holes behind."""
    some = next(pieces for pieces, _ in layers if pieces)
    length = sum(piece.shape[2] for piece in some)
    _, heads, _, width = some[0].shape
    block = some[0].new_empty(len(layers), 2, 1, heads, length, width)
    nothing = block.new_empty(0)
    return tuple(
        (torch.cat(keys, dim=2, out=to[0]), torch.cat(values, dim=2, out=to[1])) if keys else (nothing, nothing)
        for to, (keys, values) in zip(block, layers, strict=True)
    )


def _first(layers: PrefixKV, count: int) -> PrefixKV:
    return tuple(
        (keys[:, :, :count], values[:, :, :count]) if keys.ndim > 1 else (keys, values) for keys, values in layers
    )


def _is_enough(backbone: Backbone, kept: _Kept, ids: Ids, count: int) -> bool:
    """Tell whether a rest can be read behind what is kept; of items nothing is kept of the layers below them."""
    if backbone.items is None:
        return True
    if max(ids) < backbone.items.first_id:
        return kept.layers[0][0].ndim > 1
    return min(ids[count:]) >= backbone.items.first_id


def _hashes(ids: Ids, exact: bool) -> tuple[int, ...]:
    """Return a number for each beginning, another where it is read in another precision."""

    def each() -> Iterator[int]:
        last = int(exact)
        for token in ids:
            last = hash((last, token))
            yield last

    return tuple(each())

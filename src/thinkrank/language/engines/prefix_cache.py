"""Keys and values of beginnings that will be read again, kept between calls within a bound.

Shape legend: P tokens of a beginning, J key-value heads, E head width.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from thinkrank.language.adapters import adapter_state
from thinkrank.language.backbone import Backbone
from thinkrank.language.packing import Packing, PrefixKV, packed_states
from thinkrank.language.prefix_tree import PrefixTree

_Ids: TypeAlias = tuple[int, ...]


class PrefixCache:
    """The least recently used beginnings are dropped first; all are when the adapter's weights change.

    Args:
        backbone: the model.
        max_tokens: tokens kept at most; a longer beginning is read each time.
    """

    def __init__(self, backbone: Backbone, max_tokens: int) -> None:
        self.backbone, self.max_tokens = backbone, max_tokens
        self.hits = self.misses = 0
        self._kept: OrderedDict[_Ids, PrefixKV] = OrderedDict()
        self._version = self._present_version()

    @property
    def num_tokens(self) -> int:
        """Tokens kept now."""
        return sum(map(len, self._kept))

    @torch.no_grad()
    def read(self, beginnings: Sequence[Sequence[int]]) -> list[PrefixKV]:
        """Keys and values of each beginning, from the cache or from one pass over those that are missing."""
        if self._version != (version := self._present_version()):
            self._kept.clear()
            self._version = version
        wanted = [tuple(ids) for ids in beginnings]
        missing = [ids for ids in dict.fromkeys(wanted) if ids not in self._kept]
        self.misses += len(missing)
        self.hits += len(wanted) - len(missing)
        found = {ids: self._kept[ids] for ids in wanted if ids in self._kept}
        found |= dict(zip(missing, self._compute(missing), strict=True))
        for ids in wanted:
            self._kept[ids] = found[ids]
            self._kept.move_to_end(ids)
        while self.num_tokens > self.max_tokens:
            self._kept.popitem(last=False)
        return [found[ids] for ids in wanted]

    def _compute(self, beginnings: Sequence[_Ids]) -> list[PrefixKV]:
        if not beginnings:
            return []
        packing = Packing(PrefixTree.rows(beginnings), self.backbone.device)
        recorder = _KeepAll(packing)
        packed_states(self.backbone, packing, sight=recorder)
        return [
            tuple((keys[:, :, part].clone(), values[:, :, part].clone()) for keys, values in recorder.layers)
            for part in (
                slice(packing.offsets[i], packing.offsets[i] + len(ids)) for i, ids in enumerate(packing.forest.ids)
            )
        ]

    def _present_version(self) -> tuple[bool, int]:
        """A value that differs after every change of the adapter's weights, or of whether it acts at all."""
        tensors = adapter_state(self.backbone).values()
        return self.backbone.adapter_acts, sum(tensor._version for tensor in tensors)


class _KeepAll:
    """Attends as a packing does and keeps every key and value."""

    def __init__(self, packing: Packing) -> None:
        self.packing = packing
        self.layers: list[tuple[Tensor, Tensor]] = []

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
        self.layers.append((keys_BJTE, values_BJTE))
        return self.packing.attend(layer, queries_BHTE, keys_BJTE, values_BJTE, scale=scale, window=window)

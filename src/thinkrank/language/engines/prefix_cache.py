"""Keys and values of beginnings that will be read again, kept between calls within a bound.

Shape legend: P tokens of a beginning, J key-value heads, E head width.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from thinkrank.language.adapters import adapter_state
from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.base import TRAINED
from thinkrank.language.exact import is_exact
from thinkrank.language.packing import Packing, PrefixKV, packed_states
from thinkrank.language.prefix_tree import PrefixTree

_Ids: TypeAlias = tuple[int, ...]
_Key: TypeAlias = tuple[str, int, bool, _Ids]
"""Writer, version of its weights, whether it was read in fp32, beginning."""


class PrefixCache:
    """Keep beginnings by writer; the least recently used are dropped first, outdated ones of "trained" at once.

    What is read in fp32 (see `exact`) is kept beside what is read in the weights' own format. Threads may read at once.

    Args:
        backbone: the model.
        max_tokens: tokens kept at most; a longer beginning is read each time.
    """

    def __init__(self, backbone: Backbone, max_tokens: int) -> None:
        self.backbone, self.max_tokens = backbone, max_tokens
        self.hits = self.misses = 0
        self._kept: OrderedDict[_Key, PrefixKV] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def num_tokens(self) -> int:
        """Count the tokens kept now."""
        return sum(len(ids) for *_, ids in self._kept)

    @torch.no_grad()
    def read(self, beginnings: Sequence[Sequence[int]], *, writer: str = TRAINED) -> list[PrefixKV]:
        """Return keys and values of each beginning, from the cache or from one pass over those that are missing.

        Args:
            beginnings: token ids.
            writer: whose weights act now, by name.
        """
        live = adapter_state(self.backbone).values() if writer == TRAINED else ()
        version = sum(weight._version for weight in live)
        wanted = [(writer, version, is_exact(), tuple(ids)) for ids in beginnings]
        with self._lock:
            for key in [key for key in self._kept if key[0] == writer and key[1] != version]:
                del self._kept[key]
            found = {key: self._kept[key] for key in wanted if key in self._kept}
            missing = [key for key in dict.fromkeys(wanted) if key not in found]
            self.misses += len(missing)
            self.hits += len(wanted) - len(missing)
        found |= dict(zip(missing, self._compute([ids for *_, ids in missing]), strict=True))
        with self._lock:
            for key in wanted:
                self._kept[key] = found[key]
                self._kept.move_to_end(key)
            while self.num_tokens > self.max_tokens:
                self._kept.popitem(last=False)
        return [found[key] for key in wanted]

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


class _KeepAll:
    """Attend as a packing does, and keep every key and value."""

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

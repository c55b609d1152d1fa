"""What the layers below an adapter make of a text: no training changes it, so it is read once for many models.

Shape legend: T tokens of a packing, D width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.language.adapters import lowest_adapted
from thinkrank.language.backbone import Backbone
from thinkrank.language.exact import is_exact
from thinkrank.language.item_tokens import Halves
from thinkrank.language.packing import Packing
from thinkrank.language.prefix_tree import PrefixTree


class LowerStates:
    """Keep the states below the adapter of forests that are read again, without gradient.

    Several models that share their base weights and the depth of their adapters, such as the trainings of a study, may
    share one of these: each then reads the same texts with its upper layers alone.

    Args:
        max_bytes: kept at most; what has no more room is read anew each time.
    """

    def __init__(self, max_bytes: int = 8 * 2**30) -> None:
        self.max_bytes, self.num_bytes, self.hits = max_bytes, 0, 0
        self._kept: dict[tuple[str, torch.dtype, int, bool, PrefixTree], Tensor] = {}

    @torch.no_grad()
    def packed_states(self, backbone: Backbone, packing: Packing) -> Float[Tensor, "T D"]:
        """Read what `thinkrank.language.packed_states` reads, the layers below the adapter once per forest.

        Args:
            backbone: the model, its adapter on the upper layers only.
            packing: a forest without held roots, of which nothing is known below.

        Raises:
            ValueError: if a root is held, the model has no adapter, or one from the first layer on.
        """
        if len(packing) < sum(map(len, packing.forest.ids)):
            raise ValueError("a root is held, and of it no states below the adapter are known")
        depth = lowest_adapted(backbone)
        if not depth:
            raise ValueError("the adapter begins with the first layer: there is nothing below it to keep")
        halves = Halves(backbone.trunk(), depth)
        key = backbone.source, backbone.dtype, depth, is_exact(), packing.forest
        positions_1T = packing.positions_T[None]
        with backbone.precision():
            below_1TD = self._kept.get(key)
            if below_1TD is None:
                below_1TD = halves.below(packing.ids_T[None], positions_1T, packing)
                size = below_1TD.numel() * below_1TD.element_size()
                if self.num_bytes + size <= self.max_bytes:
                    self._kept[key] = below_1TD
                    self.num_bytes += size
            else:
                self.hits += 1
            return halves.above(below_1TD, positions_1T, packing)[0].float()

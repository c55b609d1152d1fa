"""How strong each term of a loss pulls on the adapter, and how the token term is kept from being drowned.

The terms share one adapter and one clipping. In the shop the token term, which alone is rewarded, had a fifth of the
gradient's norm beside the cross-entropies (docs/lab-log.md); a fixed weight cannot mend that, since groups tie more or
less as training goes on.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from thinkrank.distributed.world import SINGLE, World

WRITTEN = "token"
"""Name of the term of what was written."""

NORMS = ("token_norm", "item_norm", "floor_norm", "marginal_norm", "line_norm", "others_norm")
"""What a measurement logs of the terms' gradients, those of them that the loss has."""

_SLOWNESS = 0.7
"""Part of the old running norm that a new measurement leaves."""

_MOST = 10.0
"""Largest factor, up or down: a group whose rewards tie has almost no token gradient, and noise is not worth more."""


class TermGradients:
    """Gather the gradient of each term over the parts of a batch.

    Args:
        parameters: of the adapter.
        world: the processes that share the batch.
    """

    def __init__(self, parameters: Sequence[Tensor], world: World = SINGLE) -> None:
        self._parameters, self._world = parameters, world
        self._parts: list[dict[str, Tensor]] = []

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add a part's terms, weighted as they enter the loss; their graph stays."""
        self._parts.append({name: self._gradient(term) for name, term in terms.items()})

    def facts(self) -> dict[str, float]:
        """Describe the batch for the log: each term's norm, and that of all but the token term together.

        With several parts there is also the cosine between the token gradients of the first half of them and of the
        second (each process halves its own): how much of a direction such a batch has.
        """
        names = self._parts[0].keys()
        whole = {name: self._sum(self._parts, name) for name in names}
        facts = {f"{name}_norm": gradient.norm().item() for name, gradient in whole.items()}
        others = [gradient for name, gradient in whole.items() if name != WRITTEN]
        if WRITTEN in whole and others:
            facts["others_norm"] = torch.stack(others).sum(dim=0).norm().item()
        if WRITTEN in whole and min(self._world.counts(len(self._parts))) > 1:
            middle = len(self._parts) // 2
            first, second = (self._sum(half, WRITTEN) for half in (self._parts[:middle], self._parts[middle:]))
            facts["token_cosine"] = torch.cosine_similarity(first, second, dim=0).item()
        return facts

    def _gradient(self, term: Tensor) -> Tensor:
        found = torch.autograd.grad(term, self._parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, self._parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten().float() for g, p in pairs])

    def _sum(self, parts: Sequence[Mapping[str, Tensor]], name: str) -> Tensor:
        whole = torch.stack([part[name] for part in parts]).sum(dim=0)
        self._world.sum_([whole])
        return whole


class TokenBalance:
    """Keep the norm of the token term's gradient at a share of what the other terms have together.

    The factor is the ratio of running means of both norms, so one batch decides little; it is 1 until there was a
    measurement with both.

    Args:
        share: of the others' norm; 0 keeps the factor at 1.
    """

    def __init__(self, share: float) -> None:
        self.share, self.norms = share, [0.0, 0.0]

    @property
    def factor(self) -> float:
        """Return what the token term is multiplied by."""
        token, others = self.norms
        if not self.share or not token or not others:
            return 1.0
        return min(_MOST, max(1 / _MOST, self.share * others / token))

    def observe(self, facts: Mapping[str, float]) -> None:
        """Take over the norms of a batch, that of the token term as it is without the factor."""
        if "others_norm" not in facts:
            return
        measured = (facts["token_norm"] / self.factor, facts["others_norm"])
        known = any(self.norms)
        self.norms = [
            _SLOWNESS * old + (1 - _SLOWNESS) * new if known else new
            for old, new in zip(self.norms, measured, strict=True)
        ]

"""Writers of an engine: names for adapter weights that share one base model."""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager

from torch import Tensor, nn

from thinkrank.errors import ThinkrankError
from thinkrank.language.acting import ActingWeights, acting, adapted_layers
from thinkrank.language.adapters import layer_weights
from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.base import BASE, TRAINED


class Writers:
    """Hold adapter weights by the name they write under.

    Args:
        backbone: the model they all fit.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._published: dict[str, Mapping[nn.Module, ActingWeights]] = {}
        self._lock = threading.Lock()

    def publish(self, writer: str, adapter: Mapping[str, Tensor]) -> None:
        """Keep a copy of adapter weights under a name; see `Engine`."""
        copies = {name: tensor.detach().clone() for name, tensor in adapter.items()}
        weights = layer_weights(self.backbone, copies, f"the adapter of writer {writer!r}")
        with self._lock:
            if writer in (BASE, TRAINED, *self._published):
                raise ThinkrankError(f"there is a writer {writer!r} already: publish under another name")
            self._published[writer] = weights

    def withdraw(self, writer: str) -> None:
        """Forget what was published under a name."""
        with self._lock:
            del self._published[writer]

    def acting(self, writer: str) -> AbstractContextManager[None]:
        """Let a writer's weights act in this thread, until the end of the block.

        Raises:
            ThinkrankError: if nobody of that name was published.
        """
        if writer in (BASE, TRAINED):
            layers = adapted_layers(self.backbone.model).values()  # now, for an adapter may have come since
            return acting(dict.fromkeys(layers, "live" if writer == TRAINED else None))
        if writer not in self._published:
            known = ", ".join((BASE, TRAINED, *self._published))
            raise ThinkrankError(f"unknown writer {writer!r}: publish its adapter first, or use one of: {known}")
        return acting(self._published[writer])

"""Frozen weights in parts, one in each process: whole only while their layer is computed (FSDP2)."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from thinkrank.distributed.world import World


class Sharded:
    """Keep the frozen weights of a decoder's layers in parts.

    What is trained (an adapter) stays whole in every process, so gradients, checkpoints and the optimiser are as they
    are without. All processes must make the same passes, but for those inside of `whole`.

    Args:
        model: whose `layers` are sharded, in place and for good; those of an earlier training, which are, stay so.
        world: the processes that have a part each.
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        mesh = init_device_mesh(next(model.parameters()).device.type, (world.size,))
        lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        layers = [layer for some in lists for layer in some if any(not p.requires_grad for p in layer.parameters())]
        self.layers: list[FSDPModule] = []
        for layer in layers:
            if isinstance(layer, FSDPModule):
                self.layers.append(layer)
            else:
                ignored = {p for p in layer.parameters() if p.requires_grad}
                self.layers.append(fully_shard(layer, mesh=mesh, ignored_params=ignored))
        self._part()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Hold all weights whole: here each process may make passes of its own, as writing does."""
        self.join()
        try:
            yield
        finally:
            self._part()

    def _part(self) -> None:
        """Hold a part of the weights of each layer, but while the layer is computed."""
        for layer in self.layers:
            layer.set_reshard_after_forward(True)
            layer.reshard()

    def join(self) -> None:
        """Hold all weights whole from now on."""
        for layer in self.layers:
            layer.set_reshard_after_forward(False)
            layer.unshard()

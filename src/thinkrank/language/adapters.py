"""Low-rank adapters by peft: what is trained, saved and loaded instead of the whole model."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError
from thinkrank.language.acting import ActingWeights, adapted_layers, weights_of
from thinkrank.language.backbone import Backbone
from thinkrank.language.linear import low_rank_linear
from thinkrank.language.options import LoraOptions

ADAPTER_FILE = "adapter.safetensors"


def add_lora(backbone: Backbone, options: LoraOptions) -> Backbone:
    """Put a fresh adapter, without effect yet, on every linear layer of the decoder blocks, in place, and return it.

    The adapter's weights are fp32 whatever the base is, so that small updates are not rounded away; the base is frozen
    and never merged into.

    Raises:
        ThinkrankError: if the model has an adapter already.
    """
    if adapter_state(backbone):
        raise ThinkrankError(f"the model {backbone.source!r} has an adapter already: load it anew")
    from peft import LoraConfig, get_peft_model

    num_layers = int(backbone.model.config.num_hidden_layers)
    first = num_layers - min(options.top_layers or num_layers, num_layers)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=_linear_layers(backbone, first),
        bias="none",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property it has renamed; a user can do nothing about it
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        adapted = get_peft_model(backbone.model, config)
    _fuse(adapted)
    return Backbone(adapted.eval(), backbone.tokenizer, backbone.source)


def _fuse(model: torch.nn.Module) -> None:
    """Let peft's layers compute their update in one operation, with the weights that act; they stay peft's own."""
    from peft.tuners.lora import Linear

    class FusedLora(Linear):  # type: ignore[misc] # peft is untyped
        def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            weights = weights_of(self)
            if weights is None:
                alone: torch.Tensor = self.base_layer(x, *args, **kwargs)
                return alone
            adapter = self.active_adapters[0] if len(self.active_adapters) == 1 else None
            if weights == "live":
                plain = adapter in self.lora_A and not (self.disable_adapters or self.merged or args or kwargs)
                dropped = plain and self.training and not isinstance(self.lora_dropout[adapter], torch.nn.Identity)
                if not plain or dropped:
                    return super().forward(x, *args, **kwargs)
                weights = (self.lora_A[adapter].weight, self.lora_B[adapter].weight)
            return low_rank_linear(x, self.base_layer, *weights, self.scaling[adapter])

    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = FusedLora


def _linear_layers(backbone: Backbone, first: int) -> list[str]:
    """List the full names of linear layers in decoder blocks `first` and above, by type and not a model's habit."""
    names = []
    for name, module in backbone.model.named_modules():
        block = re.search(r"\blayers\.(\d+)\.", name)
        if block and int(block[1]) >= first and isinstance(module, torch.nn.Linear):
            names.append(name)
    if not names:
        raise ThinkrankError(
            f"the model {backbone.source!r} has no linear layers under `layers.N`, so nothing to adapt"
        )
    return names


def adapter_state(backbone: Backbone) -> dict[str, torch.Tensor]:
    """Return the adapter's weights by name; live tensors, not copies."""
    return {name: p for name, p in backbone.model.named_parameters() if "lora_" in name}


def lowest_adapted(backbone: Backbone) -> int:
    """Count the decoder layers below the first that has an adapter: what they make of a text no training changes.

    Raises:
        ValueError: if the model has no adapter.
    """
    return min(int(block[1]) for name in adapter_state(backbone) if (block := re.search(r"\blayers\.(\d+)\.", name)))


def save_lora(backbone: Backbone, folder: Path) -> None:
    """Write the adapter's weights to `adapter.safetensors` in the folder."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter_state(backbone).items()}
    with atomic_write(folder / ADAPTER_FILE) as file:
        file.write(save(tensors))


def load_lora(backbone: Backbone, folder: Path, options: LoraOptions) -> Backbone:
    """Return the backbone with the adapter that `save_lora` wrote.

    Raises:
        ThinkrankError: if the file does not fit this model and these options.
    """
    adapted = add_lora(backbone, options)
    restore_adapter(adapted, load_file(folder / ADAPTER_FILE), str(folder / ADAPTER_FILE))
    return adapted


def restore_adapter(backbone: Backbone, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy weights into the adapter in place; every name and shape must fit.

    Raises:
        ThinkrankError: naming `where` the tensors came from.
    """
    state = adapter_state(backbone)
    _check_fit(backbone, state, tensors, where)
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def layer_weights(
    backbone: Backbone, tensors: Mapping[str, torch.Tensor], where: str
) -> dict[torch.nn.Module, ActingWeights]:
    """Sort adapter weights by the layer they are of, for `acting`, with their graph; every name and shape must fit.

    Raises:
        ThinkrankError: naming `where` the tensors came from.
    """
    state = adapter_state(backbone)
    _check_fit(backbone, state, tensors, where)
    placed = {name: tensor.to(state[name].device, state[name].dtype) for name, tensor in tensors.items()}
    by_layer: dict[torch.nn.Module, ActingWeights] = {}
    for layer, module in adapted_layers(backbone.model).items():
        (down,) = (name for name in placed if name.startswith(f"{layer}.lora_A."))
        by_layer[module] = (placed[down], placed[down.replace(".lora_A.", ".lora_B.")])
    return by_layer


def _check_fit(
    backbone: Backbone, state: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], where: str
) -> None:
    if state.keys() != tensors.keys() or any(state[name].shape != tensors[name].shape for name in state):
        raise ThinkrankError(f"{where} does not fit the model {backbone.source!r}: it was trained on another one")

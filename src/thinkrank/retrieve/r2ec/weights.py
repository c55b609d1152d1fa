"""What training changes of an R²ec model, and what an untrained head must be told first.

Shape legend: N states, D width.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thinkrank.data.splits import Split
from thinkrank.language.adapters import adapter_state
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.writing import writes_apart


def prepare_head(model: R2ec, split: Split, states_ND: Float[Tensor, "N D"], is_line_N: Bool[Tensor, "N"]) -> None:
    """Fix what an untrained head decides before the first update: origins, first biases, who may have a residual.

    Args:
        model: untrained.
        split: of its train part the items are counted.
        states_ND: some user states.
        is_line_N: which of them stand at the end of a history line.
    """
    device = model.backbone.device
    counts_I = torch.zeros(len(model.catalogue), dtype=torch.long)
    counts_I[: len(split.train_counts)] = torch.from_numpy(split.train_counts)
    counts_I = counts_I.to(device)
    model.head.prepare(counts_I)
    if model.backbone.items is not None:
        model.backbone.items.trained_I1.copy_((counts_I > 0)[:, None])
    if model.config.head.centred:
        model.head.center_on(states_ND, is_line_N.to(device), model.states.rows_ID)


def weights(model: R2ec) -> dict[str, Tensor]:
    """Return everything training changes, as live tensors."""
    adapter = {f"adapter/{name}": tensor.detach() for name, tensor in adapter_state(model.backbone).items()}
    head = {f"head/{name}": tensor.detach() for name, tensor in model.head.state_dict().items()}
    tokens = model.backbone.items
    items = {} if tokens is None else {f"items/{name}": tensor.detach() for name, tensor in tokens.learnt().items()}
    latents = {} if model.latents is None else model.latents.state_dict(prefix="latent/")
    apart = model.writer.items() if writes_apart(model) else ()
    writer = {f"writer/{name}": tensor.detach() for name, tensor in apart}
    return {**adapter, **writer, **head, **items, **latents, "table": model.states.rows_ID}


def set_weights(model: R2ec, tensors: Mapping[str, Tensor]) -> None:
    """Copy what `weights` returned back into the model."""
    with torch.no_grad():
        for name, tensor in weights(model).items():
            tensor.copy_(tensors[name])

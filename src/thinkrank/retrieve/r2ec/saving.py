"""What a saved R²ec model consists of, written and read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from thinkrank.data.catalogue import Catalogue
from thinkrank.evidence.crowd import CROWD_FILE, Crowd
from thinkrank.language import Backbone, load_backbone, load_lora, save_lora
from thinkrank.language.latent import LatentPositions, latent_positions
from thinkrank.pretrained import CATALOGUE_FILE, begin, finish, reading, write_tensors
from thinkrank.retrieve.item_table import ItemTable
from thinkrank.retrieve.r2ec.card import model_card
from thinkrank.retrieve.r2ec.config import R2ecConfig
from thinkrank.retrieve.r2ec.head import RetrievalHead
from thinkrank.retrieve.r2ec.item_texts import ItemTexts, with_kept_item_tokens
from thinkrank.retrieve.r2ec.late import BEGINNING

if TYPE_CHECKING:
    from thinkrank.retrieve.r2ec.model import R2ec

_TABLE, _WITHDRAWN, _FIRST = "table_ID", "withdrawn_I", "first_items"
_ITEMS, _LATENT = "items/", "latent/"
_HEAD_FILE, _WRITER_FILE = "head.safetensors", "writer.safetensors"


@dataclass(frozen=True)
class Parts:
    """Hold what a folder kept.

    Attributes:
        backbone: with the adapter.
        catalogue: of the items.
        head: from states to scores.
        states: of the items.
        latents: if there are such positions.
        writer: weights of the adapter that writes thoughts, if it is another one.
        crowd: what other people chose, if the model tells it.
        first_items: how many items there were when the model was made.
    """

    backbone: Backbone
    catalogue: Catalogue
    head: RetrievalHead
    states: ItemTable
    latents: LatentPositions | None
    writer: dict[str, Tensor]
    crowd: Crowd | None
    first_items: int


def save_parts(model: "R2ec", folder: Path, first_items: int) -> None:
    """Write config, adapters, head with table, catalogue and model card.

    Args:
        model: to be saved.
        folder: made if it is not there.
        first_items: how many items there were when the model was made.
    """
    states = {_TABLE: model.states.rows_ID}
    begin(folder, _WRITER_FILE, CROWD_FILE)
    save_lora(model.backbone, folder)
    if model.writer:
        write_tensors(folder / _WRITER_FILE, {name: tensor.detach() for name, tensor in model.writer.items()})
    if bool(model.states.withdrawn_I.any()):
        states[_WITHDRAWN] = model.states.withdrawn_I
    if first_items < len(model.catalogue):
        states[_FIRST] = torch.tensor(first_items)
    if model.backbone.items is not None:
        states |= {_ITEMS + name: tensor for name, tensor in model.backbone.items.state_dict().items()}
        states[BEGINNING] = ItemTexts(model.backbone, model.prompts).beginning()
    if model.latents is not None:
        states |= {_LATENT + name: tensor for name, tensor in model.latents.state_dict().items()}
    write_tensors(folder / _HEAD_FILE, {**model.head.state_dict(), **states})
    model.catalogue.save(folder / CATALOGUE_FILE)
    if model.crowd is not None:
        model.crowd.save(folder)
    finish(folder, model.kind, model.config, model_card(model.config, len(model.catalogue)))


def load_parts(folder: Path, config: R2ecConfig, backbone: Backbone | None, device: str) -> Parts:
    """Read what `save_parts` wrote.

    Args:
        folder: where.
        config: of the model.
        backbone: the base model without adapter, to use instead of loading the one the config names.
        device: where to put a loaded one; see `load_backbone`.

    Raises:
        ThinkrankError: if the files do not fit together.
    """
    with reading(folder):
        catalogue = Catalogue.load(folder / CATALOGUE_FILE)
        tensors = load_file(folder / _HEAD_FILE)
        rows_ID, withdrawn_I = tensors.pop(_TABLE), tensors.pop(_WITHDRAWN, None)
        tensors.pop(BEGINNING, None)  # for who answers without the lower layers
        first_items = int(tensors.pop(_FIRST, torch.tensor(len(catalogue))))
        titles = catalogue.titles[:first_items]
        base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=titles)
        head = RetrievalHead(len(catalogue), base.hidden_size, config.head, config.latent.steps)
        items, latent = (
            {name.removeprefix(part): tensors.pop(name) for name in [*tensors] if name.startswith(part)}
            for part in (_ITEMS, _LATENT)
        )
        head.load_state_dict(tensors)
        adapted = load_lora(base, folder, config.lora)
        if config.reading == "late":
            adapted = with_kept_item_tokens(adapted, items, config.lora, config.prompt.marks)
        latents = latent_positions(adapted, config.latent, rank=config.lora.rank)
        if latents is not None:
            latents.load_state_dict(latent)
        writer = load_file(folder / _WRITER_FILE) if (folder / _WRITER_FILE).is_file() else {}
        crowd = Crowd.load(folder) if (folder / CROWD_FILE).is_file() else None
        states = ItemTable(rows_ID.to(base.device))
        if withdrawn_I is not None:
            states.withdraw(withdrawn_I.nonzero()[:, 0])
    placed = {name: tensor.to(base.device) for name, tensor in writer.items()}
    return Parts(adapted, catalogue, head.to(base.device), states, latents, placed, crowd, first_items)

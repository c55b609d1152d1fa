"""A trained R²ec that is trained further as another one: with latent positions behind its items."""

from collections.abc import Sequence

import torch

from thinkrank.data.history import History
from thinkrank.language.latent import latent_positions
from thinkrank.language.options import LatentOptions
from thinkrank.language.reading import read_steps
from thinkrank.retrieve.r2ec.head import RetrievalHead
from thinkrank.retrieve.r2ec.model import R2ec


@torch.no_grad()
def with_latents(model: R2ec, options: LatentOptions, histories: Sequence[History], *, seed: int = 0) -> R2ec:
    """Return a model that goes on from a trained one with latent positions, which nothing has trained yet.

    Its adapter and item states are those of the model, not copies. At its items it answers as the model did.

    Args:
        model: that reads histories late, without latent positions.
        options: of the positions.
        histories: on which the mean states of the positions are taken as origins, where the head is centred.
        seed: of the positions' first inputs.
    """
    config = model.config.model_copy(update={"latent": options})
    old, backbone = model.head, model.backbone
    head = RetrievalHead(len(model.catalogue), backbone.hidden_size, config.head, options.steps).to(backbone.device)
    head.load_state_dict(old.state_dict(), strict=False)
    latents = latent_positions(backbone, options, rank=config.lora.rank, seed=seed)
    found = R2ec(
        config, backbone, model.catalogue, head, model.states, model.engine, texts=model._texts, latents=latents
    )
    found.writer, found.crowd, found._first_items = model.writer, model.crowd, model._first_items
    if latents is not None and config.head.centred and len(histories):
        prompts = [found.prompts.unthought(history) for history in histories]
        head.center_steps_on(read_steps(backbone, prompts, latents)[:, 1:])
    return found

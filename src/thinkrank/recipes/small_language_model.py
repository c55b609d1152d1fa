"""A small language model for synthetic worlds: two layers that know a world's words and can follow a link.

Its words are the titles, whole, each with an embedding made of its style's and its kind's, so that one attention
step can find an item's partner; without that, models of this size did not learn to in ten minutes (docs/lab-log.md).
It plays the part that a hub model plays elsewhere: before any recommendation is learnt it has read the language. What
it reads is for the study to say; nothing in it should tell what a user takes next.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from thinkrank.data import Catalogue
from thinkrank.language import Backbone, encode_text, pad, tiny_backbone
from thinkrank.language.tiny import with_chat
from thinkrank.training import Progress, warmup_factor

BATCH = 64

Texts: TypeAlias = Callable[[np.random.Generator, int], list[tuple[list[int], int]]]
"""Draws so many texts, as token ids, and from where on their tokens are worth learning."""


def write_small_language_model(
    folder: Path, catalogue: Catalogue, texts: Callable[[Backbone], Texts], progress: Progress,
    *, words: Sequence[str] = (), steps: int = 700, learning_rate: float = 3e-3, hidden_size: int = 128,
) -> None:  # fmt: skip
    """Train all weights of a tiny model on next tokens and save it as transformers does.

    `texts` is given the untrained model, for its tokenizer; `words` are known beside the titles.
    """
    random = np.random.default_rng(0)
    backbone = tiny_backbone([], hidden_size=hidden_size, initializer_range=0.1, tokenizer=_tokenizer(catalogue, words))
    draw = texts(backbone)
    model = backbone.model.requires_grad_(True).train()
    _compose(model.get_input_embeddings().requires_grad_(False).weight, backbone, catalogue)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    with progress("small language model", steps) as advance:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * warmup_factor(step, warmup_steps=50, total_steps=steps, decay="linear")
            drawn = draw(random, BATCH)
            ids_BT, mask_BT = pad([ids for ids, _ in drawn], 0)
            for mask_T, (_, start) in zip(mask_BT, drawn, strict=True):
                mask_T[:start] = False
            labels_BT = ids_BT.masked_fill(~mask_BT, -100)
            logits_BTV = model(input_ids=ids_BT).logits
            loss = cross_entropy(logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            advance(1, note=f"loss {loss.item():.3f}")
    model.eval().save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


@torch.no_grad()
def _compose(table_VD: torch.Tensor, backbone: Backbone, catalogue: Catalogue) -> None:
    """Give a title the mean direction of its style and its kind, which an embedding learnt from text would have."""
    random = torch.Generator().manual_seed(0)
    parts: dict[str, torch.Tensor] = {}
    for title in catalogue.titles:
        for part in title.split():
            parts.setdefault(part, torch.randn(table_VD.shape[1], generator=random) * table_VD.std() / 2**0.5)
        (row,) = encode_text(backbone.tokenizer, title)
        table_VD[row] = sum(parts[part] for part in title.split())


def _tokenizer(catalogue: Catalogue, words: Sequence[str]) -> PreTrainedTokenizerFast:
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "user", "assistant", "\n", ", "]
    vocabulary = {word: i for i, word in enumerate([*marks, *catalogue.titles, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, "<|endoftext|>"))
    core.add_special_tokens(marks[:3])
    core.pre_tokenizer = pre_tokenizers.Split(Regex("\n|, |\\d+h \\d+\\.\\dmin ago "), "isolated")
    core.decoder = decoders.Fuse()
    return with_chat(core)

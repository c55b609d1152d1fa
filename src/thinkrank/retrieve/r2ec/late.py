"""Answer from a saved late reader without transformers, whose import alone takes longer than the answer.

A history without a thought is one token of text and a token for each item. What the lower layers say of both is saved,
so only the upper layers are left to read: those of a Llama, written out here. `R2ec` reads the same, and all else.

Shape legend: B requests, I items, T tokens, D width, H heads, J key-value heads, E head width.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.devices import default_dtype
from thinkrank.language.item_tokens import ItemTokens
from thinkrank.language.places import copy_of, place_of
from thinkrank.pretrained import CATALOGUE_FILE, kind_of, read_config, reading
from thinkrank.prompts.marks import marks_of, num_marks
from thinkrank.prompts.shown import first_shown
from thinkrank.retrieve.fused import PARTS, Fused, FusedConfig
from thinkrank.retrieve.item_table import ItemTable
from thinkrank.retrieve.r2ec.config import R2ecConfig
from thinkrank.retrieve.r2ec.head import RetrievalHead
from thinkrank.retrieve.r2ec.unit_vectors import UnitVectors
from thinkrank.stages.checks import checked_requests

BEGINNING = "beginning_D"
"""What the lower layers say of the token that every sequence begins with."""

_PLAIN: dict[str, Any] = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}


class UpperLlama:
    """The layers of a Llama above a boundary, with their adapter, computed in fp32.

    Args:
        folder: of the base model.
        config: its `config.json`.
        depth: layers below the boundary.
        adapter: low-rank updates, by the names under which `save_lora` writes them.
        scale: factor of the updates.
        dtype: number format that `R2ec` would load the weights in.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        depth: int,
        adapter: dict[str, Tensor],
        scale: float,
        dtype: torch.dtype,
    ) -> None:
        self._config, self._layers = config, range(depth, config["num_hidden_layers"])
        self._adapter, self._scale = adapter, scale
        wanted = tuple(f"model.layers.{layer}." for layer in self._layers)
        with safe_open(folder / "model.safetensors", "pt") as file:
            names = [name for name in file.keys() if name.startswith((*wanted, "model.norm."))]  # noqa: SIM118 - no dict
            self._weights = {name: file.get_tensor(name).to(dtype).float() for name in names}

    def __call__(self, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Read on to the final (normed) states; each token sees those before it."""
        rotation_TE = self._rotation(len(states_TD))
        for layer in self._layers:
            block = f"model.layers.{layer}"
            normed_TD = self._normed(f"{block}.input_layernorm", states_TD)
            states_TD = states_TD + self._attend(block, normed_TD, *rotation_TE)
            normed_TD = self._normed(f"{block}.post_attention_layernorm", states_TD)
            gate, up = (self._linear(f"{block}.mlp.{name}_proj", normed_TD) for name in ("gate", "up"))
            states_TD = states_TD + self._linear(f"{block}.mlp.down_proj", functional.silu(gate) * up)
        return self._normed("model.norm", states_TD)

    def _attend(
        self, block: str, normed_TD: Float[Tensor, "T D"], cos_TE: Tensor, sin_TE: Tensor
    ) -> Float[Tensor, "T D"]:
        def heads(name: str, count: int) -> Tensor:
            wide_TW = self._linear(f"{block}.self_attn.{name}_proj", normed_TD)
            return wide_TW.view(len(normed_TD), count, -1).transpose(0, 1)

        def rotated(x: Tensor) -> Tensor:
            first, second = x.chunk(2, dim=-1)
            return x * cos_TE + torch.cat([-second, first], dim=-1) * sin_TE

        num_heads, num_shared = self._config["num_attention_heads"], self._config["num_key_value_heads"]
        queries_HTE, keys_JTE = rotated(heads("q", num_heads)), rotated(heads("k", num_shared))
        mixed_HTE = functional.scaled_dot_product_attention(
            queries_HTE[None],
            keys_JTE[None],
            heads("v", num_shared)[None],
            is_causal=True,
            enable_gqa=num_heads != num_shared,
        )[0]
        return self._linear(f"{block}.self_attn.o_proj", mixed_HTE.transpose(0, 1).flatten(1))

    def _linear(self, name: str, x: Float[Tensor, "T _"]) -> Float[Tensor, "T _"]:
        product = functional.linear(x, self._weights[f"{name}.weight"])
        down = self._adapter.get(f"base_model.model.{name}.lora_A.default.weight")
        if down is None:
            return product
        up = self._adapter[f"base_model.model.{name}.lora_B.default.weight"]
        return product.addmm(x @ down.T, up.T, alpha=self._scale)

    def _normed(self, name: str, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        scaled = x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + self._config["rms_norm_eps"])
        return self._weights[f"{name}.weight"] * scaled

    def _rotation(self, length: int) -> tuple[Float[Tensor, "T E"], Float[Tensor, "T E"]]:
        width = self._config.get("head_dim") or self._config["hidden_size"] // self._config["num_attention_heads"]
        speeds = 1 / self._config["rope_parameters"]["rope_theta"] ** (torch.arange(0, width, 2).float() / width)
        angles = torch.arange(length).float()[:, None] * speeds
        angles_TE = torch.cat([angles, angles], dim=-1)
        return angles_TE.cos(), angles_TE.sin()


class LateReader:
    """Part of a fused retriever that scores as the saved `R2ec` does without a thought; see `late_reader`."""

    def __init__(self, config: R2ecConfig, catalogue: Catalogue, tensors: dict[str, Tensor], above: UpperLlama) -> None:
        self.config, self.catalogue, self._above = config, catalogue, above
        self._beginning_D = tensors.pop(BEGINNING).float()
        rows_ID, withdrawn_I = tensors.pop("table_ID"), tensors.pop("withdrawn_I", None)
        tensors.pop("first_items", None)
        kept = {name.removeprefix("items/"): tensors.pop(name) for name in [*tensors] if name.startswith("items/")}
        self._items = ItemTokens(kept["states_ID"], 0, 1, 0.0, num_marks(config.prompt.marks)).eval()
        self._items.load_state_dict(kept)
        self._head = RetrievalHead(len(catalogue), rows_ID.shape[1], config.head)
        self._head.load_state_dict(tensors)
        states = ItemTable(rows_ID)
        if withdrawn_I is not None:
            states.withdraw(withdrawn_I.nonzero()[:, 0])
        self._vectors = UnitVectors(config.search).of(states, self._head)

    @torch.no_grad()
    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Score the whole catalogue; see `R2ec.scores`."""
        histories = checked_requests(requests, self.catalogue).histories
        nobody_BD = torch.zeros(0, len(self._beginning_D))
        users_BD = torch.cat([nobody_BD, *(self._user(history) for history in histories)])
        return self._vectors.scores(users_BD).float().numpy()

    def _user(self, history: History) -> Float[Tensor, "1 D"]:
        prompt = self.config.prompt
        if not len(history):
            return torch.zeros(1, len(self._beginning_D))
        shown = history[first_shown(len(history), min(len(history), prompt.history_window), prompt.history_step) :]
        ids = self._items.ids(shown.items.tolist(), marks_of(shown, prompt.marks).tolist())
        inputs_TD = torch.cat([self._beginning_D[None], self._items.inputs(torch.tensor(ids))])
        return self._head.user_vectors(self._above(inputs_TD)[-1:], torch.ones(1, dtype=torch.bool))


def late_parts(folder: Path) -> dict[str, LateReader]:
    """Load those parts of a saved `Fused` that `late_reader` can."""
    names = enumerate(read_config(folder, Fused.kind, FusedConfig).parts)
    readers = {name: folder / PARTS / str(number) for number, name in names}
    found = {name: late_reader(part) for name, part in readers.items() if kind_of(part) == "r2ec"}
    return {name: reader for name, reader in found.items() if reader is not None}


def late_reader(folder: Path) -> LateReader | None:
    """Load a saved R²ec that answers without transformers, on the CPU; None where only `R2ec` can read it.

    It reads late readers without latent positions on a Llama whose weights lie here in one file, if they were saved
    with their beginning.
    """
    config = read_config(folder, "r2ec", R2ecConfig)
    if config.reading != "late" or config.latent.steps or config.backbone == "tiny":
        return None
    place = place_of(config.backbone)
    base = place if isinstance(place, Path) else None
    if base is not None and base.suffix == ".gguf":
        base = copy_of(base)
    if base is None or not all((base / name).is_file() for name in ("config.json", "model.safetensors")):
        return None
    with reading(folder):
        of_base = json.loads((base / "config.json").read_bytes())
        rope = of_base.get("rope_parameters") or {}
        if any(of_base.get(name) != value for name, value in _PLAIN.items()) or rope.get("rope_type") != "default":
            return None
        tensors = load_file(folder / "head.safetensors")
        if BEGINNING not in tensors:
            return None
        depth = of_base["num_hidden_layers"] - (config.lora.top_layers or 0)
        adapter = load_file(folder / "adapter.safetensors")
        is_chosen = config.dtype != "auto"
        dtype = getattr(torch, config.dtype) if is_chosen else default_dtype(torch.device("cpu"))
        above = UpperLlama(base, of_base, depth, adapter, config.lora.alpha / config.lora.rank, dtype)
        return LateReader(config, Catalogue.load(folder / CATALOGUE_FILE), tensors, above)

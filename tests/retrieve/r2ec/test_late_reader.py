"""A saved late reader answers without transformers as it does with them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from thinkrank.data import History, split_dataset
from thinkrank.language import tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.options import LoraOptions
from thinkrank.prompts.options import PromptOptions
from thinkrank.retrieve import Fused, Popularity, R2ec, R2ecConfig
from thinkrank.retrieve.r2ec.late import BEGINNING, late_reader
from thinkrank.testing import two_tribes

DATASET = two_tribes()
HISTORIES = [History.of([]), History.of([3]), *map(DATASET.history, DATASET.users[:3]), History.of([1] * 30)]


def saved(folder, *, architecture="llama", dtype="float32", **told):
    """A late reader whose every part has an effect, on a random model of a kind."""
    base = tiny_backbone(DATASET.catalogue.titles, architecture=architecture, num_layers=4)
    base.model.save_pretrained(folder / "base")
    base.tokenizer.save_pretrained(folder / "base")
    config = {"reading": "late", "lora": LoraOptions(rank=4, alpha=8, top_layers=2), **told}
    model = R2ec.create(R2ecConfig(backbone=str(folder / "base"), dtype=dtype, **config), DATASET.catalogue)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        items, head = model.backbone.items, model.head
        changed = [*adapter_state(model.backbone).values(), head.bias_I, head.residual_ID]
        for weight in [*changed, head.line_center_D, head.item_center_D]:
            weight.normal_(std=0.1, generator=random)
        for weight in [items.vectors_ID, *(() if items.marks_MD is None else [items.marks_MD])]:
            weight.normal_(generator=random)
        items.trained_I1[:5] = 1
        head.residual_mask_I1[:4] = 1
    model.refresh_table()
    model.withdraw_items([DATASET.catalogue.ids[2]])
    model.save_pretrained(folder / "model")
    return R2ec.from_pretrained(folder / "model", device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("prompt", [{}, {"history_window": 4, "history_step": 2}, {"marks": ("gap",)}])
def test_it_scores_as_the_model_does(tmp_path, prompt, dtype):
    """Also of a base model kept in fp32 that training read in bf16."""
    model = saved(tmp_path, prompt=PromptOptions(**prompt), dtype=dtype)
    expected = model.scores(HISTORIES)
    found = late_reader(tmp_path / "model").scores(HISTORIES)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.isneginf(found[:, 2]).all()
    assert np.ptp(found[1:][np.isfinite(found[1:])]) > 1
    assert late_reader(tmp_path / "model").scores([]).shape == model.scores([]).shape


def test_what_it_cannot_read_is_left_to_the_model(tmp_path):
    saved(tmp_path / "qwen", architecture="qwen3")
    assert late_reader(tmp_path / "qwen" / "model") is None
    saved(tmp_path / "llama")
    head = tmp_path / "llama" / "model" / "head.safetensors"
    save_file({name: tensor for name, tensor in load_file(head).items() if name != BEGINNING}, head)
    assert late_reader(tmp_path / "llama" / "model") is None


def test_one_user_is_answered_without_importing_transformers(tmp_path):
    split = split_dataset(DATASET)
    model = Fused({"popularity": Popularity().fit(split), "R²ec": saved(tmp_path)}).fit(split)
    model.save_pretrained(tmp_path / "fused")
    program = f"""
import sys
from thinkrank.recipes.answering import recommend
told = recommend({str(tmp_path / "fused")!r}, titles=["{DATASET.catalogue.ids[1]}"], k=3, device="cpu")
print(*told.ranking.items_BK[0], "transformers" in sys.modules, "peft" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = model.retrieve([History.of([1])], 3).items_BK[0]
    assert done.stdout.split() == [*map(str, expected), "False", "False"], done.stderr

"""What a machine with a card must show: packed passes, sampling and saving, in fp32 and in bf16.

They are skipped where there is none. `THINKRANK_CUDA_DEVICE=cpu` runs them on the processor, to see that they
run at all; `THINKRANK_CUDA_WEIGHTS` names the folder of a language model, instead of a small random one.
"""

import os

import polars as pl
import pytest
import torch

import thinkrank
from thinkrank.data import Catalogue
from thinkrank.language import (
    GenerationOptions,
    LoraOptions,
    Packing,
    PrefixTree,
    TransformersEngine,
    add_lora,
    hidden_states,
    load_backbone,
    packed_states,
    pad,
    selective_logprobs,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.retrieve import R2ec, R2ecConfig
from thinkrank.training import Run, Trainer, TrainerOptions

pytestmark = pytest.mark.cuda

DEVICE = os.environ.get("THINKRANK_CUDA_DEVICE", "cuda")
WEIGHTS = os.environ.get("THINKRANK_CUDA_WEIGHTS")
TEXTS = ["the next film", "a user who likes old films"]
FOREST = PrefixTree.groups(
    [(list(range(40, 100)), [list(range(5, 30)), list(range(7, 19)), [9, 8, 7]]), ([50] * 17, [[3, 4], [6] * 9])]
)
ROUNDING = {"float32": 2e-4, "bfloat16": 0.15}
"""How far sums in another order may be apart, in nats, or in units of a normed state."""


def backbone(dtype: str):
    loaded = load_backbone(WEIGHTS or "tiny", dtype=dtype, device=DEVICE, texts=TEXTS)
    loaded.model.to(getattr(torch, dtype))  # tiny is fp32 otherwise
    adapted = add_lora(loaded, LoraOptions(rank=4))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in adapter_state(adapted).values():
            weight.copy_(0.02 * torch.randn(weight.shape, generator=random))
    return adapted


def packed(model):
    packing = Packing(FOREST, model.device)
    states_TD = packed_states(model, packing)
    tokens = packing.ids_T[packing.tokens(FOREST.leaves)]
    return selective_logprobs(model, states_TD[packing.predictors(FOREST.leaves)], tokens).logprobs_N


def separate(model):
    ids_BT, mask_BT = pad(list(FOREST.sequences()), model.pad_id, device=model.device)
    states_BTD = hidden_states(model, ids_BT, mask_BT)
    found = []
    for row, leaf in enumerate(FOREST.leaves):
        places = torch.arange(FOREST.starts[leaf], FOREST.ends[leaf], device=model.device)
        found.append(selective_logprobs(model, states_BTD[row, places - 1], ids_BT[row, places]).logprobs_N)
    return torch.cat(found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_packed_pass_equals_separate_ones_on_the_card_gradients_included(dtype):
    model = backbone(dtype)
    ours, theirs = packed(model), separate(model)
    assert ours.device.type == DEVICE
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().max() < ROUNDING[dtype]
    weights = torch.linspace(-1, 1, len(ours), device=ours.device)
    gradients = [
        torch.cat(
            [g.flatten() for g in torch.autograd.grad((weights * scores).sum(), list(adapter_state(model).values()))]
        )
        for scores in (ours, theirs)
    ]
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > (0.9999 if dtype == "float32" else 0.98)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_sampled_on_the_card_has_the_probabilities_of_a_pass_over_it(dtype):
    model = backbone(dtype)
    prompts = PrefixTree.rows([list(range(40, 70)), [50] * 9, list(range(60, 99))])
    options = GenerationOptions(max_new_tokens=12, temperature=1.0)
    written = TransformersEngine(model).sample(prompts, options, num_samples=4)
    again = TransformersEngine(model).sample(prompts, options, num_samples=4)
    if dtype == "float32":  # in bf16 two outcomes may be closer than rounding
        assert [[one.ids for one in ones] for ones in written] == [[one.ids for one in ones] for ones in again]
    forest = PrefixTree.groups(
        (list(prompt), [list(one.ids) for one in ones])
        for prompt, ones in zip(prompts.sequences(), written, strict=True)
    )
    packing = Packing(forest, model.device)
    with torch.no_grad():
        states_TD = packed_states(model, packing)
        tokens = packing.ids_T[packing.tokens(forest.leaves)]
        read = selective_logprobs(model, states_TD[packing.predictors(forest.leaves)], tokens).logprobs_N.cpu()
    told = torch.tensor([value for ones in written for one in ones for value in one.logprobs])
    assert (read - told).abs().max() < ROUNDING[dtype]


def test_what_a_card_saves_answers_alike_on_the_processor(tmp_path):
    titles = [f"film {number}" for number in range(30)]
    catalogue = Catalogue(pl.DataFrame({"item": titles, "title": titles}))
    config = R2ecConfig(backbone=WEIGHTS or "tiny", dtype="float32")
    model = R2ec.create(config, catalogue, device=DEVICE)
    model.save_pretrained(tmp_path / "model")
    asked = [["film 3", "film 4"], [], ["film 9"]]
    here = model.retrieve(_rows(asked, catalogue), 5)
    there = thinkrank.load(tmp_path / "model", device="cpu").retrieve(_rows(asked, catalogue), 5)
    assert (here.items_BK == there.items_BK).all()
    assert abs(here.scores_BK - there.scores_BK).max() < ROUNDING["float32"]


def _rows(asked, catalogue):
    return [[catalogue.row(item) for item in items] for items in asked]


class Drawing(Trainer):
    """A training that draws on the card."""

    def __init__(self, folder):
        self.weight = torch.zeros(3, device=DEVICE, requires_grad=True)
        super().__init__([{"params": [self.weight], "lr": 0.1}], [], TrainerOptions(), Run(folder, {}, {}))

    def step(self):
        self.counters.step += 1
        self.drawn = torch.rand(3, device=DEVICE)
        return ""

    def weights(self):
        return {"weight": self.weight.detach()}

    def set_weights(self, tensors):
        self.weights()["weight"].copy_(tensors["weight"])

    def measure(self):
        return {}


def test_a_training_that_goes_on_draws_on_the_card_as_if_it_had_not_stopped(tmp_path):
    whole, resumed = Drawing(tmp_path), Drawing(tmp_path)
    whole.start()
    whole.step()
    whole.save()
    whole.step()
    torch.manual_seed(99)  # as in another process
    resumed.start()
    resumed.step()
    assert torch.equal(resumed.drawn, whole.drawn)

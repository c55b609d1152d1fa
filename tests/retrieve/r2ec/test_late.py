"""R²ec that reads histories late: one state per item, made once per catalogue."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank import load
from thinkrank.cascade import Cascade
from thinkrank.data import Catalogue, History
from thinkrank.errors import ThinkrankError
from thinkrank.language.adapters import adapter_state
from thinkrank.language.options import GenerationOptions, LoraOptions
from thinkrank.language.reading import read_all
from thinkrank.policy import ndcg_reward
from thinkrank.prompts.options import PromptOptions
from thinkrank.prompts.retrieval import Prompts
from thinkrank.recipes.reader import thinks_first
from thinkrank.retrieve import ContrastiveOptions, R2ec, R2ecConfig, RecpoOptions
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.retrieve.r2ec.examples import Stretch, build_batch
from thinkrank.retrieve.r2ec.recpo import RecpoTrainer
from thinkrank.retrieve.r2ec.trainer import sample_ranks
from thinkrank.teachers.history_rules import RuleWriter
from thinkrank.testing import RankerContract, RetrieverContract, TrainerContract, refused, two_tribes
from thinkrank.testing.retriever import COOK, HISTORIES
from thinkrank.training import Run, UnsavedRun, train

CONFIG = R2ecConfig(
    backbone="tiny",
    dtype="float32",
    reading="late",
    lora=LoraOptions(rank=4, alpha=8, top_layers=1),
    thought=GenerationOptions(max_new_tokens=5),
)
FEW = {"steps": 4, "warmup_steps": 1, "validate_every": 2, "checkpoint_every": 2, "refresh_every": 2}


def shaken(dataset, config=CONFIG):
    """A model whose adapter and item vectors have an effect."""
    model = R2ec.create(config, dataset.catalogue)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in adapter_state(model.backbone).values():
            weight.normal_(std=0.1, generator=random)
        model.backbone.items.vectors_ID.normal_(generator=random)
        model.backbone.items.trained_I1[:10] = 1
    model.refresh_table()
    return model


class TestLate(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return shaken(dataset)


class TestLateRanks(RankerContract):
    @classmethod
    def fit(cls, dataset):
        return shaken(dataset)


class TestLateContrastive(TrainerContract):
    moments = (("optimizer.step", 3, True), ("save", 1, True), ("log", 3, True))

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, split):
        options = ContrastiveOptions(**FEW, batch_size=4, stretch=6, thought_share=0.5, validation_samples=4)
        return lambda folder: ContrastiveTrainer(
            R2ec.create(CONFIG, split.dataset.catalogue), split, options, Run(folder, {}, {})
        )


class TestLateRecpo(TrainerContract):
    moments = (("optimizer.step", 3, True), ("save", 1, False), ("measure", 2, False))

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, split):
        rollout = GenerationOptions(max_new_tokens=4, temperature=1.5)
        options = RecpoOptions(
            **FEW, users=2, group_size=2, rollout=rollout, validation_samples=4, line_weight=0.5, item_floor=0.5
        )
        return lambda folder: RecpoTrainer(
            R2ec.create(CONFIG, split.dataset.catalogue), split, options, Run(folder, {}, {})
        )


@pytest.fixture(scope="module")
def model():
    return shaken(two_tribes())


def test_texts_read_in_two_halves_are_texts_read_at_once(model):
    rows = range(len(model.catalogue))
    whole = read_all(replace(model.backbone, items=None), [model.prompts.item(row) for row in rows])
    torch.testing.assert_close(model.encode_items(rows), whole, atol=1e-5, rtol=1e-4)


def test_an_answer_is_read_at_the_newest_item(model):
    prompt = model.prompts.unthought(COOK)
    assert prompt.ids[1:] == tuple(model.backbone.items.ids(COOK.items.tolist()))
    state_D = read_all(model.backbone, [prompt])[0]
    users = model.head.user_vectors(state_D[None], torch.tensor([True]))
    expected = model.head.scores(users, model.head.item_vectors(model.states.rows_ID))[0]
    np.testing.assert_allclose(model.scores([COOK])[0], expected.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_an_empty_history_is_ordered_by_biases_alone(model):
    with torch.no_grad():
        model.head.bias_I[3] = 5.0
    assert model.retrieve([History.of([])], 1).items_BK.tolist() == [[3]]
    with torch.no_grad():
        model.head.bias_I[3] = 0.0


def test_thoughts_see_the_items(model):
    """A thought behind other items of the same number is another thought, or has other probabilities."""
    one, other = model.think([History.of([0, 1]), History.of([7, 5])])
    assert one.own_logprobs != other.own_logprobs
    together, alone = model.scores(HISTORIES, think=True), [model.scores([h], think=True)[0] for h in HISTORIES]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-4, atol=1e-4)


def test_new_items_are_read_and_recommended_by_their_texts(tmp_path):
    model = shaken(two_tribes())
    before = model.scores(HISTORIES)
    rows = model.add_items(pl.DataFrame({"item": ["new"], "title": ["Cook book 9"]}))
    after = model.scores(HISTORIES)
    np.testing.assert_allclose(after[:, : rows[0]], before, rtol=1e-5, atol=1e-6)
    shown = model.scores([History.of([*COOK.items.tolist(), rows[0]])])
    assert np.abs(shown - model.scores([COOK])).max() > 1e-4
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    np.testing.assert_allclose(again.scores([History.of([rows[0]])]), model.scores([History.of([rows[0]])]), atol=1e-6)


def test_every_item_predicts_the_next_and_closings_stand_behind_thoughts(model, split):
    model = R2ec.create(CONFIG, split.dataset.catalogue)
    options = ContrastiveOptions(steps=1, stretch=8, thought_share=1.0, thought_readings=2, batch_size=1)
    histories, stretch = split.train_histories(), Stretch(0, 1, 6)
    plain = build_batch(model.prompts, histories, [stretch], options)
    assert all(readout.is_line for readout in plain.readouts)
    assert plain.targets_P.tolist() == histories[0].items[2:6].tolist()
    writer = RuleWriter(model.catalogue, noun="thing")
    taught = build_batch(model.prompts, histories, [stretch], options, writer)
    closings = [readout for readout in taught.readouts if not readout.is_line]
    assert closings
    assert all(len(readout.thought) for readout in closings)
    items = model.backbone.items.ids(histories[0].items[1:5].tolist())
    assert [token for ids in taught.forest.ids for token in ids if token >= model.backbone.items.first_id][:4] == items


def test_it_learns_to_walk(split):
    """Everyone walks through the catalogue in order: what follows an item is the next one."""
    model = R2ec.create(CONFIG, split.dataset.catalogue)
    options = ContrastiveOptions(
        steps=60, warmup_steps=5, batch_size=8, stretch=6, refresh_every=20, validate_every=60, checkpoint_every=60,
        learning_rate=5e-3, head_learning_rate=2e-2, item_dropout=0.1,
    )  # fmt: skip
    train(ContrastiveTrainer(model, split, options, UnsavedRun()))
    ranks = torch.from_numpy(sample_ranks(model, split.test))
    assert ndcg_reward(ranks, 10).mean() > 0.9
    assert model.backbone.items.vectors_ID[0].any()
    assert not model.backbone.items.vectors_ID[23].any()  # nobody took it


def test_the_model_says_whether_it_learnt_thoughts(split, tmp_path):
    quick, model = (R2ec.create(CONFIG, split.dataset.catalogue) for _ in range(2))
    ContrastiveTrainer(quick, split, ContrastiveOptions(**FEW), UnsavedRun())
    ContrastiveTrainer(model, split, ContrastiveOptions(**FEW, thought_share=0.5), UnsavedRun())
    model.save_pretrained(tmp_path)
    for one, learnt in ((quick, False), (load(tmp_path), True)):
        assert one.config.thinks == thinks_first(one) == learnt
        assert Cascade(one).thinking_stages == ({"retrieve"} if learnt else set())
    RecpoTrainer(quick, split, RecpoOptions(**FEW), UnsavedRun())
    assert quick.config.thinks


def test_an_adapter_on_all_layers_leaves_nothing_below():
    config = CONFIG.model_copy(update={"lora": LoraOptions(rank=4)})
    with refused("top_layers"):
        R2ec.create(config, two_tribes().catalogue)


def test_a_catalogue_of_other_size_does_not_fit(tmp_path, model):
    model.save_pretrained(tmp_path)
    Catalogue(model.catalogue.frame[:-1]).save(tmp_path / "catalogue.parquet")
    with pytest.raises(ThinkrankError):
        R2ec.from_pretrained(tmp_path)


def test_histories_that_go_on_from_each_other_are_read_as_each_alone():
    dataset = two_tribes()
    model = shaken(dataset)
    model.prompts = Prompts(model.backbone, model.catalogue, PromptOptions(history_window=4, history_step=2))
    history = History.of([0, 3, 5, 1, 2, 7, 4])
    grown = [history[:n] for n in (1, 2, 4, 5, 6, 7)] + [History.of([3, 1]), History.of([3, 1, 2])]
    together = model.user_states(grown)
    alone = torch.cat([model.user_states([one]) for one in grown])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    ids = [len(model.prompts.unthought(one)) - 1 for one in grown[:6]]
    assert ids == [1, 2, 4, 3, 4, 3]  # begins at event 0, then 2, then 4

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import thinkrank
from thinkrank.errors import ThinkrankError
from thinkrank.rerank import (
    EGLR,
    EvaluatorTrainerOptions,
    ReasoningOptions,
    WarmStartOptions,
    evaluator_report,
    oracle_ranking,
    train_eglr,
)
from thinkrank.rerank.lists import list_ndcg, training_batch, training_batches
from thinkrank.stages.answers import Ranking
from thinkrank.stages.protocols import Reranker
from thinkrank.testing import random_lists
from thinkrank.training import Run

NONE = ReasoningOptions(mode="none")


@pytest.fixture
def ready(trusted) -> EGLR:
    """A model whose weights are not at their start, and whose gate is set."""
    torch.manual_seed(3)
    for module in (trusted.writer, trusted.evaluator):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.4 * torch.randn_like(parameter))
    trusted.writer.reasoner.set_threshold(0.9)
    return trusted


def ask(model, lists, k, **options) -> Ranking:
    return model.rerank(lists.requests, lists.candidates, k, **options)


def same(one: Ranking, other: Ranking, atol=0.0):
    np.testing.assert_array_equal(one.items_BK, other.items_BK)
    np.testing.assert_array_equal(one.latent.steps_BK, other.latent.steps_BK)
    np.testing.assert_allclose(one.scores_BK, other.scores_BK, atol=atol)


def test_it_is_a_reranker_under_its_fixed_name(model):
    assert thinkrank.EGLR is EGLR
    assert isinstance(model, Reranker)


def test_importing_it_imports_no_language_model_and_no_trainer():
    code = (
        "import sys, thinkrank; thinkrank.EGLR; import thinkrank.rerank.network; "
        "assert not [name for name in sys.modules if name.startswith(('transformers', 'thinkrank.training'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_slate_names_items_and_says_how_they_were_chosen(ready, lists):
    slate = ask(ready, lists, 4)
    assert slate.items_BK.shape == (60, 4)
    for row in range(60):
        length = min(4, int(lists.lengths_L[row]))
        chosen = slate.columns_BK[row, :length]
        assert len(set(chosen.tolist())) == length
        np.testing.assert_array_equal(slate.items_BK[row, :length], lists.items_LN[row, chosen])
        assert (slate.items_BK[row, length:] == -1).all()
        assert (slate.columns_BK[row, length:] == -1).all()
        assert (slate.scores_BK[row, length:] == -np.inf).all()
        assert (slate.scores_BK[row, :length] <= 0).all()
    thought = slate.latent.steps_BK > 0
    assert thought.any()
    assert not thought.all()
    assert (slate.latent.entropies_before_BK[thought] > 0.9).all()
    np.testing.assert_array_equal(slate.latent.entropies_before_BK[~thought], slate.latent.entropies_after_BK[~thought])


def test_as_many_places_as_candidates_give_a_permutation_and_more_are_filled_up(ready, lists):
    slate = ask(ready, lists, 8)
    for row, length in enumerate(lists.lengths_L):
        np.testing.assert_array_equal(np.sort(slate.columns_BK[row])[8 - length :], np.arange(length))
        assert (slate.columns_BK[row, length:] == -1).all()


def test_company_padding_and_feedback_do_not_matter(ready, lists):
    whole = ask(ready, lists, 4)
    parts = [ask(ready, lists.subset(np.array([row])), 4) for row in range(0, 60, 7)]
    for row, part in zip(range(0, 60, 7), parts, strict=True):
        np.testing.assert_array_equal(part.items_BK[0], whole.items_BK[row])
        np.testing.assert_allclose(part.scores_BK[0], whole.scores_BK[row], atol=1e-5)
    same(ask(ready, lists, 4, batch_size=7), whole, atol=1e-5)
    same(ask(ready, replace(lists, feedback_LNS=np.zeros_like(lists.feedback_LNS)), 4), whole)


def test_no_lists_give_no_rows(ready, lists):
    assert ask(ready, lists.subset(np.array([], dtype=np.int64)), 3).items_BK.shape == (0, 3)


def test_no_steps_and_no_mode_are_the_same_answer(ready, lists):
    plain = ask(ready, lists, 4, reasoning=NONE)
    assert not plain.latent.steps_BK.any()
    same(ask(ready, lists, 4, reasoning=ReasoningOptions(max_steps=0)), plain)
    assert (ask(ready, lists, 4).latent.steps_BK > 0).any()


@pytest.mark.parametrize("mode", ["entropy", "fixed", "prefix", "random"])
def test_it_can_be_told_to_think_in_another_way(ready, lists, mode):
    slate = ask(ready, lists, 4, reasoning=ReasoningOptions(mode=mode, threshold=1.2, max_steps=1))
    assert (slate.latent.steps_BK > 0).any()
    assert ready.config.reasoning.threshold == 0.9


def test_a_gate_without_a_threshold_is_told_how_to_get_one(trusted, lists):
    with pytest.raises(ThinkrankError, match=r"reasoning\.threshold is not set"):
        ask(trusted, lists, 3)


def test_several_samples_are_picked_from_by_the_evaluator(ready, lists):
    one, several = ask(ready, lists, 3), ask(ready, lists, 3, samples=6)
    again = ask(ready, lists, 3, samples=6)
    same(several, again)

    def worth(slate):
        columns = torch.from_numpy(slate.columns_BK.astype(np.int64))
        batch = training_batch(lists, np.arange(len(lists)), max_history=3)
        return ready.evaluator.rewards(ready.evaluator.joint(batch), columns, "mean").sum(dim=1)

    gain = worth(several) - worth(one)
    assert (gain > -1e-6).all()  # the greedy list is among the samples
    assert (gain > 1e-4).any()
    ready.report = None
    with pytest.raises(ThinkrankError, match="needs an evaluator that was trained"):
        ask(ready, lists, 3, samples=2)


def test_calibration_hits_its_rate_although_thoughts_change_what_follows(ready, lists):
    many = random_lists(num_lists=400, longest=6, seed=4)
    contexts = [ready.writer.context(training_batch(many, np.arange(s, s + 200), max_history=3)) for s in (0, 200)]
    for rate in (0.2, 0.5):
        ready.writer.reasoner.options = ready.writer.reasoning.model_copy(update={"trigger_rate": rate, "max_steps": 2})
        ready.writer.reasoner.set_threshold(None)
        realised = ready.writer.calibrate(contexts, 5)
        assert ready.config.reasoning.threshold is not None
        slate = ask(ready, many, 5)
        there = slate.columns_BK >= 0
        assert (slate.latent.steps_BK[there] > 0).mean() == pytest.approx(realised, abs=1e-6)
        assert realised == pytest.approx(rate, abs=0.03)


def test_a_saved_model_comes_back_with_the_same_answers(ready, lists, tmp_path):
    ready.save_pretrained(tmp_path / "model")
    loaded = EGLR.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.config == ready.config
    assert loaded.report == ready.report
    same(ask(loaded, lists, 4), ask(ready, lists, 4))
    same(ask(loaded, lists, 4, samples=3), ask(ready, lists, 4, samples=3))
    assert not any(parameter.requires_grad for parameter in loaded.evaluator.parameters())
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert names == {
        "config.json", "schema.json", "writer.safetensors", "evaluator.safetensors", "evaluator_report.json",
        "catalogue.parquet", "README.md",
    }  # fmt: skip
    assert "entropy, at most 2 latent thoughts" in (tmp_path / "model" / "README.md").read_text()


def test_a_model_without_a_report_leaves_none_of_the_one_that_was_saved_there(ready, config, split, tmp_path):
    ready.save_pretrained(tmp_path)
    EGLR.create(config, split.train, device="cpu").save_pretrained(tmp_path)
    assert EGLR.from_pretrained(tmp_path, device="cpu").report is None


def test_item_vectors_are_kept_with_the_weights(config, split, lists, tmp_path):
    vectors = torch.randn(len(lists.catalogue), 5)
    model = EGLR.create(config, split.train, item_vectors_IE=vectors, device="cpu")
    model.save_pretrained(tmp_path)
    loaded = EGLR.from_pretrained(tmp_path, device="cpu")
    assert torch.equal(loaded.writer.encoder.item_vectors_IE, vectors)
    same(ask(loaded, lists, 3, reasoning=NONE), ask(model, lists, 3, reasoning=NONE))


DAMAGE = [
    ("config.json", b"{}x"),
    ("config.json", b'{"generator": {"width": 7}}'),
    ("writer.safetensors", b"\x00" * 20),
    ("schema.json", b'{"num_items": 3}'),
    ("catalogue.parquet", b"none"),
]


@pytest.mark.parametrize(("name", "content"), DAMAGE, ids=str)
def test_a_damaged_folder_is_named(ready, tmp_path, name, content):
    ready.save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ThinkrankError, match=str(tmp_path)):
        EGLR.from_pretrained(tmp_path)


def test_a_folder_without_a_model_and_lists_of_other_columns_are_refused(ready, lists, tmp_path):
    with pytest.raises(ThinkrankError, match="no saved model here"):
        EGLR.from_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match=r"no rate \(numeric\)"):
        ask(ready, replace(lists, numeric_names=("price", "age")), 3)


def test_equal_seeds_give_equal_weights(config, split):
    one, two, other = (EGLR.create(config, split.train, seed=seed, device="cpu") for seed in (1, 1, 2))
    weights = [list(model.writer.state_dict().values()) for model in (one, two, other)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


class Own(nn.Module):
    """A user's own generator: it prefers what is like the mean of what it consumed."""

    def __init__(self, joint):
        super().__init__()
        self.project = nn.Linear(joint, 8)

    def encode(self, joint_BNE, mask_BN):
        from thinkrank.rerank import Context

        return Context(self.project(joint_BNE), mask_BN)

    def init_state(self, context):
        from thinkrank.rerank.eglr.generators.base import Hidden

        return Hidden(torch.ones(len(context.mask_RN), 8))

    def step(self, context, state, tokens_RD, slot):
        return type(state)((state.hidden_RD + tokens_RD) / 2)

    def logits(self, context, state):
        return (context.tokens_RND @ state.hidden_RD[:, :, None])[:, :, 0]


def test_a_generator_of_your_own_is_trained_thinks_and_is_saved(config, split, lists, tmp_path):
    model = EGLR.create(config, split.train, generator=Own(16), device="cpu")
    model.writer.reasoner.set_threshold(0.5)
    train_eglr(model, split, WarmStartOptions(steps=3, batch_size=8, length=4), Run(tmp_path / "run", {}, {}))
    model.save_pretrained(tmp_path / "model")
    loaded = EGLR.from_pretrained(tmp_path / "model", generator=Own(16), device="cpu")
    slate = ask(loaded, lists, 3)
    same(slate, ask(model, lists, 3))
    assert (slate.latent.steps_BK > 0).any()
    with pytest.raises(ThinkrankError, match="needs encode, init_state, step and logits"):
        EGLR.create(config, split.train, generator=nn.Linear(16, 8))


def test_the_config_is_strict_and_round_trips(config):
    assert type(config).model_validate(json.loads(config.model_dump_json())) == config
    with pytest.raises(ValueError, match="Extra inputs"):
        EvaluatorTrainerOptions.model_validate({"stepz": 3})
    with pytest.raises(ValueError, match="2 times the heads"):
        type(config.generator)(width=12, heads=4)


def test_an_oracle_is_given_the_feedback_and_picks_by_it(ready, lists):
    def ndcg(slate):
        return list_ndcg(slate.columns_BK, lists.feedback(), 3)

    greedy, picked = ask(ready, lists, 3), ask(ready, lists, 3, samples=6)
    ready.report = None
    oracle = oracle_ranking(ready, lists, 3, 6)
    assert (ndcg(oracle) >= ndcg(greedy)).all()
    assert (ndcg(oracle) >= ndcg(picked)).all()
    assert ndcg(oracle).mean() > ndcg(picked).mean()


def test_both_encoders_must_read_the_same_history(config):
    with pytest.raises(ValueError, match="give both the same"):
        type(config)(lists=config.lists.model_copy(update={"max_history": 9}))


@pytest.mark.parametrize("kind", ["gru", "transformer", "mlp", "prefix_sum"])
def test_a_request_without_candidates_gets_none_and_changes_no_other(config, split, lists, kind):
    generator = config.generator.model_copy(update={"kind": kind})
    model = EGLR.create(config.model_copy(update={"generator": generator}), split.train, device="cpu")
    model.report = evaluator_report(model.evaluator, training_batches(split.valid, 16))
    thinking = ReasoningOptions(mode="fixed", max_steps=1)
    items_LN = lists.items_LN.copy()
    items_LN[[0, 7]] = -1
    some = replace(lists.candidates, items_BN=items_LN)
    whole = ask(model, lists, 3, reasoning=thinking)
    answer = model.rerank(lists.requests, some, 3, reasoning=thinking)
    assert (answer.items_BK[[0, 7]] == -1).all()
    assert np.isneginf(answer.scores_BK[[0, 7]]).all()
    np.testing.assert_array_equal(np.delete(answer.items_BK, [0, 7], 0), np.delete(whole.items_BK, [0, 7], 0))
    assert np.isfinite(answer.latent.entropies_before_BK).all()
    picked = model.rerank(lists.requests, some, 3, reasoning=thinking, samples=3)
    np.testing.assert_array_equal((picked.items_BK >= 0).sum(axis=1), np.minimum((items_LN >= 0).sum(axis=1), 3))
    alone = model.rerank(lists.requests[:1], some[:1], 3, reasoning=thinking, batch_size=1)
    assert alone.items_BK.tolist() == [[-1, -1, -1]]
    apart = model.rerank(lists.requests[:3], some[:3], 3, reasoning=thinking, batch_size=1)
    np.testing.assert_array_equal(apart.items_BK, answer.items_BK[:3])


def test_lists_of_no_places_are_refused(ready, lists):
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        ask(ready, lists, 0)
    with pytest.raises(ThinkrankError, match=r"^candidates: no price \(numeric\)"):
        ready.rerank([["i01"]], [["i02", "i03"]], 2)

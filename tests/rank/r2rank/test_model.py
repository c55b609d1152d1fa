"""What R2Rank answers, against readings of every pair alone."""

import numpy as np
import pytest
import torch

from thinkrank.data import History
from thinkrank.errors import ThinkrankError
from thinkrank.language import hidden_states, pad
from thinkrank.language.adapters import adapter_state
from thinkrank.language.logprobs import logits
from thinkrank.rank import R2Rank

HISTORIES = [History.of([0, 6, 12]), History.of([]), History.of([3])]
CANDIDATES = np.array([[1, 18, 7, 23], [5, 4, -1, -1], [2, 9, 10, -1]], dtype=np.int32)


@pytest.fixture(params=["linear", "mlp", "mean", "yes_no", "thinking", "thinking mean"])
def model(request, config, dataset, backbone):
    changes = {"thinks": request.param.startswith("thinking")}
    if request.param == "yes_no":
        changes["readout"] = "yes_no"
    pool = "mean" if "mean" in request.param else "last"
    kind = "mlp" if request.param == "mlp" else "linear"
    changes["head"] = config.head.model_copy(update={"kind": kind, "pool": pool})
    return shaken(R2Rank.create(config.model_copy(update=changes), dataset.catalogue, backbone=backbone))


def shaken(model):
    """The model with an adapter and a head that have an effect."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in [*adapter_state(model.backbone).values(), *model.head.parameters()]:
            weight.copy_(0.2 * torch.randn(weight.shape, generator=random))
        model.head.mean_D.copy_(torch.randn(model.head.mean_D.shape, generator=random))
    return model


@torch.no_grad()
def alone(model, history, row, thought=()):
    """The score of one pair from a reading of its own."""
    prompt = (*model.prompts.prefix(history), *model.prompts.candidate(row))
    ids = (*prompt, *thought, *model.prompts.closing_ids)
    states = hidden_states(model.backbone, *pad([ids], model.backbone.pad_id))[0]
    if model.config.readout == "yes_no":
        yes, no = (model.prompts.text(word)[0] for word in ("Yes", "No"))
        at = logits(model.backbone, states[len(prompt) - 1][None])[0]
        return float(at[yes] - at[no])
    tail = states[len(prompt) :]
    return float(model.head((tail.mean(dim=0) if model.config.head.pool == "mean" else tail[-1])[None])[0])


def test_scores_are_those_of_every_pair_read_alone(model):
    answer = model.answer(HISTORIES, CANDIDATES)
    for b, history in enumerate(HISTORIES):
        for n, row in enumerate(CANDIDATES[b].tolist()):
            if row < 0:
                assert answer.scores_BN[b, n] == -np.inf
                continue
            thought = answer.thoughts[b][row].ids_before_stop if answer.thoughts else ()
            assert answer.scores_BN[b, n] == pytest.approx(alone(model, history, row, thought), abs=1e-4)


def test_the_order_of_candidates_changes_no_score_by_a_bit(model):
    order = np.random.default_rng(1).permutation(4)
    straight = model.candidate_scores(HISTORIES, CANDIDATES)
    shuffled = model.candidate_scores(HISTORIES, np.ascontiguousarray(CANDIDATES[:, order]))
    np.testing.assert_array_equal(shuffled, straight[:, order])


def test_rank_sorts_the_candidates_and_gives_a_reason_for_each(model):
    ranking = model.rank(HISTORIES, CANDIDATES)
    scores = model.candidate_scores(HISTORIES, CANDIDATES)
    for b in range(len(HISTORIES)):
        by_row = dict(zip(CANDIDATES[b].tolist(), scores[b].tolist(), strict=True))
        assert (np.diff(ranking.scores_BK[b][np.isfinite(ranking.scores_BK[b])]) <= 0).all()
        assert [by_row[row] for row in ranking.items_BK[b].tolist()] == ranking.scores_BK[b].tolist()
        if model.config.thinks:
            assert len(ranking.reasons[b]) == (CANDIDATES[b] >= 0).sum()
    assert (ranking.reasons is not None) == model.config.thinks


def test_many_candidates_are_read_in_bounded_runs(model, monkeypatch):
    if model.config.thinks:
        pytest.skip("thinking reads as the sampler admits")
    many = np.arange(24, dtype=np.int32)[None]
    expected = model.candidate_scores(HISTORIES[:1], many)
    monkeypatch.setattr("thinkrank.rank.r2rank.model._PASS_TOKENS", 40)
    np.testing.assert_allclose(model.candidate_scores(HISTORIES[:1], many), expected, atol=1e-4)


def test_saved_and_loaded_it_answers_the_same(model, tmp_path, backbone):
    expected = model.candidate_scores(HISTORIES, CANDIDATES)
    model.save_pretrained(tmp_path)
    assert {"adapter.safetensors", "head.safetensors", "config.json", "README.md"} <= {
        file.name for file in tmp_path.iterdir()
    }
    np.testing.assert_array_equal(R2Rank.from_pretrained(tmp_path).candidate_scores(HISTORIES, CANDIDATES), expected)


def test_kept_prefixes_change_nothing(model, dataset):
    first = model.candidate_scores(HISTORIES, CANDIDATES)
    assert model.prefixes.misses
    before = model.prefixes.misses
    np.testing.assert_allclose(model.candidate_scores(HISTORIES, CANDIDATES), first, atol=1e-5)
    assert model.prefixes.misses == before


def test_ties_are_ordered_by_catalogue_row_and_an_untrained_head_ties_all(config, dataset, backbone):
    model = R2Rank.create(config.model_copy(update={"thinks": False}), dataset.catalogue, backbone=backbone)
    ranking = model.rank(HISTORIES, CANDIDATES)
    assert ranking.items_BK.tolist() == [[1, 7, 18, 23], [4, 5, -1, -1], [2, 9, 10, -1]]
    assert ranking.scores_BK[1].tolist() == [0, 0, -np.inf, -np.inf]


@pytest.mark.parametrize(
    ("row", "said"), [([1, 1, 2, 3], "list 0 holds item 1 twice"), ([1, 24, 2, 3], "list 0 holds item 24")]
)
def test_candidates_that_cannot_be_are_refused(config, dataset, backbone, row, said):
    model = R2Rank.create(config, dataset.catalogue, backbone=backbone)
    with pytest.raises(ThinkrankError, match=said):
        model.rank(HISTORIES[:1], np.array([row], dtype=np.int32))


def test_a_prefix_is_the_same_for_every_candidate_and_names_none(config, dataset, backbone):
    prompts = R2Rank.create(config, dataset.catalogue, backbone=backbone).prompts
    prefix = backbone.tokenizer.decode(prompts.prefix(HISTORIES[0]))
    assert "red car" in prefix
    assert "black dog" not in prefix
    assert "black dog" in backbone.tokenizer.decode(prompts.candidate(23))

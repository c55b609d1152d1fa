import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Catalogue, History
from thinkrank.errors import ThinkrankError
from thinkrank.language import hidden_states, pad
from thinkrank.language.logprobs import logits
from thinkrank.rank.zero_shot import ListPrompt
from thinkrank.stages import Ranker

HISTORIES = [History.of([0, 6, 12]), History.of([])]
CANDIDATES = np.array([[1, 18, 7], [5, 4, -1]], dtype=np.int32)


@pytest.fixture
def asked(backbone, dataset, config):
    return ListPrompt(backbone, dataset.catalogue, config.prompt)


def test_a_candidate_is_scored_by_the_logit_of_its_letter(asked, backbone):
    scores = asked.rank(HISTORIES, CANDIDATES).scores_given(3)
    for b, history in enumerate(HISTORIES):
        shown = [row for row in CANDIDATES[b].tolist() if row >= 0]
        ids, mask = pad([asked.prompt(history, shown)], backbone.pad_id)
        with torch.no_grad():
            at = logits(backbone, hidden_states(backbone, ids, mask)[0, -1:])[0]
        expected = [at[backbone.tokenizer(f" {letter}")["input_ids"][-1]] for letter in "ABC"[: len(shown)]]
        assert scores[b, : len(shown)].tolist() == pytest.approx([float(value) for value in expected], abs=1e-4)
    assert scores[1, 2] == -np.inf


def test_the_prompt_shows_every_candidate_behind_its_letter(asked, backbone):
    text = backbone.tokenizer.decode(asked.prompt(HISTORIES[0], [1, 18, 7]))
    assert "A. red boat\nB. black car\nC. blue boat" in text
    assert text.endswith("Answer:")


def test_the_order_of_candidates_changes_its_scores(asked):
    turned = asked.rank(HISTORIES[:1], CANDIDATES[:1, ::-1]).scores_given(3)[:, ::-1]
    assert np.abs(turned - asked.rank(HISTORIES[:1], CANDIDATES[:1]).scores_given(3)).max() > 1e-3


def test_it_is_a_ranker_and_says_what_it_cost(asked, dataset):
    ranking = asked.rank([["i00", "i06"]], [["i01", "i18", "i07"]])
    assert sorted(ranking.items_BK[0].tolist()) == [1, 7, 18]
    assert (np.diff(ranking.scores_BK) <= 0).all()
    assert [[1, 18, 7][column] for column in ranking.columns_BK[0]] == ranking.items_BK[0].tolist()
    assert ranking.cost.seconds > 0
    assert asked.catalogue is dataset.catalogue
    assert isinstance(asked, Ranker)


def test_more_candidates_than_letters_are_refused(backbone, config):
    items = [f"i{number}" for number in range(27)]
    asked = ListPrompt(backbone, Catalogue(pl.DataFrame({"item": items, "title": items})), config.prompt)
    assert asked.rank([[0]], [items[:26]]).items_BK.shape == (1, 26)
    with pytest.raises(ThinkrankError, match="letters for 26 candidates, not 27"):
        asked.rank([[0]], [items])


def test_bf16_weights_are_asked_in_fp32(backbone, dataset, config):
    backbone.model.bfloat16()
    answered = ListPrompt(backbone, dataset.catalogue, config.prompt).rank(HISTORIES, CANDIDATES).scores_given(3)
    backbone.model.float()
    kept = ListPrompt(backbone, dataset.catalogue, config.prompt).rank(HISTORIES, CANDIDATES).scores_given(3)
    np.testing.assert_allclose(answered, kept, atol=1e-5)

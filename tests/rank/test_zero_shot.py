import numpy as np
import pytest
import torch

from thinkrank.data import History
from thinkrank.errors import ThinkrankError
from thinkrank.language import hidden_states, pad
from thinkrank.language.logprobs import logits
from thinkrank.rank.zero_shot import ListPrompt

HISTORIES = [History.of([0, 6, 12]), History.of([])]
CANDIDATES = np.array([[1, 18, 7], [5, 4, -1]], dtype=np.int32)


@pytest.fixture
def asked(backbone, dataset, config):
    return ListPrompt(backbone, dataset.catalogue, config.prompt)


def test_a_candidate_is_scored_by_the_logit_of_its_letter(asked, backbone):
    scores = asked.candidate_scores(HISTORIES, CANDIDATES)
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
    turned = asked.candidate_scores(HISTORIES[:1], CANDIDATES[:1, ::-1].copy())[:, ::-1]
    assert np.abs(turned - asked.candidate_scores(HISTORIES[:1], CANDIDATES[:1])).max() > 1e-3


def test_more_candidates_than_letters_are_refused(asked):
    many = np.full((1, 27), -1, dtype=np.int32)
    with pytest.raises(ThinkrankError, match="letters for 26"):
        asked.candidate_scores(HISTORIES[:1], many)

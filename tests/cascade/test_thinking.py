"""When the stages of a cascade think, what it costs, and what a budget takes away."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from thinkrank.cascade import Budget, Cascade, CascadeConfig, StageCost
from thinkrank.cascade.gate import entropies, threshold_for
from thinkrank.data import Requests
from thinkrank.language.options import GenerationOptions, LoraOptions
from thinkrank.rank import R2Rank, R2RankConfig
from thinkrank.rerank import EGLR, EGLRConfig, ReasoningOptions
from thinkrank.retrieve import ItemKNN, R2ec, R2ecConfig
from thinkrank.testing import random_lists, refused, two_tribes
from thinkrank.testing.retriever import HISTORIES, REQUESTS

SHORT = GenerationOptions(max_new_tokens=4, temperature=1.0)
LORA = LoraOptions(rank=4)


@pytest.fixture(scope="module")
def cascade():
    dataset = two_tribes()
    thinker = R2ec.create(R2ecConfig(backbone="tiny", dtype="float32", lora=LORA, thought=SHORT), dataset.catalogue)
    ranker = R2Rank.create(R2RankConfig(backbone="tiny", dtype="float32", lora=LORA, thought=SHORT), dataset.catalogue)
    with torch.no_grad():
        for weight in ranker.head.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(0))
    return Cascade(thinker, ranker, config=CascadeConfig(candidates=4))


def test_the_answer_holds_thoughts_and_reasons_of_the_items_beside_which_they_stand(cascade):
    answer = cascade.recommend(REQUESTS, 6)
    retrieved, ranked = answer.stages["retrieve"], answer.stages["rank"]
    assert answer.ranking.thoughts == retrieved.thoughts
    for row, items in enumerate(answer.ranking.items_BK.tolist()):
        said = dict(zip(ranked.items_BK[row].tolist(), ranked.reasons[row], strict=True))
        assert [reason.text for reason in answer.ranking.reasons[row]] == [
            said[item].text if item in said else "" for item in items
        ]
        assert len([item for item in items if item in said]) == 4
    tokens = sum(len(thought.token_ids) for thought in retrieved.thoughts)
    assert retrieved.cost.tokens == tokens
    assert answer.ranking.cost.tokens == tokens + ranked.cost.tokens
    assert cascade.costs.known["rank"].tokens == pytest.approx(ranked.cost.tokens / 20, rel=0.3)


def test_told_not_to_no_stage_thinks(cascade):
    answer = cascade.recommend(REQUESTS, 4, think=False)
    assert answer.ranking.thoughts is None
    assert answer.ranking.reasons is None
    assert answer.ranking.cost.tokens == 0
    np.testing.assert_array_equal(
        answer.stages["retrieve"].items_BK, cascade.stages["retrieve"].retrieve(REQUESTS, 4).items_BK
    )
    assert answer.degraded == ()


def test_samples_reach_every_stage(cascade):
    one = cascade.recommend(REQUESTS[:2], 4)
    three = cascade.recommend(REQUESTS[:2], 4, samples=3)
    asked = {"think": True, "samples": 3}
    np.testing.assert_allclose(
        three.stages["retrieve"].scores_BK, cascade.stages["retrieve"].retrieve(REQUESTS[:2], 4, **asked).scores_BK
    )
    assert three.ranking.cost.tokens > 2 * one.ranking.cost.tokens


def test_a_gate_lets_those_think_whose_answer_is_uncertain(cascade):
    plain = cascade.recommend(REQUESTS, 4, think=False)
    uncertain = entropies(plain.stages["retrieve"].scores_BK)
    threshold = threshold_for(uncertain, 0.4)
    gated = Cascade(*cascade.stages.values(), config=CascadeConfig(candidates=4, think="auto", threshold=threshold))
    answer = gated.recommend(REQUESTS, 4)
    thinks = uncertain >= threshold
    assert thinks.sum() == 2
    assert [bool(thought.token_ids.size) for thought in answer.ranking.thoughts] == thinks.tolist()
    assert [any(reason.token_ids.size for reason in row) for row in answer.ranking.reasons] == thinks.tolist()
    np.testing.assert_array_equal(answer.ranking.items_BK[~thinks], plain.ranking.items_BK[~thinks])
    hurried = gated.recommend(REQUESTS, 4, budget=Budget(milliseconds=1e-6))
    assert "retriever without a thought" in hurried.degraded, "the gate's own time is spent, too"
    assert hurried.ranking.cost.tokens == 0
    with refused("think auto needs a threshold"):
        cascade.recommend(REQUESTS, 4, think="auto")


def test_entropy_is_that_of_the_scores_as_logits():
    scores = np.array([[0.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, -np.inf], [np.log(3.0), 0.0, -np.inf, -np.inf]])
    assert entropies(scores) == pytest.approx([np.log(4), 0.0, -0.75 * np.log(0.75) - 0.25 * np.log(0.25)], abs=1e-9)
    assert entropies(np.full((1, 2), -np.inf)) == pytest.approx([0.0])
    values = np.arange(10.0)
    for share in (0.1, 0.3, 1.0):
        assert (values >= threshold_for(values, share)).mean() == pytest.approx(share)
    assert threshold_for(values, 0.0) == np.inf
    assert (np.arange(5.0) >= threshold_for(np.arange(5.0), 0.5)).sum() == 2  # never more than the share
    assert threshold_for(np.arange(5.0), 0.1) == np.inf


@pytest.mark.parametrize(
    ("budget", "degraded", "thinks"),
    [
        (Budget(tokens=1000), (), (True, True)),
        (Budget(tokens=10), ("ranker without reasons",), (True, False)),
        (Budget(tokens=1), ("no ranker", "retriever without a thought"), (False, False)),
        (Budget(milliseconds=0.001), ("no ranker", "retriever without a thought"), (False, False)),
    ],
)
def test_a_budget_takes_thoughts_away_and_the_answer_says_so(cascade, budget, degraded, thinks):
    costs = {
        "retrieve": StageCost(milliseconds=1, thinking_milliseconds=2, tokens=4),
        "rank": StageCost(milliseconds=1, thinking_milliseconds=2, tokens=4),
    }
    bounded = Cascade(*cascade.stages.values(), config=CascadeConfig(candidates=4, costs=costs))
    answer = bounded.recommend(REQUESTS[:2], 4, budget=budget)
    assert answer.degraded == degraded
    assert (answer.ranking.thoughts is not None) == thinks[0]
    assert ("rank" in answer.stages and answer.ranking.reasons is not None) == thinks[1]
    if budget.tokens is not None:
        assert answer.ranking.cost.tokens <= 2 * budget.tokens


def test_a_list_writer_thinks_between_its_choices_unless_told_not_to():
    lists = random_lists(0, num_lists=30)
    train = replace(
        lists,
        numeric_LNF=lists.numeric_LNF[:, :, :1],
        numeric_names=("retriever.score",),
        categorical_LNC=lists.categorical_LNC[:, :, :0],
        categorical_names=(),
        categorical_values=(),
        context_LF=lists.context_LF[:, :0],
        context_names=(),
    )
    writer = EGLR.create(EGLRConfig(reasoning=ReasoningOptions(mode="fixed")), train, device="cpu")
    counts = ItemKNN().fit(two_tribes())
    reranker = Cascade(counts, reranker=writer, config=CascadeConfig(slate=5))
    assert reranker.thinking_stages == {"rerank"}
    answer = reranker.recommend(Requests(HISTORIES[:2]), 8, filter_seen=False)
    assert (answer.ranking.latent.steps_BK == [1, 1, 1, 1, 0, 0, 0, 0]).all(), "the last of the slate is no choice"
    np.testing.assert_array_equal(answer.ranking.items_BK[:, :5], answer.stages["rerank"].items_BK)
    np.testing.assert_array_equal(answer.ranking.items_BK[:, 5:], answer.stages["retrieve"].items_BK[:, 5:8])
    assert (np.diff(answer.ranking.scores_BK) <= 0).all()
    silent = reranker.recommend(Requests(HISTORIES[:2]), 8, filter_seen=False, think=False)
    assert not silent.ranking.latent.steps_BK.any()

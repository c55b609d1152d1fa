"""What R2Rank answers, against readings of every pair alone."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Candidates, Catalogue, History, Requests
from thinkrank.errors import ThinkrankError
from thinkrank.language import TransformersEngine, hidden_states, pad, tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.logprobs import logits
from thinkrank.language.lower import LowerStates
from thinkrank.language.options import GenerationOptions
from thinkrank.rank import R2Rank
from thinkrank.rank.r2rank.groups import TrainingGroup
from thinkrank.rank.r2rank.rollouts import score_thoughts
from thinkrank.stages import Configured
from thinkrank.testing import assert_same_answer, refused

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


def scores(model, histories, candidates):
    """Scores of the candidates in the order in which they are given."""
    return model.rank(histories, candidates).scores_given(max(map(len, candidates)))


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
    return float(model.head((tail.mean(dim=0) if model.config.head.pool == "mean" else tail[-1])[None, None])[0, 0])


def test_scores_are_those_of_every_pair_read_alone(model):
    ranking = model.rank(HISTORIES, CANDIDATES)
    scores_BN, thoughts = ranking.scores_given(4), model.answer(HISTORIES, CANDIDATES).thoughts
    for b, history in enumerate(HISTORIES):
        for n, row in enumerate(CANDIDATES[b].tolist()):
            if row < 0:
                assert scores_BN[b, n] == -np.inf
                continue
            thought = thoughts[b][row].ids_before_stop if thoughts else ()
            assert scores_BN[b, n] == pytest.approx(alone(model, history, row, thought), abs=1e-4)


@pytest.mark.parametrize("thinks", [False, True])
def test_states_kept_below_the_adapter_change_no_score(config, dataset, thinks):
    base = tiny_backbone(dataset.catalogue.titles, num_layers=3)
    lora = config.lora.model_copy(update={"top_layers": 1})
    settings = config.model_copy(update={"lora": lora, "thinks": thinks})
    model = shaken(R2Rank.create(settings, dataset.catalogue, backbone=base))
    expected = model.rank(HISTORIES, CANDIDATES).scores_given(4)
    model.lower = LowerStates()
    for _ in range(2):
        np.testing.assert_allclose(model.rank(HISTORIES, CANDIDATES).scores_given(4), expected, atol=1e-5)
    assert model.lower.hits == (0 if thinks else len(HISTORIES))


def test_the_order_of_candidates_changes_no_score_by_a_bit(model):
    straight, order = model.rank(HISTORIES, CANDIDATES), np.random.default_rng(1).permutation(4)
    shuffled = model.rank(HISTORIES, [[row[n] for n in order if row[n] >= 0] for row in CANDIDATES.tolist()])
    np.testing.assert_array_equal(shuffled.items_BK, straight.items_BK)
    np.testing.assert_array_equal(shuffled.scores_BK, straight.scores_BK)


def test_rank_sorts_the_candidates_and_gives_a_reason_for_each(model):
    ranking, answer = model.rank(HISTORIES, CANDIDATES), model.answer(HISTORIES, CANDIDATES)
    for b in range(len(HISTORIES)):
        by_row = dict(zip(CANDIDATES[b].tolist(), answer.scores_BN[b].tolist(), strict=True))
        assert (np.diff(ranking.scores_BK[b][np.isfinite(ranking.scores_BK[b])]) <= 0).all()
        assert [by_row[row] for row in ranking.items_BK[b].tolist()] == ranking.scores_BK[b].tolist()
        if model.config.thinks:
            written = [answer.thoughts[b][row].ids for row in ranking.items_BK[b].tolist() if row >= 0]
            assert [tuple(reason.token_ids.tolist()) for reason in ranking.reasons[b]] == written
    assert (ranking.reasons is not None) == model.config.thinks
    assert ranking.cost.seconds > 0
    tokens = sum(len(reason.token_ids) for reasons in ranking.reasons or () for reason in reasons)
    assert ranking.cost.tokens == tokens


def test_many_candidates_are_read_in_bounded_runs(model, monkeypatch):
    if model.config.thinks:
        pytest.skip("thinking reads as the sampler admits")
    many = np.arange(24, dtype=np.int32)[None]
    expected = scores(model, HISTORIES[:1], many)
    monkeypatch.setattr("thinkrank.rank.r2rank.model._PASS_TOKENS", 40)
    np.testing.assert_allclose(scores(model, HISTORIES[:1], many), expected, atol=1e-4)


def test_saved_and_loaded_it_answers_the_same(model, tmp_path, backbone):
    expected = scores(model, HISTORIES, CANDIDATES)
    model.save_pretrained(tmp_path)
    assert {"adapter.safetensors", "head.safetensors", "config.json", "README.md"} <= {
        file.name for file in tmp_path.iterdir()
    }
    np.testing.assert_array_equal(scores(R2Rank.from_pretrained(tmp_path), HISTORIES, CANDIDATES), expected)


def test_kept_prefixes_change_nothing(model, dataset):
    first = scores(model, HISTORIES, CANDIDATES)
    assert model.prefixes.misses
    before = model.prefixes.misses
    np.testing.assert_allclose(scores(model, HISTORIES, CANDIDATES), first, atol=1e-5)
    assert model.prefixes.misses == before


def test_ties_are_ordered_by_catalogue_row_and_an_untrained_head_ties_all(config, dataset, backbone):
    model = R2Rank.create(config.model_copy(update={"thinks": False}), dataset.catalogue, backbone=backbone)
    ranking = model.rank(HISTORIES, CANDIDATES)
    assert ranking.items_BK.tolist() == [[1, 7, 18, 23], [4, 5, -1, -1], [2, 9, 10, -1]]
    assert ranking.scores_BK[1].tolist() == [0, 0, -np.inf, -np.inf]


class Unread:
    """The reference engine, but for the states that it does not hand out."""

    def __init__(self, engine):
        self.engine, self.options = engine, []

    def sample(self, prompts, options, **more):
        self.options.append(options)
        written = self.engine.sample(prompts, options, **more)
        return [[dataclasses.replace(one, last_state=None) for one in samples] for samples in written]

    def publish(self, writer, adapter):
        self.engine.publish(writer, adapter)


def test_an_engine_without_states_gives_the_same_scores(config, dataset, backbone, tmp_path):
    model = shaken(R2Rank.create(config, dataset.catalogue, backbone=backbone))
    expected = scores(model, HISTORIES, CANDIDATES)
    other = R2Rank(model.config, model.backbone, model.catalogue, model.head, Unread(model.engine))
    np.testing.assert_allclose(scores(other, HISTORIES, CANDIDATES), expected, atol=1e-4)
    model.save_pretrained(tmp_path)
    base = tiny_backbone(dataset.catalogue.titles)
    engine = Unread(TransformersEngine(base))
    loaded = R2Rank.from_pretrained(tmp_path, backbone=base, engine=engine)
    np.testing.assert_allclose(scores(loaded, HISTORIES, CANDIDATES), expected, atol=1e-4)
    sampled = GenerationOptions(max_new_tokens=3, temperature=1.0)
    Configured(loaded, thought_options=sampled).rank(Requests(HISTORIES), Candidates(CANDIDATES))
    assert engine.options == [config.thought, sampled]


def test_candidates_of_another_catalogue_are_found_by_their_ids(config, dataset, backbone):
    model = shaken(R2Rank.create(config, dataset.catalogue, backbone=backbone))
    turned = Catalogue(dataset.catalogue.frame.reverse())
    rows = np.where(CANDIDATES >= 0, len(dataset.catalogue) - 1 - CANDIDATES, -1).astype(np.int32)
    expected, answer = model.rank(HISTORIES, CANDIDATES), model.rank(HISTORIES, Candidates(rows, turned))
    assert_same_answer(answer, expected)
    strange = Catalogue(pl.DataFrame({"item": ["i00", "new"], "title": ["red car", "new"]}))
    with pytest.raises(ThinkrankError, match="no item has the id 'new'"):
        model.rank(HISTORIES[:1], Candidates(np.array([[0, 1]], dtype=np.int32), strange))


def test_threads_that_ask_at_once_get_what_each_gets_alone(config, dataset, backbone):
    model = shaken(R2Rank.create(config, dataset.catalogue, backbone=backbone))
    expected = [model.rank(HISTORIES[b : b + 1], CANDIDATES[b : b + 1]) for b in range(3)]
    with ThreadPoolExecutor(3) as pool:
        asked = [b for _ in range(5) for b in range(3)]
        for b, answer in zip(
            asked, pool.map(lambda b: model.rank(HISTORIES[b : b + 1], CANDIDATES[b : b + 1]), asked), strict=True
        ):
            assert_same_answer(answer, expected[b], atol=1e-5)


@pytest.mark.parametrize(
    ("row", "message"), [([1, 1, 2, 3], "list 0 holds item 1 twice"), ([1, 24, 2, 3], "list 0 holds item 24")]
)
def test_candidates_that_cannot_be_are_refused(config, dataset, backbone, row, message):
    model = R2Rank.create(config, dataset.catalogue, backbone=backbone)
    with pytest.raises(ThinkrankError, match=message):
        model.rank(HISTORIES[:1], np.array([row], dtype=np.int32))


def test_a_prefix_is_the_same_for_every_candidate_and_names_none(config, dataset, backbone):
    prompts = R2Rank.create(config, dataset.catalogue, backbone=backbone).prompts
    prefix = backbone.tokenizer.decode(prompts.prefix(HISTORIES[0]))
    assert "red car" in prefix
    assert "black dog" not in prefix
    assert "black dog" in backbone.tokenizer.decode(prompts.candidate(23))


def halved(model):
    """The model with its base weights in bf16, in place."""
    for name, parameter in model.backbone.model.named_parameters():
        parameter.data = parameter.data if "lora_" in name else parameter.data.bfloat16()
    return model


def test_whoever_has_no_candidate_is_answered_with_nothing_and_the_others_as_before(config, dataset):
    model = R2Rank.create(config, dataset.catalogue)
    assert model.config.thinks
    alone = model.rank(HISTORIES[:1], CANDIDATES[:1])
    both = model.rank(HISTORIES[:2], np.array([CANDIDATES[0].tolist(), [-1] * 4], dtype=np.int32))
    assert both.items_BK[0].tolist() == alone.items_BK[0].tolist()
    assert (both.items_BK[1] == -1).all()
    assert both.reasons[1] == ()
    assert (model.rank(HISTORIES[:1], np.full((1, 4), -1, np.int32)).items_BK == -1).all()


def test_yes_or_no_is_read_before_any_thought(config, dataset):
    model = R2Rank.create(config.model_copy(update={"thinks": False, "readout": "yes_no"}), dataset.catalogue)
    with refused("readout = yes_no reads its answer before any thought"):
        model.rank(HISTORIES, CANDIDATES, think=True)
    assert model.rank(HISTORIES, CANDIDATES, think=False).reasons is None


@pytest.mark.parametrize("thinks", [True, False])
def test_bf16_weights_give_one_score_by_every_path_that_judges(config, dataset, thinks):
    changes = {"thinks": thinks, "readout": "head" if thinks else "yes_no"}
    half, twin = (halved(shaken(R2Rank.create(config.model_copy(update=changes), dataset.catalogue))) for _ in range(2))
    twin.backbone.model.float()  # the same weights, kept in fp32
    answer = half.answer(HISTORIES, CANDIDATES)
    rows = [[row for row in items if row >= 0] for items in CANDIDATES.tolist()]
    written = answer.thoughts and [[[answer.thoughts[b][row]] for row in own] for b, own in enumerate(rows)]
    groups = [TrainingGroup(0, 0, history, tuple(own)) for history, own in zip(HISTORIES, rows, strict=True)]
    apart = 0.0
    for b, rollout in enumerate(score_thoughts(half, groups, written)):
        for n, row in enumerate(rows[b]):
            thought = written[b][n][0] if written else None
            exact = alone(twin, HISTORIES[b], row, thought.ids_before_stop if thought else ())
            assert answer.scores_BN[b, n] == pytest.approx(exact, abs=2e-5)
            (score,) = half.scores_after(HISTORIES[b : b + 1], [[row]], thought and [[thought]])
            assert score.item() == pytest.approx(exact, abs=2e-5)
            apart = max(apart, abs(rollout.scores_GN[0, n].item() - exact))
    assert apart > 2e-4, "rewards are read in bf16, or this says nothing"


@pytest.mark.parametrize("model", ["linear", "thinking"], indirect=True)
def test_several_thoughts_count_as_the_mean_of_their_scores_and_none_as_none(model):
    options = GenerationOptions(max_new_tokens=5, temperature=1.0)
    rows = [[row for row in items if row >= 0] for items in CANDIDATES.tolist()]
    written = model.sample(HISTORIES, rows, options, num_samples=3)
    apart = [model.scores_after(HISTORIES, rows, [[many[n] for many in pairs] for pairs in written]) for n in range(3)]
    answer = model.rank(HISTORIES, CANDIDATES, think=True, samples=3, thought_options=options)
    given = answer.scores_given(4)
    for b, own in enumerate(rows):
        columns = [CANDIDATES[b].tolist().index(row) for row in own]
        mean = np.mean([scores[b].numpy() for scores in apart], axis=0)
        np.testing.assert_allclose(given[b, columns], mean, atol=2e-5)
        assert {reason.text for reason in answer.reasons[b]} <= {many[0].text.strip() for many in written[b]}
    assert answer.cost.tokens == sum(len(thought.ids) for pairs in written for many in pairs for thought in many)
    plain = model.rank(HISTORIES, CANDIDATES, think=False)
    assert plain.reasons is None
    for b, (own, scores) in enumerate(zip(rows, model.scores_after(HISTORIES, rows), strict=True)):
        columns = [CANDIDATES[b].tolist().index(row) for row in own]
        np.testing.assert_allclose(plain.scores_given(4)[b, columns], scores.numpy(), atol=2e-5)

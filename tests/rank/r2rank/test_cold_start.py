"""The cold start against losses of pairs read one by one, and its end after a kill."""

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Catalogue
from thinkrank.data.candidates import candidate_sets
from thinkrank.evaluate import evaluate_ranking
from thinkrank.language import hidden_states, pad
from thinkrank.language.logprobs import log_softmax, logits
from thinkrank.language.trajectories import Given
from thinkrank.prompts.pairs import PairPrompts
from thinkrank.rank import ColdStartOptions, R2Rank, ReinforceOptions
from thinkrank.rank.r2rank.cold_start import ColdStartTrainer, train_cold_start
from thinkrank.rank.r2rank.groups import TrainingGroup, TrainingGroups, with_traces
from thinkrank.rank.r2rank.rollouts import sample_thoughts, score_thoughts
from thinkrank.testing import TrainerContract
from thinkrank.training import Run


@pytest.fixture(scope="session")
def options():
    return ColdStartOptions(
        steps=4, users=3, negatives=3, warmup_steps=1, validate_every=2, checkpoint_every=2, learning_rate=5e-3
    )


def make_fit(config, dataset, groups, options, folder, backbone=None, validation=None):
    model = R2Rank.create(config, dataset.catalogue, backbone=backbone)
    run = Run(folder, options.model_dump(mode="json"), {})
    return ColdStartTrainer(model, groups, validation, options, run)


def traced(split, model, negatives=3):
    lists = TrainingGroups(split.train, negatives=negatives, seed=0)[:8]
    reasonings = {
        (one.position, row): f"{model.catalogue.titles[row]} fits" if row == one.rows[0] else "no"
        for one in lists
        for row in one.rows
    }
    return with_traces(lists, reasonings, model.prompts)


def alone(model, one, place):
    """Score of one pair and the log-probabilities of its trace, from a reading of its own."""
    prompt = (*model.prompts.prefix(one.history), *model.prompts.candidate(one.rows[place]))
    written = one.traces[place].ids if one.traces else ()
    thought = written[: one.traces[place].num_before_stop] if one.traces else ()
    ids = (*prompt, *thought, *model.prompts.closing_ids)
    states = hidden_states(model.backbone, *pad([ids], model.backbone.pad_id))[0]
    table = log_softmax(logits(model.backbone, states[len(prompt) - 1 : len(prompt) - 1 + len(written)]))
    return model.head(states[-1][None, None])[0, 0], [table[t, token] for t, token in enumerate(written)]


@pytest.mark.parametrize("loss", ["list", "pointwise"])
@pytest.mark.parametrize("thinks", [True, False])
def test_an_update_is_the_gradient_of_pairs_read_alone(
    config, dataset, split, backbone, options, tmp_path, loss, thinks
):
    config = config.model_copy(update={"thinks": thinks})
    model = R2Rank.create(config, dataset.catalogue, backbone=backbone)
    lists = traced(split, model) if thinks else TrainingGroups(split.train, negatives=3, seed=0)[:8]
    options = options.model_copy(update={"loss": loss, "batch_tokens": 200})
    fit = ColdStartTrainer(model, lists, None, options, Run(tmp_path, {}, {}))
    fit.start()
    with torch.no_grad():
        for parameter in [*fit.adapter, *fit.head_parameters]:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    drawn = [one for _, one in fit.next_groups()]
    fit.counters.drawn = 0
    score_loss, thought, count = 0.0, 0.0, 0
    for one in drawn:
        read = [alone(model, one, place) for place in range(len(one.rows))]
        scores = torch.stack([score for score, _ in read])
        if loss == "list":
            score_loss = score_loss - scores.log_softmax(dim=0)[0] / len(drawn)
        else:
            wrong = -torch.nn.functional.logsigmoid(torch.cat([scores[:1], -scores[1:]]))
            score_loss = score_loss + wrong.sum() / sum(len(other.rows) for other in drawn)
        for _, logprobs in read:
            thought = thought - sum(logprobs)
            count += len(logprobs)
    expected = score_loss + (options.thought_weight * thought / count if thinks else 0.0)
    gradients = torch.autograd.grad(expected, [*fit.adapter, *fit.head_parameters])
    kept = []
    fit.update = lambda: kept.extend(p.grad.clone() for p in [*fit.adapter, *fit.head_parameters]) or 0.0
    fit.step()
    for ours, theirs in zip(kept, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_the_loss_of_lists_falls(config, dataset, split, options, tmp_path, backbone):
    plain = config.model_copy(update={"thinks": False})
    options = options.model_copy(update={"steps": 40, "users": 4, "checkpoint_every": 40, "learning_rate": 1e-2})
    model = R2Rank.create(plain, dataset.catalogue, backbone=backbone)
    run = Run(tmp_path, {}, {})
    train_cold_start(model, TrainingGroups(split.train, negatives=5, seed=0)[:4], None, options, run)
    losses = [row["loss"] for row in run.metrics()]
    assert losses[0] == pytest.approx(np.log(6), abs=1e-4)  # an untrained head ties all
    assert losses[-1] < 0.8 * np.log(6)


def test_validation_is_what_the_tables_say_of_the_same_scores_ties_included(config, dataset, split, options, tmp_path):
    sets = candidate_sets(split.valid.subset(20, 0), size=6, seed=0)
    plain = config.model_copy(update={"thinks": False})
    for name in ("tied", "apart"):
        model = R2Rank.create(plain, dataset.catalogue)
        with torch.no_grad():
            for parameter in model.head.parameters() if name == "apart" else ():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        groups = TrainingGroups(split.train, negatives=5, seed=0)[:4]
        row = ColdStartTrainer(model, groups, sets, options, Run(tmp_path / name, {}, {})).measure()
        judged = evaluate_ranking({"R2Rank": model}, sets)
        for ours, theirs in (("valid_ndcg@10", "ndcg@10"), ("valid_hit@1", "hit@1"), ("valid_mrr", "mrr")):
            assert row[ours] == pytest.approx(judged.values("R2Rank", theirs).mean(), abs=1e-9)
        if name == "tied":  # an untrained head: by chance
            assert row["valid_hit@1"] == pytest.approx(1 / 6)


class TestContract(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, dataset, split, options):
        sets = candidate_sets(split.valid.subset(3, 0), size=4, seed=0)

        def made(folder):
            groups = traced(split, R2Rank.create(config, dataset.catalogue))
            return make_fit(config, dataset, groups, options, folder, validation=sets)

        return made


def test_the_head_is_trained_and_saved_apart(config, dataset, split, options, tmp_path):
    model = R2Rank.create(config.model_copy(update={"thinks": False}), dataset.catalogue)
    assert all(parameter.requires_grad for parameter in model.head.parameters())
    before = [parameter.clone() for parameter in model.head.parameters()]
    train_cold_start(
        model, TrainingGroups(split.train, negatives=3, seed=0), None, options, Run(tmp_path / "run", {}, {})
    )
    assert not any(torch.equal(a, b) for a, b in zip(before, model.head.parameters(), strict=True) if a.numel() > 1)
    model.save_pretrained(tmp_path / "saved")
    loaded = R2Rank.from_pretrained(tmp_path / "saved")
    for a, b in zip(model.head.state_dict().values(), loaded.head.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_list_without_its_positive_or_without_a_negative_is_left_out(config, dataset, split, backbone):
    prompts = R2Rank.create(config, dataset.catalogue, backbone=backbone).prompts
    one, two = TrainingGroups(split.train, negatives=2, seed=0)[:2]
    told = {(one.position, one.rows[0]): "a", (one.position, one.rows[2]): "b", (two.position, two.rows[1]): "c"}
    (kept,) = with_traces([one, two], told, prompts)
    assert isinstance(kept, TrainingGroup)
    assert kept.rows == (one.rows[0], one.rows[2])
    closing = prompts.closing_ids
    assert kept.traces == tuple(Given((*ids, *closing), len(ids)) for ids in (tuple(prompts.text(t)) for t in "ab"))


def test_training_lists_are_the_target_and_items_not_met_by_then(split):
    lists = TrainingGroups(split.train, negatives=5, seed=0)
    dataset, taken_later = split.dataset, 0
    for index in range(0, len(lists), 7):
        one = lists[index]
        sample = split.train[index]
        met = sample.history.items
        taken_later += len(set(dataset.history(dataset.users[sample.user]).items.tolist()) & set(one.rows[1:]))
        assert one.rows[0] == sample.target
        assert len(set(one.rows)) == 6
        assert not set(one.rows[1:]) & set(met.tolist())
        assert lists[index].rows == one.rows
    assert taken_later, "what is taken later was left out of the negatives, which tells the future"
    assert TrainingGroups(split.train, negatives=5, seed=1)[0].rows != lists[0].rows


def test_a_training_positive_is_shown_without_its_own_event_in_its_popularity(
    split, config, backbone, options, tmp_path, monkeypatch
):
    words = {"popularity": pl.lit("often"), "popularity_without_own": pl.lit("seldom")}
    catalogue = Catalogue(split.dataset.catalogue.frame.with_columns(**words))
    prompt = config.prompt.model_copy(update={"item_fields": ("title", "popularity")})
    config = config.model_copy(update={"prompt": prompt, "thinks": False})
    model = R2Rank.create(config, catalogue, backbone=backbone)
    old = PairPrompts(model.backbone, Catalogue(catalogue.frame.drop(list(words)[1])), prompt, thinks=False)
    candidate, shown = model.prompts.candidate, []
    assert candidate(3) == old.candidate(3) == old.candidate(3, own=True) != candidate(3, own=True)

    def asked(row, *, own=False, evidence=""):
        shown.append((row, own))
        return candidate(row, own=own, evidence=evidence)

    monkeypatch.setattr(model.prompts, "candidate", asked)
    groups = TrainingGroups(split.train, negatives=3, seed=0)
    expected = [(row, place == 0) for place, row in enumerate(groups[0].rows)]
    sample_thoughts(model, [(0, groups[0])], ReinforceOptions(rollout={"max_new_tokens": 1, "temperature": 1.0}))
    score_thoughts(model, groups[:1], None)
    assert shown == 2 * expected
    trainer = ColdStartTrainer(model, groups[:3], None, options, Run(tmp_path / "run", {}, {}))
    trainer.prepare()
    trainer.step()
    assert {row for row, own in shown if own} == {group.rows[0] for group in groups[:3]}

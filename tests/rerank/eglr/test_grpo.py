import copy
import logging
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from thinkrank.errors import ThinkrankError
from thinkrank.rerank import EGLR, GrpoOptions, Slot
from thinkrank.rerank.eglr.decoding import Written
from thinkrank.rerank.eglr.grpo import GrpoTrainer
from thinkrank.rerank.eglr.objective import compare, is_exploited, objective, returns_to_go
from thinkrank.rerank.eglr.report import mean_error
from thinkrank.rerank.eglr.rollouts import by_place, replayed
from thinkrank.testing import KilledError, kill_at, timeless
from thinkrank.training import Run, no_progress, train
from thinkrank.training.rehearsal import Rehearsal


@pytest.fixture
def options() -> GrpoOptions:
    return GrpoOptions(
        steps=6,
        batch_size=4,
        length=4,
        group_size=3,
        learning_rate=5e-3,
        warmup_steps=0,
        validate_every=3,
        checkpoint_every=2,
        patience=None,
        kl_coefficient=0.1,
        entropy_coefficient=0.05,
        clip_low=0.05,
        clip_high=0.1,
    )


def make_fit(model: EGLR, split, options: GrpoOptions, folder, *, shaken: float = 0.3) -> GrpoTrainer:
    torch.manual_seed(2)
    for module in (model.writer, model.evaluator):  # embeddings begin at zero, and untrained choices are all alike
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(shaken * torch.randn_like(parameter))
    return GrpoTrainer(model, split, options, Run(folder, {}, {}))


def test_a_rehearsal_needs_no_trained_evaluator_and_leaves_everything_as_it_was(model, split, options):
    before = {name: tensor.clone() for name, tensor in all_tensors(model).items()}
    rehearsal = Rehearsal()
    train(GrpoTrainer(model, split, options, rehearsal))
    assert rehearsal.measured.step > 0
    assert rehearsal.measured.validation > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in all_tensors(model).items())
    assert model.writer.reasoning.threshold is None
    assert all(parameter.requires_grad for parameter in model.evaluator.parameters())  # it is still to be trained


def all_tensors(model: EGLR) -> dict[str, Tensor]:
    parts = (("writer", model.writer), ("evaluator", model.evaluator))
    return {f"{name}.{key}": tensor for name, part in parts for key, tensor in part.state_dict().items()}


def rolled(fit: GrpoTrainer):
    """The next batch, lists written for it, and their rewards."""
    fit.prepare()
    fit.module.eval()
    batch = fit.batch(fit.counters.step)
    rollouts = fit.rollouts(batch)
    with torch.no_grad():
        reference = replayed(fit.reference, batch, rollouts.written)
    return batch, rollouts.written, rollouts.rewards_RK, reference


def surrogate_of(fit: GrpoTrainer, batch, written, reference, advantages, counts):
    return objective(replayed(fit.model.writer, batch, written), written, reference, advantages, counts, fit.options)


def plain_choices(writer, batch, request: int, columns: list[int], thoughts: list[int]) -> list[Tensor]:
    """The log-probabilities of all candidates at each place of one list, place by place and thought by thought."""
    reasoning, generator = writer.reasoning, writer.generator
    length = int(batch.mask_BN[request].sum())
    items, users = writer.encoder(batch)
    joint = torch.cat([items[request, :length], users[request].expand(length, -1)], dim=1)[None]
    context = generator.encode(joint, torch.ones(1, length, dtype=torch.bool))
    tokens = context.tokens_RND[0]
    state, left, choices = generator.init_state(context), list(range(length)), []
    for place, column in enumerate(columns):
        if column < 0:
            break
        for thought in range(thoughts[place]):
            logits = generator.logits(context, state)[0, left]
            weights = (logits / reasoning.think_temperature).softmax(0)
            mixture = sum(weight * tokens[i] for weight, i in zip(weights, left, strict=True))
            if reasoning.step_codes:
                mixture = mixture + writer.reasoner.codes_SD[thought]
            state = generator.step(context, state, mixture[None], Slot(place, thought))
        logits = generator.logits(context, state)[0]
        full = torch.full((length,), -math.inf, dtype=logits.dtype)
        full[left] = (logits[left] / reasoning.choose_temperature).log_softmax(0)
        choices.append(full)
        left.remove(column)
        state = generator.step(context, state, tokens[column][None], Slot(place, None))
    return choices


def plain_loss(fit: GrpoTrainer, batch, written: Written, old: Tensor, rewards: Tensor, reference_writer) -> Tensor:
    """The whole objective, one number at a time."""
    options, groups = fit.options, fit.options.group_size
    terms = []
    for request in range(len(batch)):
        rows = range(request * groups, (request + 1) * groups)
        for row in rows:
            columns, thoughts = written.columns_RK[row].tolist(), written.steps_RK[row].tolist()
            choices = plain_choices(fit.model.writer, batch, request, columns, thoughts)
            with torch.no_grad():
                start = plain_choices(reference_writer, batch, request, columns, thoughts)
            for place, choice in enumerate(choices):
                if options.advantage == "list":
                    values = [sum(rewards[r].tolist()) for r in rows]
                else:
                    values = [
                        sum(options.gamma ** (p - place) * rewards[r, p].item() for p in range(place, rewards.shape[1]))
                        for r in rows
                    ]
                if len(set(values)) == 1:
                    continue
                mean, spread = sum(values) / groups, torch.tensor(values, dtype=torch.float64).std().item()
                advantage = (values[row % groups] - mean) / (spread + options.advantage_epsilon)
                column = columns[place]
                ratio = (choice[column] - old[row, place]).exp()
                clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
                gain = torch.minimum(ratio * advantage, clipped * advantage)
                difference = start[place][column] - choice[column]
                kl = difference.exp() - difference - 1
                possible = choice[choice > -math.inf]
                entropy = -(possible.exp() * possible).sum()
                terms.append(-gain + options.kl_coefficient * kl - options.entropy_coefficient * entropy)
    return torch.stack(terms).mean()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"advantage": "position", "gamma": 0.5},
        {"reward": "discounted"},
    ],
    ids=str,
)
def test_the_objective_and_its_gradient_are_those_of_a_hand_written_loop(trusted, split, options, tmp_path, changes):
    trusted.writer.double()
    trusted.evaluator.double()
    fit = make_fit(trusted, split, options.model_copy(update=changes), tmp_path)
    batch, written, rewards, _ = rolled(fit)
    assert (written.steps_RK > 0).any()
    advantages, tells = compare(rewards, fit.options)
    with torch.no_grad():  # as if an update had been made since: ratios differ from 1, and some are clipped
        for parameter in fit.model.writer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        reference = replayed(fit.reference, batch, written)
    surrogate = surrogate_of(fit, batch, written, reference, advantages, tells & written.chosen_RK)
    parameters = list(fit.model.writer.parameters())
    ours = torch.autograd.grad(surrogate.loss, parameters, allow_unused=True)
    loss = plain_loss(fit, batch, written, written.logprobs_RK, rewards, fit.reference)
    theirs = torch.autograd.grad(loss, parameters, allow_unused=True)
    assert surrogate.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert 0 < surrogate.clip_share.item() < 1
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None or not one.any()) if other is None else True
        if other is not None:
            torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-5)
    assert max(float(gradient.abs().max()) for gradient in theirs if gradient is not None) > 1e-3


def test_returns_are_what_comes_of_a_list_from_each_place_on():
    rewards = torch.tensor([[1.0, 2.0, 4.0], [0.5, 0.0, 3.0]])
    torch.testing.assert_close(returns_to_go(rewards, 0.5), torch.tensor([[3.0, 4.0, 4.0], [1.25, 1.5, 3.0]]))
    assert torch.equal(returns_to_go(rewards, 0.0), rewards)


def test_groups_that_tie_say_nothing(trusted, split, options, tmp_path):
    fit = make_fit(trusted, split, options, tmp_path)
    rewards = torch.rand(12, 4)
    rewards[3:6] = 0.25
    advantages, tells = compare(rewards, fit.options)
    assert tells.all(dim=1).tolist() == [True] * 3 + [False] * 3 + [True] * 6
    assert not advantages[3:6].any()
    batch, written, _, reference = rolled(fit)
    nothing = torch.zeros_like(written.chosen_RK)
    surrogate = surrogate_of(fit, batch, written, reference, advantages, nothing)
    assert surrogate.loss.item() == 0
    gradients = torch.autograd.grad(surrogate.loss, list(fit.module.parameters()), allow_unused=True)
    assert not any(gradient is not None and gradient.any() for gradient in gradients)


def test_an_evaluator_to_which_all_lists_are_alike_is_told_of_within_three_batches(
    trusted, split, options, tmp_path, caplog
):
    fit = make_fit(trusted, split, options, tmp_path)
    with torch.no_grad():
        for parameter in fit.evaluator.parameters():
            parameter.zero_()
    fit.start()
    for _ in range(3):
        fit.step()
    assert "step 3: nothing to learn from for 3 batches, rewards tie in 100% of the groups" in caplog.text


def test_the_first_update_has_ratios_of_one_and_no_divergence_and_a_second_has_not(trusted, split, options, tmp_path):
    for updates in (1, 3):
        fit = make_fit(trusted, split, options.model_copy(update={"updates": updates}), tmp_path / str(updates))
        fit.prepare()
        row = fit.learn(fit.batch(0))
        exact = updates == 1
        assert (abs(row["ratio"] - 1) < 1e-5) == exact
        assert (abs(row["kl"]) < 1e-8) == exact


def test_a_list_above_its_siblings_becomes_likelier(trusted, split, options, tmp_path):
    plain = options.model_copy(update={"kl_coefficient": 0.0, "entropy_coefficient": 0.0, "learning_rate": 1e-3})
    fit = make_fit(trusted, split, plain, tmp_path)
    batch, written, rewards, reference = rolled(fit)
    advantages, tells = compare(rewards, fit.options)

    def weighted():
        with torch.no_grad():
            context = fit.model.writer.context(batch, options.group_size)
            logprobs = fit.model.writer.replay(context, written.columns_RK, written.steps_RK).logprobs_RK
        return float((logprobs * advantages).sum())

    before = weighted()
    fit.descend(surrogate_of(fit, batch, written, reference, advantages, tells & written.chosen_RK).loss)
    assert weighted() > before


def test_it_does_not_begin_without_a_judged_evaluator(model, trusted, split, options, tmp_path, caplog):
    model.report, report = None, trusted.report
    with pytest.raises(ThinkrankError, match="never trained and judged"):
        GrpoTrainer(model, split, options, Run(tmp_path, {}, {}))
    worse = report.worth["mean"].model_copy(update={"difference": 0.1})
    model.report = report.model_copy(update={"worth": {**report.worth, "mean": worse}})
    refusing = options.model_copy(update={"failed_check": "refuse"})
    with pytest.raises(ThinkrankError, match=r"does not prefer logged lists.* or set grpo.failed_check to warn"):
        GrpoTrainer(model, split, refusing, Run(tmp_path, {}, {}))
    GrpoTrainer(model, split, refusing.model_copy(update={"reward": "sum"}), Run(tmp_path, {}, {}))


def test_a_failed_check_of_the_evaluator_strands_no_run_by_default(trusted, split, options, tmp_path, caplog):
    worse = trusted.report.worth["mean"].model_copy(update={"difference": 0.1})
    trusted.report = trusted.report.model_copy(update={"worth": {**trusted.report.worth, "mean": worse}})
    with caplog.at_level(logging.WARNING):
        rows = train(make_fit(trusted, split, options.model_copy(update={"steps": 1}), tmp_path)).metrics()
    assert any("reward" in row for row in rows)
    assert "does not prefer logged lists" in caplog.text
    assert "more evaluator.steps" in caplog.text


def test_reinforcement_keeps_its_last_weights_whatever_clicks_on_the_displayed_order_say():
    assert (GrpoOptions().keep, GrpoOptions().patience) == ("last", None)


def test_an_evaluator_that_knows_places_alone_is_told(model, trusted, split, options, tmp_path, caplog):
    for told, warned in ((0.9, False), (None, False), (0.52, True)):
        model.report = trusted.report.model_copy(update={"auc_within_place": told})
        with caplog.at_level(logging.WARNING):
            GrpoTrainer(model, split, options, Run(tmp_path, {}, {}))
        assert ("hardly tells which items" in caplog.text) == warned


def test_the_evaluator_stays_as_it_is(trusted, split, options, tmp_path):
    fit = make_fit(trusted, split, options, tmp_path)
    before = {name: tensor.clone() for name, tensor in trusted.evaluator.state_dict().items()}
    fit.start()
    fit.train(no_progress)
    assert all(torch.equal(before[name], tensor) for name, tensor in trusted.evaluator.state_dict().items())
    assert not trusted.evaluator.training


def test_every_step_tells_what_happened(trusted, split, options, tmp_path):
    fit = make_fit(trusted, split, options, tmp_path)
    rows = train(fit).metrics()
    steps = [row for row in rows if "reward" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    scalars = ("group_spread", "tied_share", "clip_share", "kl", "choice_entropy", "trigger_rate", "mean_thoughts")
    places = ("trigger_rate_by_place", "thoughts_by_place", "entropy_before_by_place", "entropy_after_by_place")
    for row in steps:
        assert all(math.isfinite(row[name]) for name in scalars)
        assert all(len(row[name]) == 4 for name in places)
    checks = [row for row in rows if "valid_ndcg@4" in row]
    assert [row["step"] for row in checks] == [0, 3, 6]
    assert all({"valid_reward", "valid_mrr@4", "reward_hacking", "valid_trigger_rate"} <= row.keys() for row in checks)


def test_a_gate_that_is_calibrated_follows_the_entropies_and_one_that_is_given_stays(trusted, split, options, tmp_path):
    options = options.model_copy(update={"steps": 40, "validate_every": 10, "learning_rate": 3e-2})
    options = options.model_copy(update={"keep": "last", "kl_coefficient": 0.0, "entropy_coefficient": 0.0})
    reasoning = trusted.writer.reasoning.model_copy(update={"trigger_rate": 0.4, "max_steps": 1})

    def validations(given=None, *, before=None):
        model = copy.deepcopy(trusted)
        model.writer.reasoner.options = reasoning.model_copy(update={"threshold": given})
        model.writer.reasoner.set_threshold(before if given is None else given)
        rows = train(make_fit(model, split, options, tmp_path / f"{given} {before}")).metrics()
        return [row for row in rows if "valid_trigger_rate" in row]

    calibrated = validations()
    first, last = calibrated[0], calibrated[-1]
    assert last["valid_entropy_before_by_place"][0] < first["valid_entropy_before_by_place"][0] - 0.2
    assert last["threshold"] < first["threshold"] - 0.1
    assert all(abs(row["valid_trigger_rate"] - 0.4) < 0.1 for row in calibrated)
    given = validations(first["threshold"])
    assert {row["threshold"] for row in given} == {first["threshold"]}
    assert given[-1]["valid_trigger_rate"] < 0.25
    again = validations(before=9.9)  # as a phase before has left it
    assert [row["threshold"] for row in again] == [row["threshold"] for row in calibrated]


def test_places_are_summed_up_over_the_lists_that_reach_them():
    columns = torch.tensor([[1, 0, 2], [0, -1, -1]])
    values = torch.tensor([[1.0, 2.0, 3.0], [3.0, 0.0, 0.0]])
    summary = by_place(Written(columns, values, values, values / 2, torch.tensor([[2, 0, 0], [1, 0, 0]]), values))
    assert summary["trigger_rate_by_place"] == [1, 0, 0]
    assert summary["thoughts_by_place"] == [1.5, 0, 0]
    assert summary["entropy_before_by_place"] == [2, 2, 3]
    assert summary["entropy_after_by_place"] == [1, 1, 1.5]
    assert summary["trigger_rate"] == 0.5
    assert summary["mean_thoughts"] == 0.75


def test_a_reward_that_rises_while_clicks_fall_is_told(trusted, split, options, tmp_path, caplog):
    fit = make_fit(trusted, split, options, tmp_path)
    random = np.random.default_rng(0)
    start = {name: torch.from_numpy(random.random(50)) for name in ("ndcg", "reward")}
    fit.at_start, fit.validation_users = start, torch.arange(50)

    def hacked(ndcg, reward):
        noise = torch.from_numpy(0.01 * random.standard_normal(50))
        return fit.is_hacking({"ndcg": start["ndcg"] + ndcg + noise, "reward": start["reward"] + reward + noise})

    caplog.clear()  # what is said of an untrained evaluator
    with caplog.at_level(logging.WARNING):
        assert not hacked(0.1, 0.1)
        assert not hacked(-0.1, -0.1)
        assert not hacked(0.0, 0.1)
        assert not hacked(0.1, -0.1)
        assert not caplog.text
        assert hacked(-0.1, 0.1)
    assert "exploiting" in caplog.text


POINTS = [
    ("step", 4),
    ("descend", 5),
    ("optimizer.step", 8),
    ("measure", 2),
    ("save", 1),
    ("save", 2),
]


def test_killed_anywhere_and_resumed_it_ends_the_same(config, trusted, split, options, tmp_path):
    small = {"steps": 4, "batch_size": 2, "group_size": 2, "length": 3, "updates": 2, "validate_every": 2}
    options = options.model_copy(update=small)

    def to_the_end(folder, kill=None):
        model = EGLR.create(config, split.train, device="cpu")
        model.report = trusted.report
        fit = make_fit(model, split, options, folder)
        if kill is not None:
            kill_at(fit, *kill[:2], after=kill[2])
        train(fit)
        return fit

    whole = to_the_end(tmp_path / "whole")
    expected, log = whole.weights(), timeless(whole.run)
    assert whole.model.writer.reasoning.threshold is not None
    for number, point in enumerate(POINTS):
        folder = tmp_path / str(number)
        with pytest.raises(KilledError):
            to_the_end(folder, (*point, number % 2 == 1))
        resumed = to_the_end(folder)
        for name, tensor in resumed.weights().items():
            assert torch.equal(tensor, expected[name]), (point, name)
        assert timeless(resumed.run) == log, point
        assert resumed.model.writer.reasoning == whole.model.writer.reasoning


def test_the_threshold_moves_with_the_weights_and_is_no_weight(trusted):
    reasoner = trusted.writer.reasoner
    reasoner.set_threshold(0.1)
    assert reasoner.reasoning.threshold == 0.1
    assert "reasoner.threshold" in dict(trusted.writer.named_buffers())
    assert "reasoner.threshold" not in trusted.writer.state_dict()
    assert trusted.writer.half().reasoner.reasoning.threshold == 0.1  # in double precision, whatever the weights are
    copied = copy.deepcopy(trusted.writer)
    thinker = trusted.writer.thinking(reasoner.reasoning.model_copy(update={"threshold": 0.7}))
    reasoner.set_threshold(None)
    assert trusted.writer.reasoning.threshold is None
    assert copied.reasoning.threshold == 0.1
    assert thinker.reasoning.threshold == 0.7


@pytest.mark.parametrize(("rise", "fall", "said"), [(0.1, 0.1, True), (0.1, 0.0, False), (0.0, 0.1, False)])
def test_an_evaluator_is_exploited_if_rewards_rise_and_clicks_fall_beyond_noise(rise, fall, said):
    noise = torch.linspace(-0.3, 0.3, 50, dtype=torch.float64)
    assert is_exploited(rise + noise, fall - noise, torch.arange(50)) == said
    assert not is_exploited(rise + noise[:1], fall + noise[:1], torch.arange(1))  # one list says nothing


def test_the_lists_of_one_user_are_no_independent_signs_of_exploiting():
    """What three users' lists say, twenty times each, is as sure as what three lists say."""
    few, users = torch.tensor([0.2, 0.5, -0.1], dtype=torch.float64), torch.arange(3)
    many, of_many = few.repeat_interleave(20), users.repeat_interleave(20)
    assert mean_error(many, of_many) == pytest.approx(float(few.std()) / 3**0.5)
    assert is_exploited(many, many, torch.arange(60))
    assert not is_exploited(many, many, of_many)
    assert mean_error(many, torch.zeros(60, dtype=torch.long)) == pytest.approx(float(many.std()) / 60**0.5)

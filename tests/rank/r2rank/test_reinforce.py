"""Reinforcement against gradients of pairs read one by one."""

import math

import pytest
import torch

from thinkrank.data.candidates import candidate_sets
from thinkrank.errors import ThinkrankError
from thinkrank.language import hidden_states, pad
from thinkrank.language.adapters import adapter_state
from thinkrank.language.logprobs import log_softmax, logits
from thinkrank.language.options import GenerationOptions
from thinkrank.policy import ListReward, rationale_advantages
from thinkrank.policy.plackett_luce import expected_ndcg
from thinkrank.rank import R2Rank, ReinforceOptions
from thinkrank.rank.r2rank.groups import TrainingGroups
from thinkrank.rank.r2rank.reinforce import ReinforceTrainer
from thinkrank.testing import TrainerContract
from thinkrank.training import Run


@pytest.fixture(scope="session")
def options():
    return ReinforceOptions(
        steps=4, users=2, negatives=2, group_size=3, warmup_steps=1, validate_every=2, checkpoint_every=2,
        rollout=GenerationOptions(max_new_tokens=4, temperature=1.0), learning_rate=5e-3,
    )  # fmt: skip


def make_fit(config, dataset, split, options, folder, validation=None):
    model = R2Rank.create(config, dataset.catalogue)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in [*adapter_state(model.backbone).values(), *model.head.parameters()]:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    lists = TrainingGroups(split.train, negatives=options.negatives, seed=0)
    return ReinforceTrainer(model, lists, validation, options, Run(folder, options.model_dump(mode="json"), {}))


def gradients(fit, rollouts, advantages):
    kept = []
    fit.update = lambda: kept.extend(p.grad.clone() for p in [*fit.adapter, *fit.head_parameters]) or 0.0
    fit.learn(rollouts, advantages)
    for parameter in [*fit.adapter, *fit.head_parameters]:
        parameter.grad = None
    return kept


def alone(model, one, row, written, temperature=1.0):
    """Score of one pair, the log-probabilities of what was written about it, and its importance weights, read alone."""
    prompt = (*model.prompts.prefix(one.history), *model.prompts.candidate(row))
    kept = written.ids[: written.num_before_stop]
    read = hidden_states(model.backbone, *pad([(*prompt, *kept, *model.prompts.closing_ids)], model.backbone.pad_id))[0]
    acted = hidden_states(model.backbone, *pad([(*prompt, *written.ids)], model.backbone.pad_id))[0]
    at = acted[len(prompt) - 1 : len(prompt) - 1 + len(written.ids)]
    own, drawn = (
        torch.stack([table[t, token] for t, token in enumerate(written.ids)])
        for table in (log_softmax(logits(model.backbone, at) / heat) for heat in (1.0, temperature))
    )
    return model.head(read[-1][None, None])[0, 0], own, (own - drawn).detach().exp().clamp(max=2)


@pytest.mark.parametrize(
    ("credit", "temperature"),
    [("plgrad", 1.0), ("plgrad", 2.0), ("list", 1.0), ("counterfactual", 1.0), ("pointwise", 1.0)],
)
def test_an_update_is_the_policy_gradient_of_pairs_read_alone(
    config, dataset, split, options, tmp_path, credit, temperature
):
    """Whatever the temperature that thoughts were drawn at."""
    rollout = options.rollout.model_copy(update={"temperature": temperature})
    options = options.model_copy(update={"credit": credit, "rollout": rollout, "kl_coefficient": 0.0})
    fit = make_fit(config, dataset, split, options, tmp_path)
    fit.start()
    drawn = fit.next_groups()
    rollouts, *_ = fit.sample(drawn)
    model, num_users, size = fit.model, len(drawn), options.negatives + 1
    written = model.sample(
        [one.history for _, one in drawn], [one.rows for _, one in drawn],
        options.rollout, num_samples=options.group_size, seeds=[draw for draw, _ in drawn],
    )  # fmt: skip
    scores = torch.zeros(num_users, options.group_size, size)
    token_loss, read = 0.0, {}
    for b, (_, one) in enumerate(drawn):
        for n, row in enumerate(one.rows):
            for g in range(options.group_size):
                read[b, g, n] = alone(model, one, row, written[b][n][g], temperature)
                scores[b, g, n] = read[b, g, n][0].detach()
    ours = torch.stack([rollout.scores_GN for rollout in rollouts])
    torch.testing.assert_close(ours, scores, rtol=1e-4, atol=1e-4)
    gains = torch.zeros(num_users, size)
    gains[:, 0] = 1
    advantages = rationale_advantages(scores, gains, ListReward(), credit=credit)
    for (b, g, n), (_, logprobs, weights) in read.items():
        token_loss = token_loss - advantages[b, g, n] * (weights * logprobs).mean() / len(read)
    worth = 0.0
    for b in range(num_users):
        for g in range(options.group_size):
            own = torch.stack([read[b, g, n][0] for n in range(size)])
            worth = worth + expected_ndcg(own[None], torch.tensor([0]), 1.0)[0] / (num_users * options.group_size)
    parameters = [*fit.adapter, *fit.head_parameters]
    expected = torch.autograd.grad(token_loss - worth, parameters, allow_unused=True)
    for mine, theirs in zip(gradients(fit, rollouts, advantages), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-6)


def test_parts_of_the_loss_reach_what_they_should(config, dataset, split, options, tmp_path):
    def reached(folder, **changes):
        fit = make_fit(config, dataset, split, options.model_copy(update=changes), tmp_path / folder)
        fit.start()
        rollouts, *_ = fit.sample(fit.next_groups())
        advantages = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
        for parameter in [*fit.adapter, *fit.head_parameters]:
            parameter.grad = torch.zeros_like(parameter)
        found = gradients(fit, rollouts, advantages)
        adapter = sum(g.abs().sum() for g in found[: len(fit.adapter)])
        head = sum(g.abs().sum() for g in found[len(fit.adapter) :])
        return bool(adapter > 0), bool(head > 0)

    assert reached("both") == (True, True)
    assert reached("tokens", score_weight=0.0) == (True, False)
    assert reached("scores", token_weight=0.0) == (True, True)
    assert reached("head", token_weight=0.0, joint=False) == (False, True)


def test_divergence_is_measured_from_the_start(config, dataset, split, options, tmp_path):
    options = options.model_copy(update={"kl_coefficient": 0.1, "updates": 2})
    fit = make_fit(config, dataset, split, options, tmp_path)
    fit.start()
    rollouts, *_ = fit.sample(fit.next_groups())
    advantages = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    first, second = fit.learn(rollouts, advantages), fit.learn(rollouts, advantages)
    assert first["token_ratio"] == pytest.approx(1, abs=1e-5)
    assert first["token_kl"] == pytest.approx(0, abs=1e-6)
    assert second["token_kl"] > 1e-8
    assert abs(second["token_ratio"] - 1) > 1e-6


def test_lists_of_users_who_have_met_nearly_everything_are_left_out(config, dataset, split, options, tmp_path, caplog):
    def lengths(negatives):
        return [len(group.rows) for group in TrainingGroups(split.train, negatives=negatives, seed=0)]

    most = next(count for count in range(1, 99) if len({*lengths(count)}) > 1)
    fit = make_fit(config, dataset, split, options.model_copy(update={"negatives": most}), tmp_path / "some")
    assert {len(group.rows) for group in fit.groups} == {most + 1}
    assert len(fit.groups) == lengths(most).count(most + 1)
    assert f"{len(split.train) - len(fit.groups)} of {len(split.train)} lists are left out" in caplog.text
    with pytest.raises(ThinkrankError, match=r"lower reinforce\.negatives"):
        make_fit(config, dataset, split, options.model_copy(update={"negatives": 999}), tmp_path / "none")


def test_without_thoughts_the_reward_of_the_list_is_followed_exactly(config, dataset, split, options, tmp_path):
    fit = make_fit(config.model_copy(update={"thinks": False}), dataset, split, options, tmp_path)
    fit.start()
    rollouts, facts, _ = fit.sample(fit.next_groups())
    scores = torch.cat([rollout.scores_GN for rollout in rollouts])
    assert facts["reward"] == pytest.approx(
        float(expected_ndcg(scores, torch.zeros(len(scores), dtype=torch.long), 1.0).mean()), abs=1e-5
    )
    assert fit.learn(rollouts, torch.zeros(2, 1, 3))["score_loss"] == pytest.approx(-facts["reward"], abs=1e-4)


def test_the_log_of_standing_first_can_be_the_reward(config, dataset, split, options, tmp_path):
    fit = make_fit(config, dataset, split, options.model_copy(update={"reward": "log_probability"}), tmp_path)
    fit.start()
    rollouts, facts, scores_BGN = fit.sample(fit.next_groups())
    assert facts["reward"] == pytest.approx(float(scores_BGN.log_softmax(dim=2)[..., 0].mean()), abs=1e-5)
    advantages_BGN = torch.zeros_like(scores_BGN)
    assert fit.learn(rollouts, advantages_BGN)["score_loss"] == pytest.approx(-facts["reward"], abs=1e-4)
    with pytest.raises(ValueError, match="neither a reward_k nor sampled lists"):
        ReinforceOptions(reward="log_probability", reward_k=5)


def test_scores_can_be_trained_pair_by_pair(config, dataset, split, options, tmp_path):
    options = options.model_copy(update={"score_loss": "pointwise", "token_weight": 0.0, "temperature": 0.5})
    fit = make_fit(config, dataset, split, options, tmp_path)
    fit.start()
    rollouts, *_ = fit.sample(fit.next_groups())
    loss = 0.0
    for rollout in rollouts:
        for scores in rollout.scores_GN.tolist():
            for n, score in enumerate(scores):
                chance = 1 / (1 + math.exp(-score / 0.5))
                loss -= math.log(chance if n == 0 else 1 - chance) / (2 * options.group_size * len(scores))
    assert fit.learn(rollouts, torch.zeros(2, options.group_size, 3))["score_loss"] == pytest.approx(loss, abs=1e-4)


class TestContract(TrainerContract):
    moments = (*TrainerContract.moments, ("model.sample", 2, False), ("learn", 2, False), ("validate", 2, True))

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, dataset, split, options):
        sets = candidate_sets(split.valid.subset(2, 0), size=3, seed=0)
        options = options.model_copy(update={"estimator": "pl_rank", "num_permutations": 4})
        return lambda folder: make_fit(config, dataset, split, options, folder, sets)


def test_what_trains_nothing_is_refused(config, dataset, split, options, tmp_path):
    plain = config.model_copy(update={"thinks": False, "readout": "yes_no"})
    with pytest.raises(ThinkrankError, match="nothing would be trained"):
        make_fit(plain, dataset, split, options.model_copy(update={"joint": False}), tmp_path)
    with pytest.raises(ValueError, match="both 0"):
        ReinforceOptions(token_weight=0, score_weight=0)
    with pytest.raises(ValueError, match="rank_return"):
        ReinforceOptions(credit="rank_return")


@pytest.mark.parametrize("credit", ["plgrad", "counterfactual", "pointwise"])
def test_a_single_thought_is_compared_with_the_score_without_one(config, dataset, split, options, tmp_path, credit):
    options = options.model_copy(update={"group_size": 1, "credit": credit, "kl_coefficient": 0.0, "users": 1})
    fit = make_fit(config, dataset, split, options, tmp_path)
    fit.start()
    ((draw, one),) = drawn = fit.next_groups()
    model, learnt = fit.model, []
    with torch.no_grad():
        written = model.sample([one.history], [one.rows], options.rollout, seeds=[draw])[0]
        thought = torch.stack([alone(model, one, row, w)[0] for row, (w,) in zip(one.rows, written, strict=True)])
        silent = torch.cat(model.scores_after([one.history], [one.rows]))
    expected = rationale_advantages(
        thought[None, None], torch.tensor([[1.0, 0.0, 0.0]]), ListReward(), credit=credit, baseline_BN=silent[None]
    )
    fit.next_groups, fit.learn = lambda: drawn, lambda rollouts, advantages: learnt.append(advantages) or {}
    fit.step()
    torch.testing.assert_close(learnt[0], expected, rtol=1e-3, atol=1e-4)
    assert expected.abs().min() > 0


@pytest.mark.parametrize("credit", ["list", "rank_return"])
def test_a_single_thought_is_refused_where_only_siblings_can_be_compared(
    config, dataset, split, options, tmp_path, credit
):
    options = options.model_copy(update={"group_size": 1, "credit": credit, "estimator": "pl_rank"})
    with pytest.raises(ThinkrankError, match=f"credit {credit} compares thoughts .* group_size is 1"):
        make_fit(config, dataset, split, options, tmp_path)
    make_fit(config.model_copy(update={"thinks": False}), dataset, split, options, tmp_path / "silent")


def test_thoughts_that_are_all_alike_are_told_of_within_three_batches(
    config, dataset, split, options, tmp_path, caplog
):
    """Sampled almost without chance: every pair's thoughts are one thought, so no token learns anything."""
    cold = options.rollout.model_copy(update={"temperature": 1e-6})
    fit = make_fit(config, dataset, split, options.model_copy(update={"rollout": cold}), tmp_path)
    fit.start()
    for _ in range(3):
        fit.step()
    assert "step 3: nothing to learn from for 3 batches" in caplog.text

"""RecPO against hand-written loops: one row per trajectory, no packing, no sharing, the paper's formulas spelt out."""

import math

import numpy as np
import pytest
import torch

from thinkrank.language import hidden_states, pad
from thinkrank.language.trajectories import Trajectories, reference_logprobs
from thinkrank.policy import grpo_advantages
from thinkrank.recipes.presets import Preset, preset
from thinkrank.retrieve.r2ec.rollouts import Group


def plain_states(model, group, written):
    """States of one trajectory alone: along prompt, thought and closing, and along prompt and sampled ids."""
    ids = [*group.prompt.prompt.ids, *written.ids_before_stop, *model.prompts.closing_ids]
    acted = [*group.prompt.prompt.ids, *written.ids]
    return tuple(hidden_states(model.backbone, *pad([row], model.backbone.pad_id))[0] for row in (ids, acted))


def plain_logprobs(model, group, written):
    """Log-probability of each sampled token, from the whole vocabulary's logits."""
    _, states = plain_states(model, group, written)
    start = len(group.prompt.prompt)
    logits = model.backbone.model.get_output_embeddings()(states).double()
    return torch.stack([logits[start + t - 1].log_softmax(0)[token] for t, token in enumerate(written.ids)])


def plain_vector(model, item, live):
    """An item's vector: its text read now, with gradient, or its row of the table."""
    if item in live:
        state = hidden_states(model.backbone, *pad([model.prompts.item(item).ids], model.backbone.pad_id))[0, -1:]
    else:
        state = model.states.rows_ID[item][None]
    return model.head.item_vectors(state, torch.tensor([item]))


def plain_choice(model, user, target, candidates, seen, live):
    """Log-probability of the target among candidate rows, scored one by one."""
    scores = {
        item: model.head.scores(user, plain_vector(model, item, live), torch.tensor([item]))[0, 0]
        for item in sorted(set(candidates))
        if item == target or item not in seen
    }
    return scores[target] - torch.stack(list(scores.values())).logsumexp(0)


def plain_objective(fit, groups, candidates, live):
    """The loss of a first update, row by row: every term that the options name."""
    options, model, total, size = fit.options, fit.model, 0.0, len(groups) * fit.options.group_size
    num_lines = sum(len(group.prompt.line_ends) for group in groups)
    for group in groups:
        advantages = grpo_advantages(group.rewards_G[None], epsilon=options.advantage_epsilon)[0].tolist()
        best = max(range(len(advantages)), key=lambda g: advantages[g])
        history, target = group.sample.history.items.tolist(), group.sample.target
        for g, written in enumerate(group.written):
            if options.token_weight:
                surprise = -plain_logprobs(model, group, written).sum() / size
                total = total + options.token_weight * advantages[g] * surprise
            chosen = g == best if options.selection == "best" else advantages[g] > 0
            user = model.head.user_vectors(plain_states(model, group, written)[0][-1:])
            choice = plain_choice(model, user, target, candidates, set(history), live)
            total = total - (options.item_weight * chosen * advantages[g] + options.item_floor) * choice / size
        if options.item_marginal:
            users = [model.head.user_vectors(plain_states(model, group, one)[0][-1:]) for one in group.written]
            choices = [plain_choice(model, user, target, candidates, set(history), live) for user in users]
            mean = torch.stack(choices).exp().mean().log()
            total = total - options.item_marginal * mean / len(groups)
        events, shown = [*history, target], len(group.prompt.line_ends)
        for line, end in enumerate(group.prompt.line_ends if options.line_weight else ()):
            place = len(events) - shown + line
            user = model.head.user_vectors(
                plain_states(model, group, group.written[0])[0][end][None], torch.tensor([True])
            )
            everything = range(len(model.catalogue))
            choice = plain_choice(model, user, events[place], everything, set(events[:place]), set())
            total = total - options.line_weight * choice / num_lines
    return total


def gradients(fit, parts):
    caught = []
    hook = fit.optimizer.register_step_pre_hook(lambda *_: caught.extend(p.grad.clone() for p in fit.adapter))
    fit.update_from(parts)
    hook.remove()
    return caught


def assert_same_gradients(ours, theirs):
    scale = max(g.abs().max() for g in theirs)
    assert scale > 1e-5
    for one, two in zip(ours, theirs, strict=True):
        assert (one - two).abs().max() < 2e-4 * scale


def test_the_update_is_the_papers_objective(config, split, recpo, make_fit, tmp_path):
    """J of equation 8 with sums over tokens, the best thought's item action, and the batch's targets as candidates."""
    fit = make_fit(config, split, recpo.model_copy(update={"normalisation": "sum"}), tmp_path)
    groups, _ = fit.rollouts()
    targets = {group.sample.target for group in groups}
    theirs = torch.autograd.grad(plain_objective(fit, groups, targets, live=targets), fit.adapter)
    assert_same_gradients(gradients(fit, fit.compare(groups)), theirs)


@pytest.mark.parametrize("batch_tokens", [1, 10**6])
@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": "memory", "memory": 7},
        {"candidates": "catalogue", "selection": "positive"},
        {"candidates": "catalogue", "live_items": 2, "item_floor": 0.4},
        {"candidates": "catalogue", "live_items": 2, "item_weight": 0.0, "item_marginal": 0.6},
        {"token_weight": 0.0, "item_weight": 0.0, "item_floor": 0.0, "line_weight": 0.7},
        {"candidates": "memory", "memory": 7, "line_weight": 0.7, "item_floor": 0.4},
    ],
    ids=str,
)
def test_every_term_is_what_it_says_however_the_batch_is_cut(
    config, split, recpo, make_fit, tmp_path, changes, batch_tokens
):
    """Among earlier targets, the whole catalogue, live items; at line ends of histories that the window cuts."""
    prompt = config.prompt.model_copy(update={"history_window": 3})
    options = recpo.model_copy(update={"normalisation": "sum", "batch_tokens": batch_tokens, **changes})
    fit = make_fit(config, split, options, tmp_path, prompt=prompt)
    fit.counters.drawn, fit.counters.step = 20, 4
    fit.drawn_before = fit.counters.drawn
    groups, _ = fit.rollouts()
    targets = sorted({group.sample.target for group in groups})
    earlier = [int(split.train.targets[fit.draws.sample(draw)]) for draw in range(13, 20)]
    candidates = range(24) if options.candidates == "catalogue" else [*targets, *earlier]
    live = set(targets)
    if options.candidates == "catalogue":
        drawn = np.random.default_rng([options.seed, 4]).permutation(len(targets))[: options.live_items]
        live = {targets[i] for i in drawn}
    theirs = torch.autograd.grad(plain_objective(fit, groups, candidates, live), fit.adapter, allow_unused=True)
    theirs = [torch.zeros_like(p) if g is None else g for g, p in zip(theirs, fit.adapter, strict=True)]
    assert_same_gradients(gradients(fit, fit.compare(groups)), theirs)


def test_the_log_tells_how_strong_each_term_pulls_on_the_adapter(config, split, recpo, make_fit, tmp_path):
    """Norms against the objective of one term at a time, row by row; the token term's factor enters its gradient."""
    changes = {"normalisation": "sum", "candidates": "catalogue", "item_floor": 0.4, "line_weight": 0.7}
    options = recpo.model_copy(update={**changes, "token_balance": 0.05, "batch_tokens": 1})
    fit = make_fit(config, split, options, tmp_path, shaken=0.5)
    groups, _ = fit.rollouts()
    weights_of = {"token": "token_weight", "item": "item_weight", "floor": "item_floor", "line": "line_weight"}
    alone = {}
    for term, name in weights_of.items():
        fit.options = options.model_copy(update={other: 0.0 for other in weights_of.values() if other != name})
        gradients_of = torch.autograd.grad(
            plain_objective(fit, groups, range(24), set()), fit.adapter, allow_unused=True
        )
        pairs = zip(gradients_of, fit.adapter, strict=True)
        alone[term] = torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
    fit.options = options
    others = alone["item"] + alone["floor"] + alone["line"]
    fit.optimizer = torch.optim.SGD(fit.adapter, lr=0.0)
    fit.update_from(fit.compare(groups))
    factor = fit.balance.factor
    assert factor == pytest.approx(0.05 * float(others.norm() / alone["token"].norm()), rel=1e-3)
    caught = gradients(fit, fit.compare(groups))
    assert_same_gradients([torch.cat([g.flatten() for g in caught])], [factor * alone["token"] + others])
    facts = fit.update_from(fit.compare(groups))
    assert facts["others_norm"] == pytest.approx(float(others.norm()), rel=1e-3)
    assert facts["token_norm"] == pytest.approx(factor * float(alone["token"].norm()), rel=1e-3)
    for term in ("item", "floor", "line"):
        assert facts[f"{term}_norm"] == pytest.approx(float(alone[term].norm()), rel=1e-3)
    assert -1 <= facts["token_cosine"] <= 1


def test_the_divergence_is_from_the_model_at_the_start(config, split, recpo, make_fit, tmp_path):
    fit = make_fit(config, split, recpo.model_copy(update={"kl_coefficient": 0.1}), tmp_path / "a")
    untouched = make_fit(config, split, recpo, tmp_path / "b").model
    fit.start()
    for _ in range(3):
        fit.step()
    groups, _ = fit.rollouts()
    (part,) = fit.compare(groups)
    reference_RT = reference_logprobs(fit.model.backbone, part.episodes, fit.at_start)
    for row, (group, written) in zip(reference_RT, [(g, w) for g in groups for w in g.written], strict=True):
        with torch.no_grad():
            expected = plain_logprobs(untouched, group, written).float()
            now = plain_logprobs(fit.model, group, written).float()
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-4, rtol=1e-4)
        assert (now - expected).abs().max() > 1e-3


def test_rewards_of_ones_own_and_of_the_options_are_added(config, split, recpo, make_fit, tmp_path):
    changed = {"format_weight": 0.3, "length_weight": 0.2, "free_tokens": 1, "diversity_weight": 0.1}
    plain = make_fit(config, split, recpo, tmp_path / "plain")
    fit = make_fit(config, split, recpo.model_copy(update=changed), tmp_path / "more")
    fit.reward_terms.append((2.0, lambda group: [float(answer.rank) for answer in group]))
    for one, more in zip(plain.rollouts()[0], fit.rollouts()[0], strict=True):
        for g, written in enumerate(more.written):
            others = {token for h, other in enumerate(more.written) if h != g for token in other.ids}
            own = set(written.ids)
            added = 2.0 * int(more.ranks_G[g]) + 0.3 * (written.finish_reason == "closed")
            added += -0.2 * (len(written.ids) - 1) / 3 + 0.1 * len(own - others) / len(own)
            assert float(more.rewards_G[g] - one.rewards_G[g]) == pytest.approx(added, abs=1e-5)


def test_cutting_a_batch_into_passes_changes_no_gradient(config, split, recpo, make_fit, tmp_path):
    def of(batch_tokens, folder):
        changed = {"batch_tokens": batch_tokens, "line_weight": 0.3, "item_floor": 0.2, "normalisation": "token"}
        fit = make_fit(config, split, recpo.model_copy(update=changed), tmp_path / folder)
        groups, _ = fit.rollouts()
        parts = fit.compare(groups)
        return len(parts), gradients(fit, parts)

    (one, whole), (three, cut) = of(10**6, "whole"), of(1, "cut")
    assert (one, three) == (1, 3)
    assert_same_gradients(cut, whole)


def test_the_gradient_is_the_slope_of_the_loss(config, split, recpo, make_fit, tmp_path):
    """Central differences along the gradient, probability ratios and clipping included."""
    fit = make_fit(config, split, recpo.model_copy(update={"selection": "positive"}), tmp_path)
    groups, _ = fit.rollouts()
    parts = fit.compare(groups)
    slope = gradients(fit, parts)  # this also moves the weights, so the old log-probabilities are another policy's
    slope = gradients(fit, parts)
    fit.optimizer = torch.optim.SGD(fit.adapter, lr=0.0)
    slope = gradients(fit, parts)
    norm = math.sqrt(sum(float((g**2).sum()) for g in slope))

    def loss_at(step):
        with torch.no_grad():
            for tensor, g in zip(fit.adapter, slope, strict=True):
                tensor.add_(step * g / norm)
        facts = fit.update_from(parts)
        with torch.no_grad():
            for tensor, g in zip(fit.adapter, slope, strict=True):
                tensor.sub_(step * g / norm)
        return facts["token_loss"] + facts["item_loss"]

    step = 2e-3
    assert (loss_at(step) - loss_at(-step)) / (2 * step) == pytest.approx(norm, rel=0.03)


@pytest.mark.parametrize("name", list(Preset))
def test_only_the_released_preset_gives_reasoning_tokens_no_gradient(config, split, recpo, make_fit, tmp_path, name):
    model, _, named = preset(name)
    kept = {"steps", "users", "group_size", "rollout", "batch_tokens"}
    options = named.model_copy(
        update={
            **recpo.model_dump(include=kept - {"rollout"}),
            **dict.fromkeys(["item_weight", "item_floor", "line_weight"], 0.0),
            "rollout": recpo.rollout,
            "users": 8,
            "grad_clip": 1e9,
        }
    )
    fit = make_fit(config, split, options, tmp_path, shaken=0.5, thinker=model.thinker)
    # of nearly tied groups rounding errors are a large share, and GRPO scales them up
    groups = [group for group in fit.rollouts()[0] if group.rewards_G.std() > 1e-2]
    assert groups
    ours = max(float(g.abs().max()) for g in gradients(fit, fit.compare(groups)))
    theirs = max(
        float(g.abs().max())
        for g in gradients(fit, fit_with_own_credit(fit).compare(groups))
    )  # fmt: skip
    assert theirs > 1e-4
    if name is Preset.released:
        assert ours < 1e-5 * theirs
    else:
        assert ours > 1e-4


def fit_with_own_credit(fit):
    fit.options = fit.options.model_copy(update={"credit": "own"})
    return fit


def test_a_thought_above_its_siblings_becomes_likelier(config, split, recpo, make_fit, tmp_path):
    fit = make_fit(config, split, recpo.model_copy(update={"item_weight": 0.0, "advantages": "rloo"}), tmp_path)
    groups, _ = fit.rollouts()
    group = next(group for group in groups if not group.is_tied)
    best, worst = int(group.rewards_G.argmax()), int(group.rewards_G.argmin())

    def margin():
        with torch.no_grad():
            sums = [plain_logprobs(fit.model, group, group.written[g]).sum() for g in (best, worst)]
        return float(sums[0] - sums[1])

    before = margin()
    fit.learning_rate()
    fit.update_from(fit.compare([group]))
    assert margin() > before


def test_rewards_are_those_of_the_whole_catalogue(config, split, recpo, make_fit, tmp_path):
    fit = make_fit(config, split, recpo, tmp_path)
    groups, _ = fit.rollouts()
    model = fit.model
    for group in groups:
        seen = set(group.sample.history.items.tolist())
        for g, written in enumerate(group.written):
            with torch.no_grad():
                state = plain_states(model, group, written)[0][-1]
                scores = model.catalogue_scores(state[None])[0].tolist()
            own = scores[group.sample.target]
            rivals = [s for i, s in enumerate(scores) if i != group.sample.target and i not in seen]
            rank = 1 + sum(s >= own for s in rivals)
            share = math.exp(own) / (math.exp(own) + sum(map(math.exp, rivals)))
            assert int(group.ranks_G[g]) == rank
            assert float(group.similarity_G[g]) == pytest.approx(share, rel=1e-3)
            assert float(group.rewards_G[g]) == pytest.approx(0.95 / math.log2(rank + 1) + 0.05 * share, rel=1e-4)


@pytest.mark.parametrize("targets", [1, 3])
def test_dense_rewards_are_log_probabilities_of_the_next_targets(config, split, recpo, make_fit, tmp_path, targets):
    """Gain over no thought, contribution to the log-mean, NDCG: each a mean over the user's next training events."""
    changes = {"fused_weight": 0.5, "gain_weight": 2.0, "gain_limit": 0.05, "marginal_weight": 3.0, "targets": targets}
    fit = make_fit(config, split, recpo.model_copy(update=changes), tmp_path, shaken=0.5)
    model, seen_further = fit.model, 0
    for group in fit.rollouts()[0]:
        history = group.sample.history.items.tolist()
        user = group.sample.user
        start, stop = split.train_ranges[user].tolist()
        events = split.dataset.items_E[start:stop].tolist()[len(history) :]
        assert events[0] == group.sample.target
        wanted = [events[0], *(item for item in events[1:targets] if item not in history)]
        seen_further += len(wanted) - 1

        def scores_of(ids, history=history, group=group):
            row = [*group.prompt.prompt.ids, *ids, *model.prompts.closing_ids]
            with torch.no_grad():
                state = hidden_states(model.backbone, *pad([row], model.backbone.pad_id))[0, -1]
                scores = model.catalogue_scores(state[None])[0].tolist()
            return {item: score for item, score in enumerate(scores) if item not in history}

        def log_share(scores, item):
            return scores[item] - math.log(sum(map(math.exp, scores.values())))

        without, after = scores_of(()), [scores_of(one.ids_before_stop) for one in group.written]
        for g, scores in enumerate(after):
            worth = 0.0
            for item in wanted:
                rank = sum(score >= scores[item] for score in scores.values())
                shares = [math.exp(log_share(one, item)) for one in after]
                gain = max(-0.05, min(0.05, log_share(scores, item) - log_share(without, item)))
                others = [share for h, share in enumerate(shares) if h != g]
                contribution = math.log(sum(shares) / len(shares)) - math.log(sum(others) / len(others))
                worth += 0.5 * (0.95 / math.log2(rank + 1) + 0.05 * shares[g]) + 2 * gain + 3 * contribution
            assert group.rewards_G[g].item() == pytest.approx(worth / len(wanted), abs=2e-5)
    assert (seen_further > 0) == (targets > 1)


def test_a_second_update_has_real_ratios_and_a_divergence(config, split, recpo, make_fit, tmp_path):
    fit = make_fit(config, split, recpo.model_copy(update={"kl_coefficient": 0.1}), tmp_path)
    groups, _ = fit.rollouts()
    parts = fit.compare(groups)
    fit.learning_rate()
    first, second = fit.update_from(parts), fit.update_from(parts)
    assert first["token_ratio"] == pytest.approx(1, abs=1e-6)
    assert first["token_kl"] == pytest.approx(0, abs=1e-6)
    assert abs(second["token_ratio"] - 1) > 1e-5
    assert second["token_kl"] > 1e-8


def test_importance_weights_are_one_where_the_sampler_is_the_policy(config, split, recpo, make_fit, tmp_path):
    def weight(temperature, folder):
        rollout = recpo.rollout.model_copy(update={"temperature": temperature})
        changed = {"importance_weights": True, "weight_cap": 100.0, "rollout": rollout}
        fit = make_fit(config, split, recpo.model_copy(update=changed), tmp_path / folder)
        return fit.update_from(fit.compare(fit.rollouts()[0]))["token_importance_weight"]

    assert weight(1.0, "same") == pytest.approx(1, abs=1e-4)
    assert abs(weight(2.5, "hotter") - 1) > 1e-2


def test_a_closing_spelt_with_other_tokens_is_still_an_action(config, split, recpo, make_fit, tmp_path):
    """The model may write its closing in pieces that differ from the closing's own ids."""
    changed = config.prompt.model_copy(update={"closing": "<answer>"})
    fit = make_fit(config, split, recpo, tmp_path, prompt=changed)
    model, closing = fit.model, fit.model.prompts.closing_ids
    assert len(closing) > 1
    groups, _ = fit.rollouts()
    one = groups[0]
    other = [token + 1 for token in closing]
    spelt = [
        (tuple(one.written[0].ids_before_stop) + tuple(closing), one.written[0].num_before_stop),
        ((7, 8, *other), 2),
        (tuple(other), 0),
    ]
    written = tuple(
        type(one.written[0])(
            ids, "", (0.0,) * len(ids), (0.0,) * len(ids), (0.0,) * len(ids), "closed", 0.0, kept,
            one.written[0].last_state,
        )
        for ids, kept in spelt
    )  # fmt: skip
    group = Group(one.sample, one.prompt, written, one.ranks_G, one.ndcg_G, one.similarity_G, one.rewards_G)
    from thinkrank.language import PrefixTree, packed_states, selective_logprobs

    prompts = PrefixTree.rows(g.prompt.prompt.ids for g in (group, groups[1])).share()
    episodes = Trajectories(prompts, [written, groups[1].written], closing, model.backbone.device)
    with torch.no_grad():
        states = packed_states(model.backbone, episodes.packing)
        ours = selective_logprobs(model.backbone, states[episodes.predictors], episodes.tokens_A).logprobs_N
        rows = [plain_logprobs(model, g, w).float() for g in (group, groups[1]) for w in g.written]
        ends = [plain_states(model, g, w)[0][-1] for g in (group, groups[1]) for w in g.written]
    torch.testing.assert_close(ours, torch.cat(rows), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(states[episodes.readouts], torch.stack(ends), atol=1e-4, rtol=1e-4)
    matrix = episodes.matrix(ours)
    for row, expected in zip(matrix, rows, strict=True):
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-4, rtol=1e-4)
        assert not row[len(expected) :].any()

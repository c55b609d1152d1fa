"""Lists for later stages: made without the choices that they are to teach."""

import numpy as np
import pytest

from thinkrank.cascade import Blend, Cascade, CascadeConfig
from thinkrank.cascade.crossfit import Offered, folds_of, gain_of, offered_out_of_fold
from thinkrank.data import Candidates, World, WorldOptions, split_dataset
from thinkrank.retrieve import Fused, ItemKNN, Popularity
from thinkrank.stages import order_candidates, top_k
from thinkrank.testing import refused

CONFIG = CascadeConfig(candidates=10, slate=5, batch_size=16)


@pytest.fixture(scope="module")
def split():
    return split_dataset(World(WorldOptions(users=60, items=30, events=8, days=5)).dataset())


class Memory:
    """Retriever that puts first what somebody of the samples it was fitted on took after the same history."""

    def __init__(self, samples, popularity):
        self.catalogue, self.popularity = samples.dataset.catalogue, popularity
        self.taken = {tuple(sample.history.items.tolist()): sample.target for sample in samples}

    def retrieve(self, requests, k, *, filter_seen=True):
        scores_BI = self.popularity.scores(requests)
        for scores_I, history in zip(scores_BI, requests.histories, strict=True):
            target = self.taken.get(tuple(history.items.tolist()))
            if target is not None:
                scores_I[target] = scores_BI.max() + 1
        return top_k(scores_BI, requests.histories, k, filter_seen=filter_seen)


def test_users_are_dealt_whole_and_evenly(split):
    folds_S = folds_of(split.valid, 3)
    by_user = {user: {*folds_S[split.valid.users == user].tolist()} for user in np.unique(split.valid.users)}
    assert all(len(folds) == 1 for folds in by_user.values())
    sizes = np.bincount(folds_S, minlength=3)
    assert sizes.sum() == len(split.valid)
    assert sizes.max() - sizes.min() <= max(np.bincount(split.valid.users))
    np.testing.assert_array_equal(folds_S, folds_of(split.valid, 3))
    with refused("validation users cannot be dealt to 99 folds"):
        folds_of(split.valid, 99)


def test_what_a_retriever_remembers_of_a_choice_is_not_in_the_list_that_teaches_it(split):
    samples, popularity = split.valid, Popularity().fit(split)
    folds_S = folds_of(samples, 3)
    known = []

    def without(fold, others):
        known.append({*np.unique(others.users).tolist()})
        return Cascade(Memory(others, popularity), config=CONFIG)

    fair = offered_out_of_fold(samples, folds_S, without, "rank")
    unfair = offered_out_of_fold(
        samples, folds_S, lambda *_: Cascade(Memory(samples, popularity), config=CONFIG), "rank"
    )
    assert (unfair.taken_S[unfair.found_S] == 0).all(), "in its own fold a memory finds everything first"
    plain = Cascade(popularity, config=CONFIG).offered(samples.requests(), "rank")[0].items_BN
    np.testing.assert_array_equal(fair.candidates.items_BN, plain)
    for fold, users in enumerate(known):
        assert not users & {*samples.users[folds_S == fold].tolist()}
    # A stage that trusts the retriever wholly looks best on the unfair lists, and adds nothing on the fair ones.
    assert gain_of(unfair, unfair.scores_SN)[1].before == pytest.approx(
        (samples.targets >= 0).mean() * unfair.found_S.mean()
    )
    assert gain_of(fair, fair.scores_SN)[0] == Blend(before=1.0, own=0.0)


def test_lists_hold_what_the_stages_before_answer_live(split):
    samples = split.valid
    fused = Fused({"popularity": Popularity().fit(split), "item-kNN": ItemKNN().fit(split)}).fit(split)

    def without(fold, others):
        return Cascade(fused.weighed_on(others), config=CONFIG)

    folds_S = folds_of(samples, 2)
    offered = offered_out_of_fold(samples, folds_S, without, "rank")
    assert offered.candidates.numeric_names == ("retriever.score", "retriever.popularity", "retriever.item-kNN")
    for row in (0, len(samples) // 2, len(samples) - 1):
        retriever = fused.weighed_on(samples.take(np.flatnonzero(folds_S != folds_S[row])))
        asked = Asked()
        Cascade(retriever, asked, config=CONFIG).recommend(samples[row : row + 1].requests(), 3)
        np.testing.assert_array_equal(asked.candidates.items_BN[0], offered.candidates.items_BN[row])
        np.testing.assert_allclose(asked.candidates.numeric_BNF[0], offered.candidates.numeric_BNF[row], atol=1e-4)
        found = offered.candidates.items_BN[row] == samples.targets[row]
        assert offered.taken_S[row] == (found.argmax() if found.any() else -1)


class Asked:
    """Ranker that keeps what it is asked, and leaves the order."""

    def rank(self, requests, candidates):
        self.candidates = candidates
        return order_candidates(
            candidates, -np.tile(np.arange(candidates.items_BN.shape[1]) * 1.0, (len(candidates), 1))
        )


def test_a_stage_that_knows_the_choice_decides_and_noise_gets_no_weight(split):
    samples, popularity = split.valid, Popularity().fit(split)
    offered = offered_out_of_fold(samples, folds_of(samples, 2), lambda *_: Cascade(popularity, config=CONFIG), "rank")
    random = np.random.default_rng(0)
    noise_SN = random.normal(size=offered.scores_SN.shape)
    told_SN = noise_SN + 4.0 * (np.arange(10) == offered.taken_S[:, None])
    blend, good = gain_of(offered, told_SN)
    assert blend.own > 0
    assert good.after > good.before + good.error
    assert good.after <= good.ceiling == offered.found_S.mean()
    blend, none = gain_of(offered, noise_SN)
    assert blend == Blend(before=1.0, own=0.0)
    assert good.likelihood > 3 * good.likelihood_error > 0
    discounts = [1 / np.log2(place + 2) if place >= 0 else 0 for place in offered.taken_S]
    assert none.before == pytest.approx(np.mean(discounts))


def trade(samples, spread, seed):
    """Return a stage that finds what stands far down, and shuffles the first ten the more the wider the spread."""
    random, places, count = np.random.default_rng(seed), np.arange(25), len(samples)
    before_N = np.where(places < 10, -0.1 * places, -3.0)
    odds_N = np.exp(before_N)
    taken_S = random.choice(25, size=count, p=odds_N / odds_N.sum())
    offered = Offered(
        samples,
        Candidates(np.tile(places.astype(np.int32), (count, 1))),
        np.tile(before_N, (count, 1)),
        taken_S,
        np.arange(count),
    )
    shuffled_SN = spread * random.normal(size=(count, 25))
    return offered, np.where(places < 10, shuffled_SN, 2.0 * (places == taken_S[:, None]))


def test_a_fall_of_ndcg_that_may_be_chance_leaves_no_stage_out_that_makes_choices_likelier():
    samples = split_dataset(World(WorldOptions(users=300, items=30, events=8, days=5)).dataset()).valid
    told = {seed: gain_of(*trade(samples, 0.8, seed)) for seed in range(8)}
    likelier = {seed: (blend, gain) for seed, (blend, gain) in told.items() if gain.likelihood > gain.likelihood_error}
    falls = {seed: (gain.before - gain.after) / gain.error for seed, (_, gain) in likelier.items()}
    assert any(0 < fall < 1 for fall in falls.values())
    assert any(fall > 1 for fall in falls.values())
    assert {seed for seed, (blend, _) in likelier.items() if blend.own} == {s for s, fall in falls.items() if fall <= 1}

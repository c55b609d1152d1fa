"""Evidence alone as a ranker, weighed by validation lists."""

import numpy as np

from thinkrank.data import split_dataset
from thinkrank.data.candidates import candidate_sets
from thinkrank.evaluate import candidate_ranks
from thinkrank.evidence import Crowd, EvidenceFeatures
from thinkrank.recipes.tool import WeighedSum, evidence_columns
from thinkrank.testing import two_tribes

SPLIT = split_dataset(two_tribes(users_per_tribe=15))
FEATURES = EvidenceFeatures(Crowd.of(SPLIT), SPLIT.dataset.catalogue)


def test_columns_are_the_features_of_each_candidate_without_the_asker():
    sets = candidate_sets(SPLIT.test.subset(5, seed=0), 20)  # more than there are: filled up
    columns = evidence_columns(FEATURES, sets)
    assert not sets.mask_BN.all()
    for b, (history, user) in enumerate(zip(sets.histories, sets.samples.users.tolist(), strict=True)):
        items = sets.items_BN[b][sets.items_BN[b] >= 0].tolist()
        expected = FEATURES.of(history, items, user)
        for k, name in enumerate(FEATURES.names):
            np.testing.assert_array_equal(columns[name][b, : len(items)], expected[:, k])


def test_no_other_weights_make_what_was_chosen_likelier():
    sets = candidate_sets(SPLIT.valid, 6)
    columns = evidence_columns(FEATURES, sets)
    found = WeighedSum.fit(columns, sets, ridge=0.01)

    def loss(weights):
        scores_BN = WeighedSum(weights, found.scales).scores(columns)
        total = sum(np.log(np.exp(own - own[at]).sum()) for own, at in zip(scores_BN, sets.positive_B, strict=True))
        return total / len(sets) + 0.01 * sum(weight**2 for weight in weights.values())

    least = loss(found.weights)
    for name in found.weights:
        for step in (-0.02, 0.02):
            assert loss({**found.weights, name: found.weights[name] + step}) > least


def test_evidence_tells_the_tribe():
    valid, test = (candidate_sets(part, 6) for part in (SPLIT.valid, SPLIT.test))
    weighed = WeighedSum.fit(evidence_columns(FEATURES, valid), valid)
    ranks = candidate_ranks(weighed.scores(evidence_columns(FEATURES, test)), test)
    assert np.mean(ranks == 1) > 0.5

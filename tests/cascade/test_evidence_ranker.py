import numpy as np
import polars as pl
import pytest

from thinkrank.cascade import EvidenceRanker
from thinkrank.cascade.evidence_ranker import EvidenceConfig
from thinkrank.data import Candidates, World, WorldOptions, split_dataset
from thinkrank.evidence import Crowd, EvidenceFeatures
from thinkrank.testing import RankerContract, SavedContract, refused


def fitted(dataset, config=None, numeric=False):
    split = split_dataset(dataset, "leave-last-out")
    samples, items = split.valid, len(dataset.catalogue)
    random = np.random.default_rng(0)
    lists = np.stack(
        [
            random.permutation(np.append(random.choice(np.delete(np.arange(items), target), 5, False), target))
            for target in samples.targets
        ]
    ).astype(np.int32)
    taken = (lists == samples.targets[:, None]).argmax(axis=1)
    candidates = Candidates(lists)
    if numeric:
        hint = ((lists == samples.targets[:, None]) + 0.5 * random.normal(size=lists.shape)).astype(np.float32)
        candidates = Candidates(lists, numeric_BNF=hint[:, :, None], numeric_names=("retriever.score",))
    crowd = Crowd.of(split)
    return (
        EvidenceRanker(config).fit(samples.requests(), candidates, taken, crowd, dataset.catalogue),
        candidates,
        taken,
        samples,
        crowd,
    )


class TestEvidenceRanker(RankerContract, SavedContract):
    @classmethod
    def fit(cls, dataset):
        return fitted(dataset)[0]


@pytest.fixture(scope="module")
def dataset():
    return World(WorldOptions(users=60, items=30, events=8, days=5)).dataset()


def likelihood(weights, columns, taken, ridge):
    total = 0.0
    for columns_NK, place in zip(columns, taken, strict=True):
        scores = columns_NK.astype(np.float64) @ weights
        total += np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[place]
    return total / len(columns) + ridge * (weights**2).sum()


def test_no_other_weights_are_likelier_and_columns_are_standardised_evidence(dataset):
    ranker, candidates, taken, samples, crowd = fitted(dataset, numeric=True)
    features = EvidenceFeatures(crowd, dataset.catalogue)
    columns = []
    for history, items, hint in zip(samples.histories(), candidates.items_BN, candidates.numeric_BNF, strict=True):
        raw = np.concatenate([features.of(history, items.tolist()), hint], axis=1).astype(np.float64)
        deviation = raw.std(axis=0)
        columns.append(
            (raw - raw.mean(axis=0)) / np.where(deviation > 1e-6 * np.abs(raw).max(axis=0), deviation, np.inf)
        )
    weights = np.array([*ranker.weights.values()])
    least = likelihood(weights, columns, taken, ranker.config.ridge)
    random = np.random.default_rng(1)
    for _ in range(40):
        nudge = 0.05 * random.normal(size=len(weights))
        assert likelihood(weights + nudge, columns, taken, ranker.config.ridge) > least
    assert ranker.weights["retriever.score"] > 0.5, "a hint that tells the choice has a large weight"
    scores = ranker.rank(samples.requests(), candidates).scores_given(6)
    np.testing.assert_allclose(scores, [columns_NK @ weights for columns_NK in columns], atol=1e-4)


def test_a_column_that_is_not_offered_counts_nothing(dataset):
    ranker, candidates, _, samples, _ = fitted(dataset, numeric=True)
    bare = ranker.rank(samples.requests(), Candidates(candidates.items_BN)).scores_given(6)
    flat = ranker.rank(
        samples.requests(),
        Candidates(
            candidates.items_BN, numeric_BNF=np.ones((*bare.shape, 1), np.float32), numeric_names=("retriever.score",)
        ),
    ).scores_given(6)
    np.testing.assert_allclose(bare, flat)


def test_new_items_are_ranked_by_their_texts(dataset):
    ranker = fitted(dataset)[0]
    rows = ranker.add_items(pl.DataFrame({"item": ["new"], "title": ["Something new"]}))
    assert list(rows) == [30]
    assert np.isfinite(ranker.rank([[0, 1]], [[30, 2]]).scores_BK).all()


def test_lists_without_the_choice_are_refused(dataset):
    split = split_dataset(dataset, "leave-last-out")
    for lists, taken in (
        (np.zeros((0, 3), np.int32), np.zeros(0, np.int64)),
        (np.array([[1, -1]], np.int32), np.array([1])),
    ):
        with refused("no list to learn from"):
            EvidenceRanker(EvidenceConfig()).fit([[0]] * len(taken), lists, taken, Crowd.of(split), dataset.catalogue)
    with refused("has learnt nothing yet"):
        EvidenceRanker().rank([[0]], [[1]])

"""Every baseline is a retriever."""

from thinkrank.retrieve import EASE, EASEConfig, ItemKNN, Popularity, PopularityConfig
from thinkrank.testing import LearnsTasteContract, RetrieverContract


class TestPopularity(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return Popularity().fit(dataset)


class TestRecentPopularity(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return Popularity(PopularityConfig(half_life_days=1)).fit(dataset)


class TestItemKNN(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return ItemKNN().fit(dataset)


class TestEASE(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return EASE(EASEConfig(ridge=1)).fit(dataset)

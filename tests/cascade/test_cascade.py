from thinkrank.cascade import Cascade, CascadeConfig
from thinkrank.retrieve import ItemKNN, Popularity
from thinkrank.testing import LearnsTasteContract, RetrieverContract, SavedContract  # noqa: F401


class TestOfOneStage(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return Cascade(ItemKNN().fit(dataset))


class TestOfTwoStages(RetrieverContract):
    """The ranker sorts the first four; the others stay behind them."""

    @classmethod
    def fit(cls, dataset):
        return Cascade(ItemKNN().fit(dataset), Popularity().fit(dataset), config=CascadeConfig(candidates=4))

"""Every re-ranker of the package keeps the contract of re-rankers, and every one that learns comes back from disk."""

from typing import Any

import torch

from thinkrank.rerank import (
    DLCM,
    EGLR,
    PRM,
    DLCMOptions,
    EGLRConfig,
    EvaluatorOptions,
    FeatureOrder,
    GeneratorOptions,
    InitialOrder,
    Pointwise,
    PointwiseOptions,
    PRMOptions,
    ReasoningOptions,
    Seq2Slate,
    Seq2SlateOptions,
    SetRank,
    SetRankOptions,
    train_network,
)
from thinkrank.rerank.lists import ListEncoderOptions
from thinkrank.testing import RerankerContract, SavedContract

ENCODER = ListEncoderOptions(width=8, embedding_width=4, dropout=0, min_count=1)
SHARED = {"lists": ENCODER, "learning_rate": 1e-2, "max_epochs": 2, "batch_size": 32}


class TestInitialOrder(RerankerContract):
    @classmethod
    def fit(cls, lists):
        return InitialOrder()


class TestFeatureOrder(RerankerContract):
    @classmethod
    def fit(cls, lists):
        return FeatureOrder("price")


class TestPointwise(RerankerContract, SavedContract):
    kind: Any
    options: Any
    kind, options = Pointwise, PointwiseOptions(**SHARED, hidden=8, dropout=0)

    @classmethod
    def fit(cls, lists):
        model = cls.kind(cls.options, device="cpu")
        train_network(model, lists)
        return model


class TestDLCM(TestPointwise):
    kind, options = DLCM, DLCMOptions(**SHARED, states=8, hidden=4)


class TestPRM(TestPointwise):
    kind, options = PRM, PRMOptions(**SHARED, width=8, blocks=1, dropout=0)


class TestSetRank(TestPointwise):
    kind, options = SetRank, SetRankOptions(**SHARED, width=8, blocks=1, points=3, dropout=0)


class TestSeq2Slate(TestPointwise):
    kind, options = Seq2Slate, Seq2SlateOptions(**SHARED, states=8, steps=3)


class TestEGLR(RerankerContract, SavedContract):
    """Untrained, but with weights that differ, and a gate that lets about half of the places think."""

    generator = "gru"

    @classmethod
    def fit(cls, lists):
        small = ListEncoderOptions(width=8, embedding_width=3, max_history=3)
        judging = small.model_copy(update={"positions": False})
        config = EGLRConfig(
            lists=small,
            generator=GeneratorOptions(kind=cls.generator, width=8, encoder_width=8, heads=2, pointer_width=4),
            reasoning=ReasoningOptions(max_steps=2, threshold=0.9),
            evaluator=EvaluatorOptions(lists=judging, width=8, heads=2, length=6),
        )
        model = EGLR.create(config, lists, device="cpu")
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in model.writer.parameters():
                parameter.add_(0.4 * torch.randn_like(parameter))
        return model

    def test_it_thinks_at_some_places(self, stage):
        steps_BK = self.answer(stage).latent.steps_BK
        assert 0 < (steps_BK > 0).sum() < steps_BK.size


class TestEGLRByTransformer(TestEGLR):
    generator = "transformer"


class TestEGLRByMLP(TestEGLR):
    generator = "mlp"


class TestEGLRByPrefixSum(TestEGLR):
    generator = "prefix_sum"

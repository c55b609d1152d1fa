"""R2Rank, with thoughts and without, and a list prompt keep the contract of rankers."""

import numpy as np
import torch

from thinkrank.language import load_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.options import GenerationOptions, LoraOptions
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.rank import ListPrompt, R2Rank, R2RankConfig
from thinkrank.testing import RankerContract, SavedContract

PROMPT = PairPromptOptions(noun="thing", item_fields=("title",))
CONFIG = R2RankConfig(
    backbone="tiny",
    dtype="float32",
    lora=LoraOptions(rank=4, alpha=8),
    prompt=PROMPT,
    thought=GenerationOptions(max_new_tokens=5),
)


class TestR2Rank(RankerContract, SavedContract):
    thinks = False

    @classmethod
    def fit(cls, dataset):
        """Untrained, with an adapter and a head that have an effect."""
        model = R2Rank.create(CONFIG.model_copy(update={"thinks": cls.thinks}), dataset.catalogue)
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in [*adapter_state(model.backbone).values(), *model.head.parameters()]:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=random))
        return model


class TestR2RankThatThinks(TestR2Rank):
    thinks = True

    def test_a_reason_stands_beside_each_answered_item(self, stage):
        assert self.answer(stage).reasons is not None


class TestListPrompt(RankerContract):
    @classmethod
    def fit(cls, dataset):
        return ListPrompt(load_backbone("tiny", texts=dataset.catalogue.titles), dataset.catalogue, PROMPT)

    def test_the_order_of_candidates_changes_nothing_but_columns(self, stage):
        """It does: a language model that is shown a list looks at the places. That is what this ranker is here for."""
        rows = [[3, 7, 10, 0]]
        straight, turned = stage.rank([[1]], rows), stage.rank([[1]], [rows[0][::-1]])
        one, other = (dict(zip(r.items_BK[0], r.scores_BK[0], strict=True)) for r in (straight, turned))
        assert np.abs([one[item] - other[item] for item in rows[0]]).max() > 1e-3

"""What the relay world's small language model reads: histories, each followed by chains of look-ups."""

from collections.abc import Sequence

import numpy as np

from thinkrank.data import Catalogue, History
from thinkrank.language import Backbone, encode_text
from thinkrank.prompts.options import PromptOptions
from thinkrank.prompts.retrieval import Prompts
from thinkrank.teachers.history_rules import RuleWriter

CHAINS = 7


class Chains:
    """Texts of a history and some chains as `RuleWriter` writes them, a line each."""

    def __init__(
        self, backbone: Backbone, catalogue: Catalogue, histories: Sequence[History], prompt: PromptOptions
    ) -> None:
        self._tokenizer, self._histories = backbone.tokenizer, histories
        self._writer = RuleWriter(catalogue, forms=("links",))
        self._prompts = Prompts(backbone, catalogue, prompt)

    def __call__(self, random: np.random.Generator, count: int) -> list[tuple[list[int], int]]:
        """Draw texts, as token ids, and from where on their tokens are worth learning."""
        chosen = [self._histories[i] for i in random.integers(len(self._histories), size=count)]
        return [(self._text(history, random), 0) for history in chosen]

    def _text(self, history: History, random: np.random.Generator) -> list[int]:
        ids = list(self._prompts.user(history).prompt.ids)
        for _ in range(CHAINS):
            ids += encode_text(self._tokenizer, self._writer.write(history, random) + "\n")
        return ids

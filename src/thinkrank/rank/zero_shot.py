"""Asking an untrained model for a whole list at once: the baseline whose answer depends on the order it is asked in.

Shape legend: B users (histories), N candidates of the longest list.
"""

from collections.abc import Sequence
from string import ascii_uppercase

import numpy as np
import torch
from jaxtyping import Float32, Int32

from thinkrank.data import Catalogue, History
from thinkrank.errors import ThinkrankError
from thinkrank.language import Backbone, Packing, PrefixTree, packed_states
from thinkrank.language.logprobs import logits
from thinkrank.prompts.history import HistoryTexts
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.stages.checks import check_candidates, check_histories


class ListPrompt:
    """Shows all candidates as an enumeration with letters, and scores each by the logit of its letter.

    Our selection: the paper's motivation is the position bias of such prompts, but its wording is not public.

    Args:
        backbone: the model that is asked, as it is.
        catalogue: the items.
        options: how histories and candidates are shown.
    """

    def __init__(self, backbone: Backbone, catalogue: Catalogue, options: PairPromptOptions) -> None:
        self.backbone, self.catalogue, self.options = backbone, catalogue, options
        self._texts = HistoryTexts(backbone, catalogue, options)
        self._letters = [self._texts.words(f"\n{letter}") for letter in ascii_uppercase]
        self._ask = self._texts.words("\nWhich one will this person choose next? Answer with its letter.")
        self._answer = self._texts.words("Answer:")
        self._spelt = [self._texts.words(f" {letter}")[-1] for letter in ascii_uppercase]

    def prompt(self, history: History, rows: Sequence[int]) -> tuple[int, ...]:
        """The whole question, up to where the model would write the letter."""
        lines = self._texts.lines(history.last(self.options.history_window))
        ids = [*self._texts.frame.before, *self._texts.opening_ids, *(token for line in lines for token in line)]
        ids += self._texts.words("\nCandidates:")
        for letter, row in zip(self._letters, rows, strict=False):
            ids += [*letter, *self._texts.words(". "), *self._texts.item(row)]
        return (*ids, *self._ask, *self._texts.frame.after, *self._answer)

    @torch.no_grad()
    def candidate_scores(
        self, histories: Sequence[History], candidates_BN: Int32[np.ndarray, "B N"]
    ) -> Float32[np.ndarray, "B N"]:
        """Score each history's candidates, asked in the order given.

        Raises:
            ThinkrankError: for more candidates than there are letters.
        """
        check_histories(histories, len(self.catalogue))
        check_candidates(candidates_BN, len(self.catalogue))
        if candidates_BN.shape[1] > len(ascii_uppercase):
            raise ThinkrankError(
                f"a list prompt has letters for {len(ascii_uppercase)} candidates, not {candidates_BN.shape[1]}"
            )
        scores_BN = np.full(candidates_BN.shape, -np.inf, dtype=np.float32)
        for to, history, items in zip(scores_BN, histories, candidates_BN, strict=True):
            shown = items[items >= 0]
            packing = Packing(PrefixTree.rows([self.prompt(history, shown.tolist())]), self.backbone.device)
            at_V = logits(self.backbone, packed_states(self.backbone, packing)[-1:])[0]
            to[items >= 0] = at_V[self._spelt[: len(shown)]].cpu().numpy()
        return scores_BN

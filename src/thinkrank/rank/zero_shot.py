"""Asking an untrained model for a whole list at once: the baseline whose answer depends on the order it is asked in.

Shape legend: B requests, N candidates of the longest list, V vocabulary.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

import numpy as np
import torch

from thinkrank.data import Catalogue, History
from thinkrank.errors import ThinkrankError
from thinkrank.language import Backbone, Packing, PrefixTree, packed_states
from thinkrank.language.logprobs import logits
from thinkrank.prompts.history import HistoryTexts
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.stages.answers import Cost, Ranking
from thinkrank.stages.checks import checked_candidates, checked_requests
from thinkrank.stages.order import order_candidates


class ListPrompt:
    """Ranker that shows all candidates as an enumeration with letters, and scores each by the logit of its letter.

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
        spelt = [self._texts.words(f" {letter}")[-1] for letter in ascii_uppercase]
        self._spelt = torch.tensor(spelt, device=backbone.device)

    def prompt(self, history: History, rows: Sequence[int]) -> tuple[int, ...]:
        """Write the whole question, up to where the model would write the letter."""
        lines = self._texts.lines(history.last(self.options.history_window))
        ids = [*self._texts.frame.before, *self._texts.opening_ids, *(token for line in lines for token in line)]
        ids += self._texts.words("\nCandidates:")
        for letter, row in zip(self._letters, rows, strict=False):
            ids += [*letter, *self._texts.words(". "), *self._texts.item(row)]
        return (*ids, *self._ask, *self._texts.frame.after, *self._answer)

    @torch.no_grad()
    def rank(self, requests: Any, candidates: Any) -> Ranking:
        """Sort each request's candidates, shown in the order given; equal scores by catalogue row.

        Args:
            requests: see `Requests.of`.
            candidates: a list for each request; see `Candidates.of`.

        Raises:
            ThinkrankError: if there is not one list for each request, a list holds what is not in the catalogue, or
                there are more candidates than letters.
        """
        started = time.perf_counter()
        requests = checked_requests(requests, self.catalogue)
        candidates = checked_candidates(candidates, self.catalogue, len(requests))
        if (longest := int(candidates.lengths_B.max(initial=0))) > len(ascii_uppercase):
            raise ThinkrankError(f"a list prompt has letters for {len(ascii_uppercase)} candidates, not {longest}")
        scores_BN = np.full(candidates.items_BN.shape, -np.inf, dtype=np.float32)
        for scores_N, history, items_N in zip(scores_BN, requests.histories, candidates.items_BN, strict=True):
            shown = items_N[items_N >= 0]
            packing = Packing(PrefixTree.rows([self.prompt(history, shown.tolist())]), self.backbone.device)
            with self.backbone.exact():
                last_1D = packed_states(self.backbone, packing)[-1:]
            scores_N[items_N >= 0] = logits(self.backbone, last_1D, self._spelt[: len(shown)])[0].cpu().numpy()
        return replace(order_candidates(candidates, scores_BN, ties="row"), cost=Cost(time.perf_counter() - started))

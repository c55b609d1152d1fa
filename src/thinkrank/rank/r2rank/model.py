"""R2Rank: one thought and one score for each (user, item) pair; the list is the pairs sorted.

Confirmed by the paper's abstract and its readers: reasoning per pair, one scalar score from each, a scoring head beside
the language model (arXiv 2602.12530). Where the score is read, and the words of the prompt, are reconstructed.

Shape legend: B users (histories), N candidates of the longest list, R trajectories, T tokens of a packing, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from safetensors.torch import load_file
from torch import Tensor

from thinkrank.data import Catalogue, History
from thinkrank.language import (
    Backbone,
    Completion,
    GenerationOptions,
    PrefixCache,
    PrefixTree,
    TransformersEngine,
    add_lora,
    load_backbone,
    load_lora,
    packed_states,
    save_lora,
)
from thinkrank.language.logprobs import logits
from thinkrank.language.packing import PrefixKV, batches
from thinkrank.language.trajectories import Given, Trajectories, Written
from thinkrank.pretrained import finish, local_folder, reading, write_tensors
from thinkrank.prompts.pairs import PairPrompts
from thinkrank.rank.r2rank.card import model_card
from thinkrank.rank.r2rank.config import R2RankConfig
from thinkrank.rank.r2rank.head import ScoringHead
from thinkrank.stages.answers import Ranking
from thinkrank.stages.checks import check_candidates, check_histories
from thinkrank.stages.thoughts import thought_of

_Ids: TypeAlias = tuple[int, ...]

_PASS_TOKENS = 4096
"""Tokens read in one pass without gradient, whatever the number of candidates."""


@dataclass(frozen=True)
class PairAnswers:
    """Scores of some candidates, and what was thought about them.

    Attributes:
        scores_BN: in the order the candidates came in; -inf for padding.
        thoughts: per history, by catalogue row; None if none were written.
    """

    scores_BN: Float32[np.ndarray, "B N"]
    thoughts: list[dict[int, Completion]] | None


class R2Rank:
    """A ranker that can think about each candidate before it scores it.

    Use `create` for an untrained model and `from_pretrained` for a saved one.

    Args:
        config: what it is made of.
        backbone: the language model, adapter included.
        catalogue: the items.
        head: from states to scores.
    """

    def __init__(self, config: R2RankConfig, backbone: Backbone, catalogue: Catalogue, head: ScoringHead) -> None:
        self.config, self.backbone, self.catalogue, self.head = config, backbone, catalogue, head
        self.prompts = PairPrompts(backbone, catalogue, config.prompt, thinks=config.thinks)
        self.prefixes = PrefixCache(backbone, config.prefix_tokens)
        self._answers = [self.prompts.text(word)[0] for word in ("Yes", "No")]

    @classmethod
    def create(
        cls,
        config: R2RankConfig,
        catalogue: Catalogue,
        *,
        backbone: Backbone | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> "R2Rank":
        """Build an untrained model: the base language model with an adapter and a head that have no effect yet.

        Args:
            config: what to build.
            catalogue: the items.
            backbone: a model without adapter to use instead of loading `config.backbone`; it gets one in place.
            seed: of the initial weights.
            device: where to put a loaded one; see `load_backbone`.
        """
        base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=catalogue.titles)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = add_lora(base, config.lora)
            head = ScoringHead(base.hidden_size, config.head)
        return cls(config, adapted, catalogue, head.to(base.device))

    def sample(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        options: GenerationOptions | None = None,
        *,
        num_samples: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[list[Completion]]]:
        """Write thoughts about pairs; each user's prefix is read once.

        Args:
            histories: one per user.
            candidates: catalogue rows for each.
            options: how to write; the configuration's by default.
            num_samples: thoughts about each pair.
            seeds: one per user. Draws depend on it and on the item, not on the item's place among the candidates.

        Returns:
            per user and candidate, its thoughts.
        """
        seeds = range(len(histories)) if seeds is None else seeds
        per_leaf = [
            seed * len(self.catalogue) + row for seed, rows in zip(seeds, candidates, strict=True) for row in rows
        ]
        sampler = TransformersEngine(self.backbone, self.prefixes if self.config.prefix_tokens else None)
        written = iter(
            sampler.sample(
                PrefixTree.groups(self._groups(histories, candidates)),
                options or self.config.thought,
                num_samples=num_samples,
                stop=self.config.prompt.closing,
                suffix=self.prompts.closing_ids,
                seeds=per_leaf,
            )
        )
        return [[next(written) for _ in rows] for rows in candidates]

    def _groups(
        self, histories: Sequence[History], candidates: Sequence[Sequence[int]]
    ) -> list[tuple[_Ids, list[_Ids]]]:
        return [
            (self.prompts.prefix(history), [self.prompts.candidate(row) for row in rows])
            for history, rows in zip(histories, candidates, strict=True)
        ]

    def think(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        options: GenerationOptions | None = None,
    ) -> list[list[Completion]]:
        """Write one thought about each pair; see `sample`."""
        return [[thought for (thought,) in rows] for rows in self.sample(histories, candidates, options)]

    def episodes(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        written: Sequence[Sequence[Sequence[Written]]] | None = None,
        *,
        held: Mapping[int, PrefixKV] | None = None,
    ) -> Trajectories:
        """Pairs and what was written about them (or nothing), ready to be read in one pass.

        Args:
            histories: one per user.
            candidates: catalogue rows for each.
            written: per user and candidate, the thoughts.
            held: prefixes that were read before, by place among the nodes; see `Packing`.
        """
        prompts = PrefixTree.groups(self._groups(histories, candidates))
        per_pair: list[Sequence[Written]] = [[Given()] for rows in candidates for _ in rows]
        if written is not None:
            per_pair = [many for rows in written for many in rows]
        return Trajectories(prompts, per_pair, self.prompts.closing_ids, self.backbone.device, held=held)

    def read_scores(self, episodes: Trajectories, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, "R"]:
        """The score of each trajectory, differentiable.

        Args:
            episodes: the trajectories.
            states_TD: of their packing.
        """
        if self.config.readout == "yes_no":
            before = [tail[0] - 1 for tail in episodes.tails]  # the answer would stand where the closing begins
            chosen_R2 = logits(self.backbone, states_TD[before])[:, self._answers]
            return chosen_R2[:, 0] - chosen_R2[:, 1]
        if self.config.head.pool == "last":
            return self.head(states_TD[episodes.readouts])
        return self.head(torch.stack([states_TD[tail].mean(dim=0) for tail in episodes.tails]))

    @torch.no_grad()
    def scores_after(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        written: Sequence[Sequence[Written]] | None = None,
    ) -> list[Float[Tensor, "N"]]:
        """Score pairs after thoughts that are written already, or straight from the prompt, without gradient.

        Memory is bounded whatever the number of candidates: they are read in runs behind the kept prefix.
        """
        scores = []
        for user, (history, rows) in enumerate(zip(histories, candidates, strict=True)):
            (kept,) = self.prefixes.read([self.prompts.prefix(history)])
            own: list[list[Written]] = [[Given() if written is None else written[user][n]] for n in range(len(rows))]
            lengths = [len(self.prompts.candidate(row)) + len(one.ids) for row, (one,) in zip(rows, own, strict=True)]
            parts = [torch.empty(0, device=self.backbone.device)]
            for run in batches(lengths, _PASS_TOKENS):
                episodes = self.episodes([history], [rows[run]], [own[run]], held={0: kept})
                parts.append(self.read_scores(episodes, packed_states(self.backbone, episodes.packing)))
            scores.append(torch.cat(parts))
        return scores

    def candidate_scores(
        self, histories: Sequence[History], candidates_BN: Int32[np.ndarray, "B N"]
    ) -> Float32[np.ndarray, "B N"]:
        """Score each history's candidates, thinking about each first if the configuration says so.

        Args:
            histories: an empty one is answered from the candidates alone.
            candidates_BN: catalogue rows, -1 pads; the order changes no score.

        Returns:
            scores of any unit, comparable within one history; -inf for padding.
        """
        return self.answer(histories, candidates_BN).scores_BN

    def rank(self, histories: Sequence[History], candidates_BN: Int32[np.ndarray, "B N"]) -> Ranking:
        """Sort each history's candidates, best first; equal scores by catalogue row. The answer carries the thoughts.

        Args:
            histories: as for `candidate_scores`.
            candidates_BN: as for `candidate_scores`.
        """
        answer = self.answer(histories, candidates_BN)
        order_BN = np.lexsort((candidates_BN, -answer.scores_BN))
        items_BN = np.take_along_axis(candidates_BN, order_BN, axis=1)
        reasons = None
        if answer.thoughts is not None:
            reasons = tuple(
                tuple(thought_of(own[row]) for row in items if row >= 0)
                for items, own in zip(items_BN.tolist(), answer.thoughts, strict=True)
            )
        return Ranking(items_BN, np.take_along_axis(answer.scores_BN, order_BN, axis=1), reasons=reasons)

    def answer(self, histories: Sequence[History], candidates_BN: Int32[np.ndarray, "B N"]) -> PairAnswers:
        """Score candidates and tell what was thought about each; see `candidate_scores`.

        Candidates are taken in the order of the catalogue, so that even rounding does not depend on how they came.
        """
        check_histories(histories, len(self.catalogue))
        check_candidates(candidates_BN, len(self.catalogue))
        rows = [sorted(row for row in own if row >= 0) for own in candidates_BN.tolist()]
        thoughts = self.think(histories, rows) if self.config.thinks else None
        if thoughts is not None and self.config.head.pool == "last":  # who wrote is who reads: it has read the closing
            with torch.no_grad():
                scores = [
                    self.head(torch.stack([thought.last_state for thought in own])) if own else torch.empty(0)
                    for own in thoughts
                ]
        else:
            scores = self.scores_after(histories, rows, thoughts)
        scores_BN = np.full(candidates_BN.shape, -np.inf, dtype=np.float32)
        for to, items, own_rows, own in zip(scores_BN, candidates_BN, rows, scores, strict=True):
            to[items >= 0] = own.float().cpu().numpy()[np.searchsorted(own_rows, items[items >= 0])]
        if thoughts is None:
            return PairAnswers(scores_BN, None)
        return PairAnswers(scores_BN, [dict(zip(*own, strict=True)) for own in zip(rows, thoughts, strict=True)])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, adapter, head, catalogue and model card; the base weights are named, not copied."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_lora(self.backbone, folder)
        write_tensors(folder / "head.safetensors", self.head.state_dict())
        self.catalogue.save(folder / "catalogue.parquet")
        finish(folder, self.config, model_card(self.config, len(self.catalogue)))

    @classmethod
    def from_pretrained(cls, where: str | Path, *, backbone: Backbone | None = None, device: str = "auto") -> "R2Rank":
        """Load what `save_pretrained` wrote.

        Args:
            where: a folder, or a hub id `owner/name`.
            backbone: the base model without adapter, to use instead of loading the one the config names.
            device: where to put a loaded one; see `load_backbone`.

        Raises:
            ThinkrankError: if the folder is not a saved model or its files do not fit together.
        """
        folder = local_folder(where)
        with reading(folder):
            config = R2RankConfig.model_validate_json((folder / "config.json").read_bytes())
            catalogue = Catalogue.load(folder / "catalogue.parquet")
            base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=catalogue.titles)
            head = ScoringHead(base.hidden_size, config.head)
            head.load_state_dict(load_file(folder / "head.safetensors"))
            adapted = load_lora(base, folder, config.lora)
        return cls(config, adapted, catalogue, head.to(base.device))

"""R2Rank: one thought and one score for each (user, item) pair; the list is the pairs sorted.

Confirmed by the paper's abstract and its readers: reasoning per pair, one scalar score from each, a scoring head beside
the language model (arXiv 2602.12530). Where the score is read, and the words of the prompt, are reconstructed.

Shape legend: B requests, N candidates of the longest list, R trajectories, S the end of an answer and latent positions
behind it, T tokens of a packing, D width, C numbers the head is given.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from safetensors.torch import load_file
from torch import Tensor

from thinkrank.data import Catalogue, History
from thinkrank.errors import ThinkrankError
from thinkrank.evidence import Crowd, PairLines
from thinkrank.evidence.crowd import CROWD_FILE
from thinkrank.language import (
    Backbone,
    Completion,
    Engine,
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
from thinkrank.language.latent import LatentPositions, answered, behind_places, latent_positions
from thinkrank.language.logprobs import logits
from thinkrank.language.lower import LowerStates
from thinkrank.language.packing import PrefixKV, batches
from thinkrank.language.replacing import Replacing
from thinkrank.language.trajectories import Given, Trajectories, Written
from thinkrank.pretrained import CATALOGUE_FILE, begin, finish, local_folder, read_config, reading, write_tensors
from thinkrank.prompts.pairs import PairPrompts
from thinkrank.rank.r2rank.card import model_card
from thinkrank.rank.r2rank.config import R2RankConfig
from thinkrank.rank.r2rank.head import ScoringHead
from thinkrank.stages.answers import Cost, Ranking
from thinkrank.stages.checks import checked_candidates, checked_requests
from thinkrank.stages.order import order_candidates
from thinkrank.stages.thoughts import thought_of

_LATENT = "latent/"

_Ids: TypeAlias = tuple[int, ...]

_PASS_TOKENS = 4096
"""Tokens read in one pass without gradient, whatever the number of candidates."""


@dataclass(frozen=True)
class PairAnswers:
    """Hold scores of some candidates, and what was thought about them.

    Attributes:
        scores_BN: in the order in which candidates were given; -inf for padding.
        thoughts: per history, by catalogue row; None if none were written.
        further: tokens of thoughts that are in the scores and not among these.
    """

    scores_BN: Float32[np.ndarray, "B N"]
    thoughts: list[dict[int, Completion]] | None
    further: int = 0


class R2Rank:
    """Ranker that can think about each candidate before it scores it.

    Use `create` for an untrained model and `from_pretrained` for a saved one. Threads may ask one model at once.

    Args:
        config: what it is made of.
        backbone: the language model, adapter included.
        catalogue: the items.
        head: from states to scores.
        engine: writes the thoughts with the same backbone; None for the model itself, as transformers runs it.
        crowd: what training users did, for prompts that tell of it. Whoever asks for an answer is not left out of it:
            counts of people who chose an item of his may hold himself.
        latents: what stands behind the end of an answer, if the configuration says so.
        lower: keeps what the layers below the adapter made of pairs without thoughts, for models that share it.

    Attributes:
        instead: takes the place of every thought, as a control.

    Raises:
        ThinkrankError: if the prompt is to tell what the crowd did, and there is none.
    """

    kind: ClassVar[str] = "r2rank"

    def __init__(
        self,
        config: R2RankConfig,
        backbone: Backbone,
        catalogue: Catalogue,
        head: ScoringHead,
        engine: Engine | None = None,
        crowd: Crowd | None = None,
        latents: LatentPositions | None = None,
        lower: LowerStates | None = None,
    ) -> None:
        self.config, self.backbone, self.catalogue, self.head = config, backbone, catalogue, head
        self.latents, self.lower = latents, lower
        if config.prompt.evidence and crowd is None:
            raise ThinkrankError("the prompt tells what the crowd did: give R2Rank.create a crowd, Crowd.of(split)")
        self.crowd = crowd if config.prompt.evidence else None
        lines = None if self.crowd is None else PairLines(self.crowd, catalogue)
        self.prompts = PairPrompts(backbone, catalogue, config.prompt, thinks=config.thinks, evidence=lines)
        self.prefixes = PrefixCache(backbone, config.prefix_tokens)
        self.instead: Replacing | None = None
        self.engine = engine or TransformersEngine(backbone, self.prefixes if config.prefix_tokens else None)
        self._answers = torch.tensor([self.prompts.text(word)[0] for word in ("Yes", "No")], device=backbone.device)

    @classmethod
    def create(
        cls,
        config: R2RankConfig,
        catalogue: Catalogue,
        *,
        backbone: Backbone | None = None,
        engine: Engine | None = None,
        crowd: Crowd | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> "R2Rank":
        """Build an untrained model: the base language model with an adapter and a head that have no effect yet.

        Args:
            config: what to build.
            catalogue: the items.
            backbone: a model without adapter to use instead of loading `config.backbone`; it gets one in place.
            engine: that writes the thoughts, with this backbone; None for the transformers engine.
            crowd: what training users did, where the prompt tells of it.
            seed: of the initial weights.
            device: where to put a loaded one; see `load_backbone`.
        """
        base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=catalogue.titles)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = add_lora(base, config.lora)
            head = ScoringHead(base.hidden_size, config.head, config.latent.steps)
        latents = latent_positions(adapted, config.latent, rank=config.lora.rank, seed=seed)
        return cls(config, adapted, catalogue, head.to(base.device), engine, crowd, latents)

    def sample(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        options: GenerationOptions | None = None,
        *,
        num_samples: int = 1,
        seeds: Sequence[int] | None = None,
        users: Sequence[int] | None = None,
    ) -> list[list[list[Completion]]]:
        """Write thoughts about pairs; each user's prefix is read once.

        Args:
            histories: one per user.
            candidates: catalogue rows for each.
            options: how to write; the configuration's by default.
            num_samples: thoughts about each pair.
            seeds: one per user. Draws depend on it and on the item, not on the item's place among the candidates. By
                default they depend on what is read of the pair, and not on whom else is asked about.
            users: training users who ask, by number; see `PairPrompts.candidates`. None for nobody in training.

        Returns:
            per user and candidate, its thoughts.
        """
        per_leaf = None
        if seeds is not None:
            per_user = zip(seeds, candidates, strict=True)
            per_leaf = [seed * len(self.catalogue) + row for seed, rows in per_user for row in rows]
        asked = [number for number, rows in enumerate(candidates) if len(rows)]  # others would be a leaf of their own
        if not asked:
            return [[] for _ in candidates]
        histories = [histories[number] for number in asked]
        users = None if users is None else [users[number] for number in asked]
        written = self.engine.sample(
            PrefixTree.groups(self._groups(histories, [candidates[number] for number in asked], users)),
            options or self.config.thought,
            num_samples=num_samples,
            stop=self.config.prompt.closing,
            suffix=self.prompts.closing_ids,
            seeds=per_leaf,
        )
        found = iter(written if self.instead is None else self.instead(written))
        return [[next(found) for _ in rows] for rows in candidates]

    def _groups(
        self, histories: Sequence[History], candidates: Sequence[Sequence[int]], users: Sequence[int] | None
    ) -> list[tuple[_Ids, list[_Ids]]]:
        asking = [None] * len(histories) if users is None else users
        return [
            (self.prompts.prefix(history), self.prompts.candidates(history, rows, user=user))
            for history, rows, user in zip(histories, candidates, asking, strict=True)
        ]

    def think(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        options: GenerationOptions | None = None,
    ) -> list[list[Completion]]:
        """Write one thought about each pair; see `sample`."""
        return [[thought for (thought,) in rows] for rows in self.sample(histories, candidates, options)]

    def trajectories(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        written: Sequence[Sequence[Sequence[Written]]] | None = None,
        *,
        held: Mapping[int, PrefixKV] | None = None,
        users: Sequence[int] | None = None,
    ) -> Trajectories:
        """Join pairs and what was written about them (or nothing), ready to be read in one pass.

        Args:
            histories: one per user.
            candidates: catalogue rows for each.
            written: per user and candidate, the thoughts.
            held: prefixes that were read before, by place among the nodes; see `Packing`.
            users: as in `sample`.
        """
        prompts = PrefixTree.groups(self._groups(histories, candidates, users))
        per_pair: list[Sequence[Written]] = [[Given()] for rows in candidates for _ in rows]
        if written is not None:
            per_pair = [many for rows in written for many in rows]
        records, device = self.latents is not None, self.backbone.device
        return Trajectories(prompts, per_pair, self.prompts.closing_ids, device, held=held, records=records)

    def read_scores(self, trajectories: Trajectories, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, "R"]:
        """Read the score of each trajectory, differentiably, from the states of its packing."""
        if self.config.readout == "yes_no":
            chosen_R2 = logits(self.backbone, states_TD[trajectories.prompt_ends], self._answers)
            return chosen_R2[:, 0] - chosen_R2[:, 1]
        return answered(self.step_scores(trajectories, states_TD), self.config.latent.answer)

    def step_scores(self, trajectories: Trajectories, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, "R S"]:
        """Read the head's score of each trajectory where it ends and at each latent position; see `read_scores`."""
        scores_RS: Tensor = self.head(self.read_states(trajectories, states_TD, pool=self.config.head.pool))
        return scores_RS

    def read_states(
        self, trajectories: Trajectories, states_TD: Float[Tensor, "T D"], *, pool: Literal["last", "mean"] = "last"
    ) -> Float[Tensor, "R S C"]:
        """Read what the head is given: states where each answer ends and at the latent positions behind it.

        With `head.reads = "both"` the state at the prompt's end stands before each.

        Args:
            trajectories: pairs and what was written about them.
            states_TD: of their packing.
            pool: see `ScoringHeadOptions`.
        """
        ends_RSD = states_TD[trajectories.readouts][:, None]
        if self.latents is not None:
            places_R = torch.tensor(trajectories.readouts, device=states_TD.device)
            ends_RSD = behind_places(self.backbone, trajectories.packing, ends_RSD[:, 0], places_R, self.latents)
        if pool == "mean":
            means_RD = torch.stack([states_TD[tail].mean(dim=0) for tail in trajectories.tails])
            ends_RSD = torch.cat([means_RD[:, None], ends_RSD[:, 1:]], dim=1)
        if self.config.head.reads == "answer":
            return ends_RSD
        prompts_RD = states_TD[trajectories.prompt_ends]
        return torch.cat([prompts_RD[:, None].expand_as(ends_RSD), ends_RSD], dim=-1)

    @torch.no_grad()
    def scores_after(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        written: Sequence[Sequence[Written]] | None = None,
    ) -> list[Float[Tensor, "_"]]:
        """Score pairs after thoughts that are written already, or straight from the prompt, without gradient.

        Every answer and every figure comes from here, read in fp32: bf16 states depend on what was read beside them.
        The rewards and updates of trainings read in the weights' own format, which takes half the time. Memory is
        bounded whatever the number of candidates: they are read in runs behind the kept prefix.
        """
        with self.backbone.exact():
            return [
                self._scores_of_one(history, rows, [Given() for _ in rows] if written is None else written[user])
                for user, (history, rows) in enumerate(zip(histories, candidates, strict=True))
            ]

    @torch.no_grad()
    def _scores_of_one(self, history: History, rows: Sequence[int], thoughts: Sequence[Written]) -> Float[Tensor, "_"]:
        lower = None if self.latents is not None or any(one.ids for one in thoughts) else self.lower
        held = {0: self.prefixes.read([self.prompts.prefix(history)])[0]} if lower is None else None
        read = packed_states if lower is None else lower.packed_states
        shown = self.prompts.candidates(history, rows)
        lengths = [len(ids) + len(one.ids) for ids, one in zip(shown, thoughts, strict=True)]
        parts = [torch.empty(0, device=self.backbone.device)]
        for run in batches(lengths, _PASS_TOKENS):
            pairs = self.trajectories([history], [rows[run]], [[[one] for one in thoughts[run]]], held=held)
            parts.append(self.read_scores(pairs, read(self.backbone, pairs.packing)))
        return torch.cat(parts)

    def rank(
        self,
        requests: Any,
        candidates: Any,
        *,
        think: bool | None = None,
        samples: int = 1,
        thought_options: GenerationOptions | None = None,
    ) -> Ranking:
        """Sort each request's candidates, best first; equal scores by catalogue row.

        If the configuration says so, each pair is thought about first, and the answer carries the thoughts as reasons.
        An empty history is answered from the candidates alone; the order of candidates changes no score.

        Args:
            requests: see `Requests.of`.
            candidates: a list for each request; see `Candidates.of`.
            think: whether pairs are thought about; None for what the configuration says.
            samples: thoughts about each pair, all sampled, of which the mean of the scores is taken; the first is the
                reason. A pair's thoughts know of no other pair, so there is no list whose probabilities could be mixed.
            thought_options: how to write; the configuration's by default.

        Returns:
            scores of any unit, comparable within one request.

        Raises:
            ThinkrankError: if there is not one list for each request, or a list holds what is not in the catalogue.
        """
        started = time.perf_counter()
        requests = checked_requests(requests, self.catalogue)
        candidates = checked_candidates(candidates, self.catalogue, len(requests))
        answers = self.answer(requests.histories, candidates.items_BN, thought_options, think=think, samples=samples)
        ranking, reasons, tokens = order_candidates(candidates, answers.scores_BN, ties="row"), None, answers.further
        if answers.thoughts is not None:
            reasons = tuple(
                tuple(thought_of(by_row[row]) for row in items if row >= 0)
                for items, by_row in zip(ranking.items_BK.tolist(), answers.thoughts, strict=True)
            )
            tokens += sum(len(thought.token_ids) for many in reasons for thought in many)
        return replace(ranking, reasons=reasons, cost=Cost(time.perf_counter() - started, tokens))

    def answer(
        self,
        histories: Sequence[History],
        candidates_BN: Int32[np.ndarray, "B N"],
        thought_options: GenerationOptions | None = None,
        *,
        think: bool | None = None,
        samples: int = 1,
    ) -> PairAnswers:
        """Score candidates and tell what was thought about each, without checking them; see `rank`.

        Candidates are taken in the order of the catalogue, so that even rounding does not depend on how they came.
        """
        rows = [sorted(row for row in items if row >= 0) for items in candidates_BN.tolist()]
        thoughts, further = None, 0
        if think and self.config.readout == "yes_no":
            raise ThinkrankError("a model with readout = yes_no reads its answer before any thought: leave think out")
        if self.config.thinks if think is None else think:
            options = (thought_options or self.config.thought).for_samples(samples)
            written = self.sample(histories, rows, options, num_samples=samples)
            thoughts, *others = ([[many[n] for many in pairs] for pairs in written] for n in range(samples))
            scored = [self._scores_after_thoughts(histories, rows, one) for one in (thoughts, *others)]
            scores = [torch.stack(same).mean(dim=0) for same in zip(*scored, strict=True)]
            further = sum(len(thought.ids) for one in others for pairs in one for thought in pairs)
        else:
            scores = self.scores_after(histories, rows)
        scores_BN = np.full(candidates_BN.shape, -np.inf, dtype=np.float32)
        for to, items, sorted_rows, scores_N in zip(scores_BN, candidates_BN, rows, scores, strict=True):
            to[items >= 0] = scores_N.float().cpu().numpy()[np.searchsorted(sorted_rows, items[items >= 0])]
        if thoughts is None:
            return PairAnswers(scores_BN, None)
        by_row = [dict(zip(*pairs, strict=True)) for pairs in zip(rows, thoughts, strict=True)]
        return PairAnswers(scores_BN, by_row, further)

    def _scores_after_thoughts(
        self,
        histories: Sequence[History],
        candidates: Sequence[Sequence[int]],
        thoughts: Sequence[Sequence[Completion]],
    ) -> list[Float[Tensor, "_"]]:
        """Score pairs after one thought about each, from the engine's own states where they may stand for ours."""
        scores = self._scores_of_states(thoughts)
        return self.scores_after(histories, candidates, thoughts) if scores is None else scores

    @torch.no_grad()
    def _scores_of_states(self, thoughts: Sequence[Sequence[Completion]]) -> list[Float[Tensor, "_"]] | None:
        """Score from the states in which the engine read the closings; None where they have to be read anew."""
        head = self.config.head
        if self.backbone.dtype != torch.float32 or head.pool != "last" or head.reads != "answer" or self.latents:
            return None
        scores = []
        for completions in thoughts:
            states = [thought.last_state for thought in completions if thought.last_state is not None]
            if len(states) < len(completions):
                return None
            scores.append(self.head(torch.stack(states)[:, None])[:, 0] if states else torch.empty(0))
        return scores

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, adapter, head, catalogue and model card; the base weights are named, not copied.

        A model whose prompt tells what the crowd did takes along who chose what, by number: see `Crowd.save`.
        """
        folder = begin(folder, CROWD_FILE)
        save_lora(self.backbone, folder)
        latents = {} if self.latents is None else self.latents.state_dict(prefix=_LATENT)
        write_tensors(folder / "head.safetensors", {**self.head.state_dict(), **latents})
        self.catalogue.save(folder / CATALOGUE_FILE)
        if self.crowd is not None:
            self.crowd.save(folder)
        finish(folder, self.kind, self.config, model_card(self.config, len(self.catalogue)))

    @classmethod
    def from_pretrained(
        cls,
        where: str | Path,
        *,
        backbone: Backbone | None = None,
        engine: Engine | None = None,
        device: str = "auto",
    ) -> "R2Rank":
        """Load what `save_pretrained` wrote.

        Args:
            where: the folder, or a hub id such as `owner/name`.
            backbone: the base model without adapter, to use instead of loading the one the config names.
            engine: that writes the thoughts, with this backbone; None for the transformers engine. One that must know
                the adapter when it starts, such as vLLM's, is set afterwards as `model.engine`.
            device: where to put a loaded one; see `load_backbone`.

        Raises:
            ThinkrankError: if the folder is not a saved R2Rank or its files do not fit together.
        """
        folder = local_folder(where)
        config = read_config(folder, cls.kind, R2RankConfig)
        with reading(folder):
            catalogue = Catalogue.load(folder / CATALOGUE_FILE)
            base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=catalogue.titles)
            head = ScoringHead(base.hidden_size, config.head, config.latent.steps)
            tensors = load_file(folder / "head.safetensors")
            latent = {n.removeprefix(_LATENT): tensors.pop(n) for n in [*tensors] if n.startswith(_LATENT)}
            head.load_state_dict(tensors)
            adapted = load_lora(base, folder, config.lora)
            latents = latent_positions(adapted, config.latent, rank=config.lora.rank)
            if latents is not None:
                latents.load_state_dict(latent)
            crowd = Crowd.load(folder) if config.prompt.evidence else None
        return cls(config, adapted, catalogue, head.to(base.device), engine, crowd, latents)

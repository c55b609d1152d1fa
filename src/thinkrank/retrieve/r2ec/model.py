"""R²ec: one language model, two heads.

Kept from the paper (arXiv 2505.16994, section 3.1): the same model reads users and items, both vectors are the hidden
state at the last token of the same closing, scores are normalised dot products over a temperature, the whole catalogue
is ranked. Changed or added in our own preset, each a switch: see `thinkrank.retrieve.r2ec.config`.

Shape legend: B requests, I items of the catalogue, N some items, D width.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float32, Int64, Integer
from torch import Tensor

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.requests import Requests
from thinkrank.evidence.crowd import Crowd
from thinkrank.language import (
    Backbone,
    Completion,
    Engine,
    GenerationOptions,
    PrefixTree,
    Prompt,
    TransformersEngine,
    add_lora,
    load_backbone,
)
from thinkrank.language.engines.base import BASE, TRAINED
from thinkrank.language.latent import LatentPositions, answered, latent_positions
from thinkrank.language.reading import read_behind, read_growing, read_steps
from thinkrank.language.replacing import Replacing
from thinkrank.pretrained import local_folder, read_config
from thinkrank.prompts.retrieval import Prompts
from thinkrank.retrieve.item_table import ItemTable
from thinkrank.retrieve.r2ec.config import R2ecConfig
from thinkrank.retrieve.r2ec.crowd import CrowdThoughts
from thinkrank.retrieve.r2ec.head import RetrievalHead
from thinkrank.retrieve.r2ec.item_texts import ItemTexts, with_item_tokens
from thinkrank.retrieve.r2ec.mixture import Mixture
from thinkrank.retrieve.r2ec.reading import Reading
from thinkrank.retrieve.r2ec.saving import load_parts, save_parts
from thinkrank.retrieve.r2ec.unit_vectors import UnitVectors
from thinkrank.retrieve.r2ec.writing import WriterNames, thoughts_about
from thinkrank.stages.answers import Ranking
from thinkrank.stages.checks import checked_candidates, checked_requests
from thinkrank.stages.order import order_candidates
from thinkrank.training.progress import Progress, no_progress


class R2ec:
    """Retriever that can think before it answers.

    `create` makes an untrained one, `from_pretrained` loads a saved one. Threads may ask one model at once.

    Args:
        config: what it is made of.
        backbone: the language model, adapter included.
        catalogue: the items it ranks.
        head: from states to scores.
        states: text state of each item; None encodes the catalogue now.
        engine: writes the thoughts with the same backbone; None for the model itself, as transformers runs it.
        texts: of the items, if some are read.
        latents: what stands behind the newest item, if the configuration says so.

    Attributes:
        writer: the adapter's weights that write thoughts if `config.thinker` is "frozen" or "apart"; the present ones
            if empty.
        crowd: what `config.thinker` = "crowd" tells of.
        told: who tells it, made when first asked.
        instead: takes the place of every thought, as a control.
        asking: what thoughts are written behind; `prompts`, unless `config.writer_prompt` says otherwise.
    """

    kind: ClassVar[str] = "r2ec"

    def __init__(
        self,
        config: R2ecConfig,
        backbone: Backbone,
        catalogue: Catalogue,
        head: RetrievalHead,
        states: ItemTable | None = None,
        engine: Engine | None = None,
        texts: ItemTexts | None = None,
        latents: LatentPositions | None = None,
    ) -> None:
        self.config, self.backbone, self.catalogue, self.head = config, backbone, catalogue, head
        self.latents = latents
        self._render(catalogue)
        self._texts = texts or ItemTexts(backbone, self.prompts)
        self.states = ItemTable(self.encode_items(range(len(catalogue)))) if states is None else states
        self.engine: Engine = engine or TransformersEngine(backbone)
        self.writer: Mapping[str, Tensor] = {}
        self.crowd: Crowd | None = None
        self.told: CrowdThoughts | None = None
        self.instead: Replacing | None = None
        self._first_items = len(catalogue)  # the backbone "tiny" is made from the titles that were there first
        self._names = WriterNames()
        self._vectors = UnitVectors(config.search)

    @classmethod
    def create(
        cls,
        config: R2ecConfig,
        catalogue: Catalogue,
        *,
        backbone: Backbone | None = None,
        engine: Engine | None = None,
        seed: int = 0,
        device: str = "auto",
        progress: Progress = no_progress,
    ) -> "R2ec":
        """Build an untrained model: the base language model with an adapter that has no effect yet.

        Args:
            config: what to build.
            catalogue: the items to rank.
            backbone: a model without adapter to use instead of loading `config.backbone`; it gets one in place.
            engine: that writes the thoughts, with this backbone; None for the transformers engine.
            seed: of the adapter's initial weights.
            device: where to put a loaded one; see `load_backbone`.
            progress: shows the reading of item texts where items are tokens.
        """
        base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=catalogue.titles)
        config = config.for_layers(int(base.model.config.num_hidden_layers))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = add_lora(base, config.lora)
        head = RetrievalHead(len(catalogue), base.hidden_size, config.head, config.latent.steps).to(base.device)
        texts = None
        if config.reading == "late":
            prompts = Prompts(adapted, catalogue, config.prompt)
            adapted, texts = with_item_tokens(adapted, prompts, config.lora, progress=progress)
        latents = latent_positions(adapted, config.latent, rank=config.lora.rank, seed=seed)
        return cls(config, adapted, catalogue, head, engine=engine, texts=texts, latents=latents)

    def encode_items(self, rows: Sequence[int], *, fast: bool = False) -> Float[Tensor, "N D"]:
        """Read the texts of some catalogue rows under the present weights, without gradient; see `user_states`."""
        return self._texts.read(rows, fast=fast)

    def refresh_table(self, *, step: int = 0) -> None:
        """Encode the whole catalogue anew; needed after the weights changed.

        Args:
            step: by which the age of rows is counted.
        """
        rows = range(len(self.catalogue))
        self.states.write(torch.tensor(rows), self.encode_items(rows), step=step)

    @property
    def vectors(self) -> ItemTable:
        """Return unit vectors of all items, with biases and temperature, under the present weights and states."""
        return self._vectors.of(self.states, self.head)

    def add_items(self, items: pl.DataFrame | Catalogue) -> range:
        """Add items to the catalogue without training: they are scored by their texts, without bias or residual.

        Args:
            items: rows of a catalogue; columns that one side lacks are empty there.

        Returns:
            their catalogue rows.

        Raises:
            ThinkrankError: if they are no rows of a catalogue, or an id is taken, be it by a withdrawn item.
        """
        catalogue = self.catalogue.extended(items)
        prompts = Prompts(self.backbone, catalogue, self.config.prompt)
        texts, rows = ItemTexts(self.backbone, prompts), range(len(self.catalogue), len(catalogue))
        self.states.add(texts.read(rows))
        self.head.grow(len(rows))
        if self.backbone.items is not None:
            self.backbone.items.grow(texts.boundary(rows))
        self.catalogue, self._texts = catalogue, texts
        self._render(catalogue)
        return rows

    def _render(self, catalogue: Catalogue) -> None:
        """Make the prompts that are read, and those that thoughts are written behind."""
        config = self.config
        is_asked = config.thinker != "crowd"  # what a tool counts stands right behind the newest item
        self.prompts = self.asking = Prompts(self.backbone, catalogue, config.prompt, asks=is_asked)
        if config.writer_prompt is not None:
            self.asking = Prompts(self.backbone, catalogue, config.writer_prompt)

    def reconfigure(self, config: R2ecConfig) -> None:
        """Go on with other settings of who writes thoughts and how; those of weights must stay as they are."""
        self.config = config
        self._render(self.catalogue)

    def withdraw_items(self, ids: Sequence[str]) -> None:
        """Answer with these items no more. Histories may still hold them, and their ids stay taken.

        Raises:
            ThinkrankError: if an id is unknown.
        """
        self.states.withdraw(torch.tensor([self.catalogue.row(item) for item in ids], dtype=torch.long))

    def think(self, requests: Any, options: GenerationOptions | None = None) -> list[Completion]:
        """Write a thought about each request, by whom `config.thinker` says.

        Args:
            requests: see `Requests.of`; histories of any lengths, empty ones included.
            options: how to write; the configuration's by default.
        """
        histories = checked_requests(requests, self.catalogue).histories
        return [thought for (thought,) in thoughts_about(self, histories, options)]

    def sample(
        self,
        prompts: Sequence[Prompt],
        options: GenerationOptions | None = None,
        *,
        num_samples: int = 1,
        seeds: Sequence[int] | None = None,
        writer: str | None = None,
    ) -> list[list[Completion]]:
        """Write `num_samples` thoughts behind each user prompt, by whom `config.thinker` says; see `Engine`."""
        return self.engine.sample(
            PrefixTree.rows(prompt.ids for prompt in prompts).share(),
            options or self.config.thought,
            writer=self._thinker() if writer is None else writer,
            num_samples=num_samples,
            stop=self.config.prompt.closing,
            suffix=self.prompts.closing_ids,
            seeds=seeds,
        )

    def _thinker(self) -> str:
        """Return the name under which the engine knows who writes."""
        if self.config.thinker == "base":
            return BASE
        if self.config.thinker == "trained" or not self.writer:
            return TRAINED
        return self._names.of(self.engine, self.writer)

    def user_states(
        self, histories: Sequence[History], thoughts: Sequence[Sequence[int]] | None = None, *, fast: bool = False
    ) -> Float[Tensor, "B D"]:
        """Read the closing that follows each history and the ids of a thought (or none), without gradient.

        Answers and figures are read in fp32: bf16 states depend on what was read beside them. `fast` reads in the
        weights' own format, for rewards in training, in half the time. Where items are tokens, what no thought follows
        is read at its newest item, a history together with those that go on from it, and no latent position is read.
        """
        with nullcontext() if fast else self.backbone.exact():
            if thoughts is None and self.prompts.answers_at_lines:
                return read_growing(self.backbone, [self.prompts.unthought(history) for history in histories])
            endings = [[*ids, *self.prompts.closing_ids] for ids in thoughts or [()] * len(histories)]
            return read_behind(self.backbone, [self.prompts.user(history).prompt for history in histories], endings)

    @torch.no_grad()
    def users_after(
        self, histories: Sequence[History], thoughts: Sequence[Completion] | None, *, fast: bool = False
    ) -> Float[Tensor, "B D"]:
        """Return unit vectors of users after thoughts that are already written, or without any.

        A `fast` answer, or one in fp32, takes the state in which the thought was written; see `user_states`. Where
        items are tokens, an answer to an empty history has nothing before it: biases alone order the catalogue.
        """
        if thoughts is None and self.prompts.answers_at_lines:
            return self._users_at_items(histories, fast=fast)
        states = [thought.last_state for thought in thoughts or () if thought.last_state is not None]
        is_reader = self.config.thinker == "trained" and self.asking is self.prompts
        kept = is_reader and (fast or self.backbone.dtype == torch.float32)
        if thoughts and kept and len(states) == len(thoughts):
            states_BD = torch.stack(states)
        else:
            written = None if thoughts is None else [thought.ids_before_stop for thought in thoughts]
            states_BD = self.user_states(histories, written, fast=fast)
        return self.head.user_vectors(states_BD)

    @torch.no_grad()
    def user_steps(
        self, histories: Sequence[History], *, fast: bool = False, exchanged: bool = False
    ) -> Float[Tensor, "B S D"]:
        """Read unit vectors of users at their newest items and at each latent position behind, without gradient.

        Args:
            histories: of any lengths, read late.
            fast: see `user_states`.
            exchanged: feed each latent position the states of another user, as a control; see `read_steps`.
        """
        prompts = [self.prompts.unthought(history) for history in histories]
        with nullcontext() if fast else self.backbone.exact():
            return self.head.step_vectors(read_steps(self.backbone, prompts, self.latents, exchanged=exchanged))

    def _users_at_items(self, histories: Sequence[History], *, fast: bool) -> Float[Tensor, "B D"]:
        """Read users at their newest items, or at the latent positions behind them."""
        users_BD = answered(self.user_steps(histories, fast=fast), self.config.latent.answer)
        empty_B = torch.tensor([len(history) == 0 for history in histories], dtype=torch.bool)
        return users_BD.masked_fill(empty_B.to(users_BD.device)[:, None], 0)

    @torch.no_grad()
    def catalogue_scores(self, states_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B I"]:
        """Score the whole catalogue from user states, without gradient; -inf for withdrawn items."""
        return self.vectors.scores(self.head.user_vectors(states_BD)).float()

    def ranks_after(
        self,
        requests: Requests,
        targets_B: Integer[np.ndarray, "B"],
        thoughts: Sequence[Completion] | None,
        *,
        filter_seen: bool = True,
    ) -> Int64[np.ndarray, "B"]:
        """Find the places of targets after thoughts that are written; see `target_ranks`."""
        written = None if thoughts is None else [[thought] for thought in thoughts]
        return self._ranks(self._users(requests, written, time.perf_counter()), targets_B, filter_seen)

    def scores(self, requests: Any, *, think: bool = False) -> Float32[np.ndarray, "B I"]:
        """Score the whole catalogue: cosine over temperature, plus bias. `retrieve` needs no matrix of this size.

        Args:
            requests: see `Requests.of`.
            think: write a thought first and score from its last hidden state.
        """
        read = self._read(requests, think, None)
        return self._compared(read).scores(read.users_BX).float().cpu().numpy()

    def retrieve(
        self,
        requests: Any,
        k: int,
        *,
        filter_seen: bool = True,
        think: bool = False,
        thought_options: GenerationOptions | None = None,
        samples: int = 1,
    ) -> Ranking:
        """Answer each request with its k best items; equal scores are ordered by catalogue row.

        Args:
            requests: see `Requests.of`. An empty history is answered from the prompt alone; repeated items are shown
                as often as they occur.
            k: how many items; an answer is no wider than the catalogue.
            filter_seen: leave the items of the history out.
            think: write a thought first; the answer carries it.
            thought_options: how to write it; the configuration's by default.
            samples: thoughts, all sampled, whose probabilities are averaged; the answer carries the first.
        """
        return self._found(self._read(requests, think, thought_options, samples), k, filter_seen)

    def target_ranks(
        self,
        requests: Any,
        targets_B: Integer[np.ndarray, "B"],
        *,
        filter_seen: bool = True,
        think: bool = False,
        thought_options: GenerationOptions | None = None,
        samples: int = 1,
    ) -> Int64[np.ndarray, "B"]:
        """Return the 1-based place of each target in the whole catalogue, equal scores before it.

        Args:
            requests: as for `retrieve`, and so
            think: and
            thought_options: and
            samples: are.
            targets_B: catalogue rows.
            filter_seen: leave the items of the history out; such a target has the place I + 1.
        """
        return self._ranks(self._read(requests, think, thought_options, samples), targets_B, filter_seen)

    def retrieve_with_ranks(
        self,
        requests: Any,
        k: int,
        targets_B: Integer[np.ndarray, "B"],
        *,
        filter_seen: bool = True,
        think: bool = False,
        thought_options: GenerationOptions | None = None,
        samples: int = 1,
    ) -> tuple[Ranking, Int64[np.ndarray, "B"]]:
        """Answer both `retrieve` and `target_ranks` from one thought, or a mean of several, and one reading."""
        read = self._read(requests, think, thought_options, samples)
        return self._found(read, k, filter_seen), self._ranks(read, targets_B, filter_seen)

    def rank(
        self,
        requests: Any,
        candidates: Any,
        *,
        think: bool = False,
        thought_options: GenerationOptions | None = None,
        samples: int = 1,
    ) -> Ranking:
        """Sort each request's candidates; equal scores are ordered by catalogue row.

        Args:
            requests: as for `retrieve`, and so
            think: and
            thought_options: and
            samples: are.
            candidates: a list for each request; see `Candidates.of`.

        Raises:
            ThinkrankError: if there is not one list for each request, or a list holds what is not in the catalogue.
        """
        requests = checked_requests(requests, self.catalogue)
        candidates = checked_candidates(candidates, self.catalogue, len(requests))
        read = self._read(requests, think, thought_options, samples)
        items_BN = torch.from_numpy(np.maximum(candidates.items_BN, 0)).long().to(read.users_BX.device)
        scores_BN = self._compared(read).scores_of(read.users_BX, items_BN).float().cpu().numpy()
        return read.completed(order_candidates(candidates, scores_BN, ties="row"))

    def _read(self, requests: Any, think: bool, thought_options: GenerationOptions | None, samples: int = 1) -> Reading:
        """Think if that is wanted, and read the result."""
        began, requests = time.perf_counter(), checked_requests(requests, self.catalogue)
        if not think:
            return self._users(requests, None, began)
        options = (thought_options or self.config.thought).for_samples(samples)
        return self._users(requests, thoughts_about(self, requests.histories, options, samples), began)

    def _users(self, requests: Requests, written: Sequence[Sequence[Completion]] | None, began: float) -> Reading:
        """Read requests after as many thoughts each; those about one history stand together and share its reading."""
        if written is None:
            return Reading(requests, self.users_after(requests.histories, None), None, began)
        each = len(written[0]) if written else 1
        histories = [history for history in requests.histories for _ in range(each)]
        users = self.users_after(histories, [thought for many in written for thought in many])
        users_BX = users.unflatten(0, (len(written), each)).flatten(1)
        further = [thought for many in written for thought in many[1:]]
        return Reading(requests, users_BX, [many[0] for many in written], began, each, further)

    def _found(self, read: Reading, k: int, filter_seen: bool) -> Ranking:
        items_BK, scores_BK = self._compared(read).search(read.users_BX, k, exclude=read.seen(filter_seen))
        return read.completed(Ranking(items_BK.int().cpu().numpy(), scores_BK.float().cpu().numpy()))

    def _ranks(self, read: Reading, targets_B: Integer[np.ndarray, "B"], filter_seen: bool) -> Int64[np.ndarray, "B"]:
        targets = torch.from_numpy(targets_B.astype(np.int64))
        return self._compared(read).target_ranks(read.users_BX, targets, exclude=read.seen(filter_seen)).cpu().numpy()

    def _compared(self, read: Reading) -> ItemTable:
        """Return what a reading is compared with."""
        return self.vectors if read.count == 1 else Mixture(self.vectors, read.count)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, adapter, head with table, catalogue and model card; the base weights are named, not copied."""
        save_parts(self, Path(folder), self._first_items)

    @classmethod
    def from_pretrained(
        cls,
        where: str | Path,
        *,
        backbone: Backbone | None = None,
        engine: Engine | None = None,
        device: str = "auto",
    ) -> "R2ec":
        """Load what `save_pretrained` wrote.

        Args:
            where: the folder, or a hub id such as `owner/name`.
            backbone: the base model without adapter, to use instead of loading the one the config names.
            engine: that writes the thoughts, with this backbone; None for the transformers engine. One that must know
                the adapter when it starts, such as vLLM's, is set afterwards as `model.engine`.
            device: where to put a loaded one; see `load_backbone`.

        Raises:
            ThinkrankError: if the folder is not a saved R²ec or its files do not fit together.
        """
        folder = local_folder(where)
        config = read_config(folder, cls.kind, R2ecConfig)
        kept = load_parts(folder, config, backbone, device)
        model = cls(config, kept.backbone, kept.catalogue, kept.head, kept.states, engine, latents=kept.latents)
        model.writer, model.crowd, model._first_items = kept.writer, kept.crowd, kept.first_items
        return model

"""R²ec: one language model, two heads.

Kept from the paper (arXiv 2505.16994, section 3.1): the same model reads users and items, both vectors are the hidden
state at the last token of the same closing, scores are normalised dot products over a temperature, the whole catalogue
is ranked. Changed or added in our own preset, each a switch: see `thinkrank.retrieve.r2ec.config`.

Shape legend: B users, I items of the catalogue, K answers, D width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors.torch import load_file
from torch import Tensor

from thinkrank.data import Catalogue, History, Split
from thinkrank.language import (
    Backbone,
    Completion,
    GenerationOptions,
    PrefixTree,
    Prompt,
    TransformersEngine,
    add_lora,
    load_backbone,
    load_lora,
    save_lora,
)
from thinkrank.language.engines.base import BASE, TRAINED
from thinkrank.language.reading import read_all, read_behind
from thinkrank.pretrained import finish, local_folder, reading, write_tensors
from thinkrank.prompts.retrieval import Prompts
from thinkrank.retrieve.r2ec.card import model_card
from thinkrank.retrieve.r2ec.config import ContrastiveOptions, R2ecConfig
from thinkrank.retrieve.r2ec.head import RetrievalHead
from thinkrank.stages.answers import Ranking
from thinkrank.stages.checks import check_histories
from thinkrank.stages.order import top_k
from thinkrank.stages.thoughts import thought_of
from thinkrank.training import Progress, Run, no_progress

_TABLE = "table_ID"
_WRITER_FILE = "writer.safetensors"


class R2ec:
    """A retriever that can think before it answers.

    Use `create` for an untrained model and `from_pretrained` for a saved one.

    Args:
        config: what it is made of.
        backbone: the language model, adapter included.
        catalogue: the items it ranks.
        head: from states to scores.
        table_ID: text state of each item; None encodes the catalogue now.

    Attributes:
        writer: the adapter's weights that write thoughts if `config.thinker` is "frozen"; the present ones if empty.
    """

    def __init__(
        self,
        config: R2ecConfig,
        backbone: Backbone,
        catalogue: Catalogue,
        head: RetrievalHead,
        table_ID: Float[Tensor, "I D"] | None = None,
    ) -> None:
        self.config = config
        self.backbone = backbone
        self.catalogue = catalogue
        self.head = head
        self.prompts = Prompts(backbone, catalogue, config.prompt)
        self.table_ID = self.encode_items(range(len(catalogue))) if table_ID is None else table_ID
        self.writer: dict[str, Tensor] = {}

    @classmethod
    def create(
        cls,
        config: R2ecConfig,
        catalogue: Catalogue,
        *,
        backbone: Backbone | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> "R2ec":
        """Build an untrained model: the base language model with an adapter that has no effect yet.

        Args:
            config: what to build.
            catalogue: the items to rank.
            backbone: a model without adapter to use instead of loading `config.backbone`; it gets one in place.
            seed: of the adapter's initial weights.
            device: where to put a loaded one; see `load_backbone`.
        """
        base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=catalogue.titles)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = add_lora(base, config.lora)
        head = RetrievalHead(len(catalogue), base.hidden_size, config.head).to(base.device)
        return cls(config, adapted, catalogue, head)

    def encode_items(self, rows: Sequence[int]) -> Float[Tensor, "N D"]:
        """Text states of some catalogue rows under the present weights, without gradient."""
        return read_all(self.backbone, [self.prompts.item(row) for row in rows])

    def refresh_table(self) -> None:
        """Encode the whole catalogue anew; needed after the weights changed."""
        self.table_ID = self.encode_items(range(len(self.catalogue)))

    def think(self, histories: Sequence[History], options: GenerationOptions | None = None) -> list[Completion]:
        """Write a thought about each history, by the base model or the trained one as `config.thinker` says.

        Args:
            histories: any lengths, empty ones included.
            options: how to write; the configuration's by default.
        """
        check_histories(histories, len(self.catalogue))
        written = self.sample([self.prompts.user(history).prompt for history in histories], options)
        return [continuation for (continuation,) in written]

    def sample(
        self,
        prompts: Sequence[Prompt],
        options: GenerationOptions | None = None,
        *,
        num_samples: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Write `num_samples` thoughts behind each user prompt, by whom `config.thinker` says; see `Engine`."""
        engine, writer = TransformersEngine(self.backbone), BASE if self.config.thinker == "base" else TRAINED
        if self.config.thinker == "frozen" and self.writer:
            writer = "frozen"
            engine.publish(writer, self.writer)
        return engine.sample(
            PrefixTree.rows(prompt.ids for prompt in prompts).share(),
            options or self.config.thought,
            writer=writer,
            num_samples=num_samples,
            stop=self.config.prompt.closing,
            suffix=self.prompts.closing_ids,
            seeds=seeds,
        )

    def user_states(
        self, histories: Sequence[History], thoughts: Sequence[Sequence[int]] | None = None
    ) -> Float[Tensor, "B D"]:
        """The state at the closing that follows each history and the ids of a thought (or none), without gradient."""
        endings = [[*ids, *self.prompts.closing_ids] for ids in thoughts or [()] * len(histories)]
        return read_behind(self.backbone, [self.prompts.user(history).prompt for history in histories], endings)

    @torch.no_grad()
    def catalogue_scores(self, states_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B I"]:
        """Score the whole catalogue from user states, without gradient."""
        return self.head.scores(self.head.user_vectors(states_BD), self.head.item_vectors(self.table_ID)).float()

    def scores_after(
        self, histories: Sequence[History], thoughts: Sequence[Completion] | None
    ) -> Float32[np.ndarray, "B I"]:
        """Score the whole catalogue after thoughts that are already written, one per history, or without any."""
        check_histories(histories, len(self.catalogue))
        if thoughts and self.config.thinker == "trained":  # who wrote is who reads: it has just read the closing
            states_BD = torch.stack([thought.last_state for thought in thoughts])
        else:
            written = None if thoughts is None else [thought.ids_before_stop for thought in thoughts]
            states_BD = self.user_states(histories, written)
        return self.catalogue_scores(states_BD).cpu().numpy()

    def scores(self, histories: Sequence[History], *, think: bool = False) -> Float32[np.ndarray, "B I"]:
        """Score the whole catalogue: cosine over temperature.

        Args:
            histories: an empty one is answered from the prompt alone; repeated items are shown as often as they occur.
            think: write a thought first and score from its last hidden state.
        """
        return self.scores_after(histories, self.think(histories) if think else None)

    def retrieve(
        self,
        histories: Sequence[History],
        k: int,
        *,
        filter_seen: bool = True,
        think: bool = False,
        thought_options: GenerationOptions | None = None,
    ) -> Ranking:
        """Answer each history with its k best items.

        Args:
            histories: as for `scores`.
            k: how many items; may exceed the catalogue.
            filter_seen: leave the items of the history out.
            think: write a thought first; the answer carries it.
            thought_options: how to write it; the configuration's by default.
        """
        continuations = self.think(histories, thought_options) if think else None
        thoughts = None if continuations is None else tuple(thought_of(written) for written in continuations)
        return top_k(
            self.scores_after(histories, continuations), histories, k, filter_seen=filter_seen, thoughts=thoughts
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, adapter, head with table, catalogue and model card; the base weights are named, not copied."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_lora(self.backbone, folder)
        if self.writer:
            write_tensors(folder / _WRITER_FILE, self.writer)
        write_tensors(folder / "head.safetensors", {**self.head.state_dict(), _TABLE: self.table_ID})
        self.catalogue.save(folder / "catalogue.parquet")
        finish(folder, self.config, model_card(self.config, len(self.catalogue)))

    def fit(self, split: Split, options: ContrastiveOptions, run: Run, *, progress: Progress = no_progress) -> Run:
        """Train in place without reasoning, resuming what the run's folder holds; see `train_contrastive`."""
        from thinkrank.retrieve.r2ec.contrastive import train_contrastive  # it needs this class

        return train_contrastive(self, split, options, run, progress=progress)

    @classmethod
    def from_pretrained(cls, where: str | Path, *, backbone: Backbone | None = None, device: str = "auto") -> "R2ec":
        """Load what `save_pretrained` wrote.

        Args:
            where: the folder, or a hub id such as `owner/name`.
            backbone: the base model without adapter, to use instead of loading the one the config names.
            device: where to put a loaded one; see `load_backbone`.

        Raises:
            ThinkrankError: if the folder is not a saved model or its files do not fit together.
        """
        folder = local_folder(where)
        with reading(folder):
            config = R2ecConfig.model_validate_json((folder / "config.json").read_bytes())
            catalogue = Catalogue.load(folder / "catalogue.parquet")
            tensors = load_file(folder / "head.safetensors")
            table_ID = tensors.pop(_TABLE)
            base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=catalogue.titles)
            head = RetrievalHead(len(catalogue), base.hidden_size, config.head)
            head.load_state_dict(tensors)
            adapted = load_lora(base, folder, config.lora)
            writer = load_file(folder / _WRITER_FILE) if (folder / _WRITER_FILE).is_file() else {}
        model = cls(config, adapted, catalogue, head.to(base.device), table_ID.to(base.device))
        model.writer = {name: tensor.to(base.device) for name, tensor in writer.items()}
        return model

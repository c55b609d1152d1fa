"""R²ec: one language model, two heads.

Kept from the paper (arXiv 2505.16994, section 3.1): the same model reads users and items, both vectors are the hidden
state at the last token of the same closing, scores are normalised dot products over a temperature, the whole catalogue
is ranked. Changed or added in our own preset, each a switch: see `thinkrank.retrieve.config`.

Shape legend: B users, I items of the catalogue, K answers, D width.
"""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from thinkrank._files import atomic_write
from thinkrank.data import Catalogue, History, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import (
    Backbone,
    Continuation,
    Forest,
    GenerationOptions,
    Prompt,
    TransformersSampler,
    add_lora,
    load_backbone,
    load_lora,
    save_lora,
)
from thinkrank.retrieve.card import model_card
from thinkrank.retrieve.config import ContrastiveOptions, R2ecConfig
from thinkrank.retrieve.encoder import read_all
from thinkrank.retrieve.head import RetrievalHead
from thinkrank.retrieve.prompts import Prompts
from thinkrank.stages import Ranking, Thought, check_histories, top_k
from thinkrank.training import Progress, Run, no_progress

_TABLE = "table_ID"


class R2ec:
    """A retriever that can think before it answers.

    Use `create` for an untrained model and `from_pretrained` for a saved one.

    Args:
        config: what it is made of.
        backbone: the language model, adapter included.
        catalogue: the items it ranks.
        head: from states to scores.
        table_ID: text state of each item; None encodes the catalogue now.
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

    def think(self, histories: Sequence[History], options: GenerationOptions | None = None) -> list[Continuation]:
        """Write a thought about each history, by the base model or the trained one as `config.thinker` says.

        Args:
            histories: any lengths, empty ones included.
            options: how to write; the configuration's by default.
        """
        check_histories(histories, len(self.catalogue))
        prompts = Forest.rows(self.prompts.user(history).prompt.ids for history in histories).share()
        options = options or self.config.thought
        writer = self.backbone.without_adapter() if self.config.thinker == "base" else nullcontext()
        with writer:
            written = TransformersSampler(self.backbone).sample(
                prompts, options, closing=self.config.prompt.closing, suffix=self.prompts.closing_ids
            )
        return [continuation for (continuation,) in written]

    def user_states(
        self, histories: Sequence[History], thoughts: Sequence[Continuation] | None = None
    ) -> Float[Tensor, "B D"]:
        """The state at the closing that follows each history and its thought (or no thought), without gradient."""
        written = [()] * len(histories) if thoughts is None else [thought.ids_before_stop for thought in thoughts]
        prompts: list[Prompt] = [
            self.prompts.close(self.prompts.user(history).prompt, ids)
            for history, ids in zip(histories, written, strict=True)
        ]
        return read_all(self.backbone, prompts)

    @torch.no_grad()
    def _scores(
        self, histories: Sequence[History], thoughts: Sequence[Continuation] | None
    ) -> Float32[np.ndarray, "B I"]:
        check_histories(histories, len(self.catalogue))
        if thoughts and self.config.thinker == "trained":  # who wrote is who reads: it has just read the closing
            states_BD = torch.stack([thought.last_state for thought in thoughts])
        else:
            states_BD = self.user_states(histories, thoughts)
        users_BD = self.head.user_vectors(states_BD)
        return self.head.scores(users_BD, self.head.item_vectors(self.table_ID)).float().cpu().numpy()

    def scores(self, histories: Sequence[History], *, think: bool = False) -> Float32[np.ndarray, "B I"]:
        """Score the whole catalogue: cosine over temperature.

        Args:
            histories: an empty one is answered from the prompt alone; repeated items are shown as often as they occur.
            think: write a thought first and score from its last hidden state.
        """
        return self._scores(histories, self.think(histories) if think else None)

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
        thoughts = None if continuations is None else tuple(_thought(written) for written in continuations)
        return top_k(self._scores(histories, continuations), histories, k, filter_seen=filter_seen, thoughts=thoughts)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, adapter, head with table, catalogue and model card; the base weights are named, not copied."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_lora(self.backbone, folder)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.head.state_dict().items()}
        with atomic_write(folder / "head.safetensors") as file:
            file.write(save({**tensors, _TABLE: self.table_ID.detach().cpu().contiguous()}))
        self.catalogue.save(folder / "catalogue.parquet")
        with atomic_write(folder / "README.md") as file:
            file.write(model_card(self.config, len(self.catalogue)).encode())
        with atomic_write(folder / "config.json") as file:  # last: a folder with a config is a whole model
            file.write((self.config.model_dump_json(indent=2) + "\n").encode())

    def fit(self, split: Split, options: ContrastiveOptions, run: Run, *, progress: Progress = no_progress) -> Run:
        """Train in place without reasoning, resuming what the run's folder holds; see `fit_contrastive`."""
        from thinkrank.retrieve.contrastive import fit_contrastive  # it needs this class

        return fit_contrastive(self, split, options, run, progress=progress)

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
        folder = _local_folder(where)
        if not (folder / "config.json").is_file():
            raise ThinkrankError(
                f"{folder}: no saved model here (no config.json). Give the folder a training run made."
            )
        try:
            config = R2ecConfig.model_validate_json((folder / "config.json").read_bytes())
            catalogue = Catalogue.load(folder / "catalogue.parquet")
            tensors = load_file(folder / "head.safetensors")
            table_ID = tensors.pop(_TABLE)
            base = backbone or load_backbone(config.backbone, dtype=config.dtype, device=device, texts=catalogue.titles)
            head = RetrievalHead(len(catalogue), base.hidden_size, config.head)
            head.load_state_dict(tensors)
            adapted = load_lora(base, folder, config.lora)
        except ThinkrankError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ThinkrankError(f"{folder}: the saved model is damaged or its files do not fit: {reason}") from error
        return cls(config, adapted, catalogue, head.to(base.device), table_ID.to(base.device))


def _local_folder(where: str | Path) -> Path:
    """The folder itself, or for a hub id the place of its downloaded files; of a repository only ours are taken."""
    if Path(where).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(where)):
        return Path(where)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(where), allow_patterns=["*.json", "*.safetensors", "catalogue.parquet"]))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ThinkrankError(f"{where}: neither a folder here nor to be had from the hub ({reason})") from error


def _thought(written: Continuation) -> Thought:
    return Thought(
        text=written.text.strip(),
        token_ids=np.asarray(written.ids, dtype=np.int32),
        logprobs=np.asarray(written.logprobs, dtype=np.float32),
        entropies=np.asarray(written.entropies, dtype=np.float32),
        finish_reason=written.finish_reason,
        seconds=written.seconds,
    )

"""EGLR: entropy-guided latent reasoning for re-ranking (arXiv 2601.13533).

Confirmed by readers of the paper: a generator writes the list item by item; where the entropy of its next choice is
high it first consumes latent reasoning tokens, mixtures of the candidates; thinking has a higher temperature than
choosing; a pre-trained evaluator's judgement rewards the generator, which is trained with GRPO. Everything else, the
architectures, losses and all numbers included, is reconstructed, as the docstrings say.

Shape legend: B displayed lists, K places, M lists written for each, R = B M rows.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.devices import named_device
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import (
    CATALOGUE_FILE,
    begin,
    finish,
    local_folder,
    read_config,
    reading,
    write_json,
    write_tensors,
)
from thinkrank.rerank.eglr.card import model_card
from thinkrank.rerank.eglr.config import EGLRConfig, ReasoningOptions, RewardKind
from thinkrank.rerank.eglr.decoding import Noise, Written
from thinkrank.rerank.eglr.evaluator import Evaluator
from thinkrank.rerank.eglr.report import EvaluatorReport
from thinkrank.rerank.eglr.writer import ListWriter
from thinkrank.rerank.lists import ListBatch, ListEncoder, ListSchema, batches, checked_lists
from thinkrank.rerank.lists.encoder import VECTORS
from thinkrank.stages.answers import Cost, Latent, Ranking
from thinkrank.stages.order import MOST_PLACES, order_candidates

_REPORT_FILE = "evaluator_report.json"


class EGLR:
    """Re-ranker that thinks where its choice is uncertain.

    Use `create` for an untrained model and `from_pretrained` for a saved one; `train_eglr` trains it. A list with fewer
    candidates than places is answered with all of them, in order; a list with one candidate with that one, a request
    without candidates with none; of equal scores the first candidate in the order given is chosen.

    Args:
        config: what it is made of.
        catalogue: the items.
        writer: encoder, generator and reasoner.
        evaluator: what judges lists.
        report: how far the evaluator may be trusted; None until it is trained.
    """

    kind: ClassVar[str] = "eglr"

    def __init__(
        self,
        config: EGLRConfig,
        catalogue: Catalogue,
        writer: ListWriter,
        evaluator: Evaluator,
        report: EvaluatorReport | None = None,
    ) -> None:
        self._config = config
        self.catalogue = catalogue
        self.writer = writer.eval()
        self.evaluator = evaluator.eval()
        self.report = report

    @classmethod
    def create(
        cls,
        config: EGLRConfig,
        train: ImpressionDataset,
        *,
        item_vectors_IE: Tensor | None = None,
        generator: nn.Module | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> "EGLR":
        """Build an untrained model.

        Args:
            config: what to build.
            train: the training lists, of which columns, means and deviations are taken.
            item_vectors_IE: a vector of each item's text, say; see `ListEncoder`.
            generator: one of your own; see `ListWriter`.
            seed: of the initial weights.
            device: auto, cpu, cuda, cuda:1 or mps.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            evaluator = Evaluator(ListEncoder.of(train, config.evaluator.lists, item_vectors_IE), config.evaluator)
            encoder = ListEncoder.of(train, config.lists, item_vectors_IE)
            writer = ListWriter(encoder, config.generator, config.reasoning, generator)
        place = named_device(device)
        return cls(config, train.catalogue, writer.to(place), evaluator.to(place))

    @property
    def config(self) -> EGLRConfig:
        """Return what it is made of; the threshold is the one that was calibrated."""
        return self._config.model_copy(update={"reasoning": self.writer.reasoning})

    @property
    def schema(self) -> ListSchema:
        """Tell what columns and codes of the lists it reads mean; with users if one of its encoders embeds them."""
        written, judged = self.writer.encoder.schema, self.evaluator.encoder.schema
        return written if written.users else judged

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return next(self.writer.parameters()).device

    def rerank(
        self,
        requests: Any,
        candidates: Any,
        k: int,
        *,
        reasoning: ReasoningOptions | None = None,
        samples: int = 1,
        reward: RewardKind = "mean",
        places: int | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ) -> Ranking:
        """Answer each request with k of its candidates in order.

        Args:
            requests: see `Requests.of`; of the same context columns as those of training; users may be new.
            candidates: see `Candidates.of`; of the same columns as the training lists; items and categories may be new.
            k: places; shorter lists are filled up with -1.
            reasoning: think in another way than configured.
            samples: lists to write for each request, the first greedily and the others at random, of which the
                evaluator picks one (the paper's Pass@K).
            reward: by which the evaluator picks.
            places: first ones of each list that the evaluator judges, as many as it rewarded in training; None: all.
            batch_size: lists answered together.
            seed: of the samples, and of the mode "random".

        Raises:
            ThinkrankError: if the lists lack columns, the threshold is not set, or several lists shall be picked from
                and the evaluator was never trained.
            ValueError: if k is below 1.
        """
        began = time.perf_counter()
        requests, candidates = checked_lists(requests, candidates, self.catalogue)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if k > MOST_PLACES:
            raise ThinkrankError(f"k must be at most {MOST_PLACES:,}, got {k:,}: an answer of lists is k places wide")
        if samples > 1 and self.report is None:
            raise ThinkrankError(
                "picking among samples needs an evaluator that was trained: train it, or take one sample"
            )
        if not candidates.mask_BN.any():
            return order_candidates(candidates, np.zeros(candidates.items_BN.shape), k)
        reader = self.schema.reader(requests, candidates)
        writer = self.writer if reasoning is None else self.writer.thinking(reasoning)
        random = torch.Generator().manual_seed(seed)
        written = [
            self.answer(reader(batch).to(self.device), k, writer, samples, reward=reward, places=places, random=random)
            for batch in batches(requests, candidates, batch_size, max_history=self._config.lists.max_history)
        ]
        return ranking_of(candidates, written, k, seconds=time.perf_counter() - began)

    @torch.inference_mode()
    def answer(
        self,
        batch: ListBatch,
        k: int,
        writer: ListWriter | None = None,
        samples: int = 1,
        *,
        reward: RewardKind = "mean",
        places: int | None = None,
        random: torch.Generator | None = None,
    ) -> Written:
        """Answer lists that are tensors in this model's rows and codes; arguments as for `rerank`."""
        written = self.written(batch, k, writer, samples, random)
        if samples == 1:
            return written
        judged_RK = written.columns_RK[:, :places]
        values_R = self.evaluator.rewards(self.evaluator.joint(batch), judged_RK, reward).sum(dim=1)
        return written.best_of(values_R.view(-1, samples))

    @torch.inference_mode()
    def written(
        self,
        batch: ListBatch,
        k: int,
        writer: ListWriter | None = None,
        samples: int = 1,
        random: torch.Generator | None = None,
    ) -> Written:
        """Write `samples` lists for each of the batch, one after another, of which the first is chosen greedily."""
        writer = writer or self.writer
        reasoning = writer.reasoning
        if reasoning.lacks_threshold:
            raise ThinkrankError(
                "reasoning.threshold is not set: give one, calibrate the writer on validation lists (reinforcement "
                "does so at its start), or set reasoning.mode to none"
            )
        context = writer.context(batch, samples)
        if samples == 1 and reasoning.mode != "random":
            return writer.write(context, k)
        rows, candidates = context.mask_RN.shape
        random = random or torch.Generator().manual_seed(0)
        noise = Noise.sample(rows, k, candidates, random, greedy_every=samples)
        return writer.write(context, k, noise.to(context.mask_RN.device))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, columns, weights of writer and evaluator, its report, the catalogue and a model card."""
        folder = begin(folder, _REPORT_FILE)
        for name, module in (("writer", self.writer), ("evaluator", self.evaluator)):
            write_tensors(folder / f"{name}.safetensors", module.state_dict())
        self.catalogue.save(folder / CATALOGUE_FILE)
        self.schema.save(folder / "schema.json")
        if self.report is not None:
            write_json(folder / _REPORT_FILE, self.report)
        finish(folder, self.kind, self.config, model_card(self.config, len(self.catalogue)))

    @classmethod
    def from_pretrained(cls, where: str | Path, *, generator: nn.Module | None = None, device: str = "auto") -> "EGLR":
        """Load what `save_pretrained` wrote.

        Args:
            where: a folder, or a hub id `owner/name`.
            generator: of the same make as the one it was created with, if that was your own.
            device: auto, cpu, cuda, cuda:1 or mps.

        Raises:
            ThinkrankError: if the folder is not a saved model or its files do not fit together.
        """
        folder = local_folder(where)
        config = read_config(folder, cls.kind, EGLRConfig)
        with reading(folder):
            catalogue = Catalogue.load(folder / CATALOGUE_FILE)
            schema = ListSchema.load(folder / "schema.json", catalogue)
            weights = load_file(folder / "writer.safetensors")
            vectors_IE = weights.get(VECTORS)
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
                encoder = ListEncoder(schema, config.lists, vectors_IE)
                writer = ListWriter(encoder, config.generator, config.reasoning, generator)
                evaluator = Evaluator(ListEncoder(schema, config.evaluator.lists, vectors_IE), config.evaluator)
            writer.load_state_dict(weights)
            evaluator.load_state_dict(load_file(folder / "evaluator.safetensors"))
            report_file = folder / _REPORT_FILE
            report = EvaluatorReport.model_validate_json(report_file.read_bytes()) if report_file.is_file() else None
        place = named_device(device)
        if report is not None:
            evaluator.freeze()
        return cls(config, catalogue, writer.to(place), evaluator.to(place), report)


def ranking_of(candidates: Candidates, written: Sequence[Written], k: int, *, seconds: float) -> Ranking:
    """Say in catalogue rows what was written.

    The lists of k places stand batch by batch; all of them took `seconds`.
    """

    def joined(name: str, kind: type[np.generic]) -> np.ndarray:
        parts = [getattr(part, name).cpu().numpy() for part in written]
        return np.concatenate([np.zeros((0, k)), *parts]).astype(kind)

    columns_BK = joined("columns_RK", np.int32)
    there_BK = columns_BK >= 0
    items_BK = np.take_along_axis(candidates.items_BN, np.maximum(columns_BK, 0).astype(np.int64), axis=1)
    return Ranking(
        items_BK=np.where(there_BK, items_BK, -1).astype(np.int32),
        scores_BK=np.where(there_BK, joined("logprobs_RK", np.float32), -np.inf).astype(np.float32),
        columns_BK=columns_BK,
        latent=Latent(
            joined("entropies_before_RK", np.float32),
            joined("entropies_after_RK", np.float32),
            joined("steps_RK", np.int32),
        ),
        cost=Cost(seconds),
    )

"""EGLR: entropy-guided latent reasoning for re-ranking (arXiv 2601.13533).

Confirmed by readers of the paper: a generator writes the list item by item; where the entropy of its next choice is
high it first consumes latent reasoning tokens, mixtures of the candidates; thinking has a higher temperature than
choosing; a pre-trained evaluator's judgement rewards the generator, which is trained with GRPO. Everything else, the
architectures, losses and all numbers included, is reconstructed, as the docstrings say.

Shape legend: B displayed lists, K places, M lists written for each, R = B M rows.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from thinkrank.data import Catalogue, ImpressionDataset, ImpressionSplit
from thinkrank.devices import default_device
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import finish, local_folder, reading, write_json, write_tensors
from thinkrank.rerank.eglr.card import model_card
from thinkrank.rerank.eglr.config import (
    EGLRConfig,
    EvaluatorTrainerOptions,
    GrpoOptions,
    ReasoningOptions,
    RewardKind,
    WarmStartOptions,
)
from thinkrank.rerank.eglr.decoding import Noise, Written
from thinkrank.rerank.eglr.evaluator import Evaluator
from thinkrank.rerank.eglr.orders import click_ndcg
from thinkrank.rerank.eglr.report import EvaluatorReport
from thinkrank.rerank.eglr.writer import ListWriter
from thinkrank.rerank.lists import ListBatch, ListEncoder, ListSchema, batches
from thinkrank.stages.answers import Slate
from thinkrank.training import Progress, Run, no_progress, train

Pick = Literal["evaluator", "oracle"]

_VECTORS = "encoder.item_vectors_IE"


class EGLR:
    """A re-ranker that thinks where its choice is uncertain.

    Use `create` for an untrained model and `from_pretrained` for a saved one. A list with fewer candidates than places
    is answered with all of them, in order; a list with one candidate with that one; of equal scores the first candidate
    in the order given is chosen. Feedback is not looked at, but by the oracle that `rerank` can be told to ask.

    Args:
        config: what it is made of.
        catalogue: the items.
        writer: encoder, generator and reasoner.
        evaluator: what judges lists.
        report: how far the evaluator may be trusted; None until it is trained.
    """

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
        place = default_device() if device == "auto" else torch.device(device)
        return cls(config, train.catalogue, writer.to(place), evaluator.to(place))

    @property
    def config(self) -> EGLRConfig:
        """What it is made of; the threshold is the one that was calibrated."""
        return self._config.model_copy(update={"reasoning": self.writer.reasoning})

    @property
    def schema(self) -> ListSchema:
        """What columns and codes of the lists it reads mean; with users if one of its encoders embeds them."""
        written, judged = self.writer.encoder.schema, self.evaluator.encoder.schema
        return written if written.users else judged

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.writer.parameters()).device

    def fit(
        self,
        split: ImpressionSplit,
        options: EvaluatorTrainerOptions | WarmStartOptions | GrpoOptions,
        run: Run,
        *,
        progress: Progress = no_progress,
    ) -> Run:
        """Train in place, resuming what the run's folder holds; which part is said by the kind of options.

        The order is: the evaluator, the warm start of the generator, its reinforcement.
        """
        from thinkrank.rerank.eglr.grpo import GrpoTrainer  # they need this class
        from thinkrank.rerank.eglr.supervised import EvaluatorTrainer, WarmStartTrainer

        match options:
            case EvaluatorTrainerOptions():
                return train(EvaluatorTrainer(self, split, options, run), progress)
            case WarmStartOptions():
                return train(WarmStartTrainer(self, split, options, run), progress)
            case GrpoOptions():
                return train(GrpoTrainer(self, split, options, run), progress)

    def rerank(
        self,
        lists: ImpressionDataset,
        k: int,
        *,
        reasoning: ReasoningOptions | None = None,
        samples: int = 1,
        pick: Pick = "evaluator",
        reward: RewardKind = "mean",
        places: int | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ) -> Slate:
        """Answer each list with k of its candidates in order.

        Args:
            lists: of the same columns as the training lists; items, users and categories may be new.
            k: places; shorter lists are filled up with -1.
            reasoning: think in another way than configured.
            samples: lists to write for each request, the first greedily and the others at random, of which one is
                picked (the paper's Pass@K).
            pick: by whom: "evaluator", or "oracle" for the list of the best NDCG by the feedback itself. The oracle is
                an upper bound that no system reaches; label it so wherever it is shown.
            reward: by which the evaluator picks.
            places: first ones of each list that the evaluator judges, as many as it rewarded in training; None: all.
            batch_size: lists answered together.
            seed: of the samples, and of the mode "random".

        Raises:
            ThinkrankError: if the lists have other columns, the threshold is not set, or the evaluator shall pick and
                was never trained.
        """
        reader = self.schema.reader(lists)
        if samples > 1 and pick == "evaluator" and self.report is None:
            raise ThinkrankError(
                "picking among samples needs an evaluator that was trained: fit it, or take one sample"
            )
        writer = self.writer if reasoning is None else self.writer.thinking(reasoning)
        random = torch.Generator().manual_seed(seed)
        written = [
            self.answer(reader(batch).to(self.device), k, writer, samples, pick, reward, random, places)
            for batch in batches(lists, batch_size, max_history=self._config.lists.max_history)
        ]
        return _slate(lists, written, k)

    @torch.inference_mode()
    def answer(
        self,
        batch: ListBatch,
        k: int,
        writer: ListWriter | None = None,
        samples: int = 1,
        pick: Pick = "evaluator",
        reward: RewardKind = "mean",
        random: torch.Generator | None = None,
        places: int | None = None,
    ) -> Written:
        """Answer a batch of lists that is already made of tensors; arguments as for `rerank`."""
        writer = writer or self.writer
        _check_threshold(writer.reasoning)
        context = writer.context(batch, samples)
        draws = _draws(writer.reasoning, context.mask_RN, k, samples, random or torch.Generator().manual_seed(0))
        written = writer.write(context, k, draws)
        if samples == 1:
            return written
        if pick == "oracle":
            values_R = click_ndcg(written.columns_RK, batch.feedback_BN.repeat_interleave(samples, dim=0))
        else:
            judged_RK = written.columns_RK[:, :places]
            values_R = self.evaluator.rewards(self.evaluator.joint(batch), judged_RK, reward).sum(dim=1)
        return written.best_of(values_R.view(-1, samples))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, columns, weights of writer and evaluator, its report, the catalogue and a model card."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in (("writer", self.writer), ("evaluator", self.evaluator)):
            write_tensors(folder / f"{name}.safetensors", module.state_dict())
        self.catalogue.save(folder / "catalogue.parquet")
        write_json(folder / "schema.json", self.schema)
        if self.report is not None:
            write_json(folder / "evaluator_report.json", self.report)
        finish(folder, self.config, model_card(self.config, len(self.catalogue)))

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
        with reading(folder):
            config = EGLRConfig.model_validate_json((folder / "config.json").read_bytes())
            schema = ListSchema.model_validate_json((folder / "schema.json").read_bytes())
            catalogue = Catalogue.load(folder / "catalogue.parquet")
            weights = load_file(folder / "writer.safetensors")
            vectors_IE = weights.get(_VECTORS)
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
                encoder = ListEncoder(schema, config.lists, vectors_IE)
                writer = ListWriter(encoder, config.generator, config.reasoning, generator)
                evaluator = Evaluator(ListEncoder(schema, config.evaluator.lists, vectors_IE), config.evaluator)
            writer.load_state_dict(weights)
            evaluator.load_state_dict(load_file(folder / "evaluator.safetensors"))
            report_file = folder / "evaluator_report.json"
            report = EvaluatorReport.model_validate_json(report_file.read_bytes()) if report_file.is_file() else None
        place = default_device() if device == "auto" else torch.device(device)
        if report is not None:
            evaluator.freeze()
        return cls(config, catalogue, writer.to(place), evaluator.to(place), report)


def _check_threshold(reasoning: ReasoningOptions) -> None:
    if reasoning.mode == "entropy" and reasoning.max_steps and reasoning.threshold is None:
        raise ThinkrankError(
            "reasoning.threshold is not set: give one, calibrate the writer on validation lists (reinforcement does "
            "so at its start), or set reasoning.mode to none"
        )


def _draws(reasoning: ReasoningOptions, mask_RN: Tensor, k: int, samples: int, random: torch.Generator) -> Noise | None:
    """Chance for lists of which the first of every request is chosen greedily."""
    if samples == 1 and reasoning.mode != "random":
        return None
    draws = Noise.sample(len(mask_RN), k, mask_RN.shape[1], random, greedy_every=samples)
    return draws.to(mask_RN.device)


def _slate(lists: ImpressionDataset, written: list[Written], k: int) -> Slate:
    def joined(name: str, kind: type[np.generic]) -> np.ndarray:
        parts = [getattr(part, name).cpu().numpy() for part in written]
        return np.concatenate([np.zeros((0, k)), *parts]).astype(kind)

    columns_BK = joined("columns_RK", np.int32)
    there_BK = columns_BK >= 0
    items_BK = np.take_along_axis(lists.items_LN, np.maximum(columns_BK, 0).astype(np.int64), axis=1)
    return Slate(
        items_BK=np.where(there_BK, items_BK, -1).astype(np.int32),
        columns_BK=columns_BK,
        scores_BK=np.where(there_BK, joined("logprobs_RK", np.float32), -np.inf).astype(np.float32),
        entropies_before_BK=joined("entropies_before_RK", np.float32),
        entropies_after_BK=joined("entropies_after_RK", np.float32),
        steps_BK=joined("steps_RK", np.int32),
    )

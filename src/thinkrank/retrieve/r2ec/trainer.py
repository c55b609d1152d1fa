"""What every training of R²ec shares: the item table, and validation with or without a thought.

Shape legend: S samples, N some items, D width.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from thinkrank.data.splits import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import Completion
from thinkrank.language.adapters import adapter_state
from thinkrank.language.reading import read_last
from thinkrank.policy import ndcg_reward
from thinkrank.retrieve.approximate import recall
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.options import RetrieverTrainerOptions
from thinkrank.retrieve.r2ec.weights import set_weights, weights
from thinkrank.retrieve.r2ec.writing import begin_writer, writes_apart
from thinkrank.training import AdapterTrainer, Run
from thinkrank.training.rehearsal import seconds_of

_REHEARSED = 8
"""Samples on which the cost of a validation is measured."""
_SEARCHED = 256
"""Samples whose best items are searched for with an index and without."""
_SHOWN_THOUGHTS = 20
"""Thoughts that a validation keeps in the log, always of the same samples."""

OptionsT = TypeVar("OptionsT", bound=RetrieverTrainerOptions)


class RetrieverTrainer(AdapterTrainer[OptionsT]):
    """One training of R²ec in progress.

    Args:
        model: trained in place.
        split: train and valid parts are used, test is not touched.
        options: how to train.
        run: the folder for checkpoints and the log.
    """

    ways: tuple[bool, ...] = (False,)
    """How validations answer, with a thought or without; the first one is what the best weights are chosen by."""

    def __init__(self, model: R2ec, split: Split, options: OptionsT, run: Run) -> None:
        if not len(split.train):
            raise ThinkrankError("the split has no training samples")
        tokens = model.backbone.items
        head = [*model.head.parameters(), *(() if tokens is None else tokens.parameters())]
        adapter = [*adapter_state(model.backbone).values()]
        if model.latents is not None:
            adapter, head = [*adapter, *model.latents.maps], [*head, model.latents.vectors_KD]
        writer = begin_writer(model)
        super().__init__([*adapter, *writer], head, options, run)
        self.clipped, self.clipped_apart = adapter, writer
        self.model, self.split = model, split
        self.validation = split.valid.subset(options.validation_samples, options.seed)
        self.validation_size = len(self.validation)
        model.states.written_I.zero_()

    def learns_thoughts(self) -> None:
        """Let the model say that it can think, which a late reader has to learn."""
        config = self.model.config
        if not config.thinks:
            self.model.reconfigure(config.model_copy(update={"learnt_thoughts": True}))

    def rehearse_validation(self) -> tuple[int, float]:
        """Measure on some of the samples."""
        whole = self.validation
        self.validation = whole.subset(_REHEARSED, self.options.seed)
        seconds = seconds_of(self.measure) / max(1, len(self.validation))
        self.validation = whole
        return len(whole), seconds

    def update(self) -> float:
        """Update, and let the engine know if the writer is another one now."""
        norm = super().update()
        self._republish()
        return norm

    def _republish(self) -> None:
        if writes_apart(self.model):
            self.model.writer = {**self.model.writer}

    def weights(self) -> dict[str, Tensor]:
        """Return adapter, head and item table."""
        return weights(self.model)

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back into the model."""
        set_weights(self.model, tensors)
        self._republish()

    def extra_tensors(self) -> dict[str, Tensor]:
        """Tell when each row of the item table was encoded."""
        return {"encoded_at": self.model.states.written_I}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `extra_tensors` gave."""
        self.model.states.written_I.copy_(tensors["encoded_at"])

    def encode(self, items_N: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """Read texts of items with gradient; the table takes over the values, so its rows are as fresh as can be.

        Several processes, all of which ask for the same items, read a share each.
        """
        rows, weight = self.world.part(items_N.tolist())
        with self.apart():
            states_ND = read_last(self.model.backbone, [self.model.prompts.item(row) for row in rows])
        states_ND = self.world.gather(states_ND if weight else states_ND[:0])
        self.model.states.write(items_N, states_ND.detach(), step=self.counters.step)
        return states_ND

    def after_step(self, *, validates: bool) -> None:
        """Encode the whole item table under the present weights where it is due."""
        if not validates and self.counters.step % self.options.refresh_every:
            return
        started = time.perf_counter()
        self.refresh(torch.arange(len(self.model.catalogue)))
        self.counters.seconds += time.perf_counter() - started

    def refresh(self, rows_N: Int64[Tensor, "N"], *, fast: bool = False) -> None:
        """Encode rows of the item table anew, each process its share of them, without gradient."""
        mine = rows_N[self.world.share(len(rows_N))].tolist()
        states_ND = self.world.gather(self.model.encode_items(mine, fast=fast))
        self.model.states.write(rows_N, states_ND, step=self.counters.step)

    def measure(self) -> dict[str, float]:
        """Return NDCG@10 and Hit@10 on the validation subset, in each of the `ways`."""
        row: dict[str, float] = {}
        mine = self.world.share(len(self.validation))
        samples = self.validation[mine]
        for think in self.ways if len(self.validation) else ():
            thoughts = self._think(samples, range(len(self.validation))[mine]) if think else None
            ranks = self.world.gather(torch.from_numpy(sample_ranks(self.model, samples, thoughts)))
            self.validated(len(self.validation) / len(self.ways))
            name = "valid_thinking" if think else "valid"
            row[f"{name}_ndcg@10"] = ndcg_reward(ranks, 10).mean().item()
            row[f"{name}_hit@10"] = (ranks <= 10).float().mean().item()
            if thoughts is not None:
                tokens = self.world.total(sum(len(thought.ids) for thought in thoughts))
                row["valid_thought_tokens"] = tokens / len(self.validation)
                self._show(thoughts, ranks.tolist(), mine.start)
        return row | self._index_recall()

    def _index_recall(self) -> dict[str, float]:
        """Tell which share of the ten best items an index finds; nothing where all items are compared."""
        if self.model.vectors.options.index == "exact" or not len(self.validation):
            return {}
        histories = self.validation.subset(_SEARCHED, self.options.seed).histories()
        users = [self.model.users_after(histories[n : n + 64], None) for n in range(0, len(histories), 64)]
        return {"valid_index_recall@10": recall(self.model.vectors, torch.cat(users), 10)}

    def _think(self, samples: Samples, numbers: range) -> list[Completion]:
        """Write a thought about each sample, which depends on its number among all."""
        if self.model.config.thinker == "crowd":
            return self.model.think(samples.histories())
        prompts = [self.model.asking.user(history).prompt for history in samples.histories()]
        return [thought for (thought,) in self.model.sample(prompts, seeds=numbers)] if prompts else []

    def log(self, **values: float) -> None:
        """Append a row to the run's log."""
        super().log(temperature=self.model.head.log_temperature.exp().item(), **values)

    def _show(self, thoughts: Sequence[Completion], ranks: Sequence[int], first: int) -> None:
        """Keep some thoughts in the log, to be compared with those of other steps.

        Args:
            thoughts: of this process.
            ranks: of all of them.
            first: number of the first thought among all.
        """
        count = min(_SHOWN_THOUGHTS, len(ranks))
        chosen = [i * len(ranks) // count for i in range(count)]
        shown = [
            {
                "position": int(self.validation.positions[i]),
                "text": thoughts[i - first].text.strip(),
                "tokens": len(thoughts[i - first].ids),
                "finish_reason": thoughts[i - first].finish_reason,
                "rank": ranks[i],
            }
            for i in chosen
            if first <= i < first + len(thoughts)
        ]
        self.run.log({"step": self.counters.step, "thoughts": self.world.gathered(shown)})


def sample_ranks(
    model: R2ec, samples: Samples, thoughts: Sequence[Completion] | None = None, *, batch_size: int = 64
) -> Int64[np.ndarray, "S"]:
    """Find the 1-based rank of each sample's target over the whole catalogue, seen items left out unless they repeat.

    Args:
        model: what ranks.
        samples: what to predict.
        thoughts: what was written about each history; None to answer without.
        batch_size: samples scored at a time.
    """
    leave_out = not samples.dataset.repeats
    ranks = [
        model.ranks_after(
            requests, samples.targets[part], None if thoughts is None else thoughts[part], filter_seen=leave_out
        )
        for part, requests in samples.requests().batches(batch_size)
    ]
    return np.concatenate([np.zeros(0, np.int64), *ranks])

"""What every training of R²ec shares: optimiser, item table, validation, log, checkpoints, and the loop around a step.

The batch order, the weights and the log are functions of the configuration and the seed, so a run killed at any moment
and started again ends with the same weights, bit for bit on one CPU process.

Shape legend: I items of the catalogue, S samples, N some items, D width.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from thinkrank.data import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import Continuation
from thinkrank.language.adapters import adapter_state
from thinkrank.policy import ndcg_reward
from thinkrank.retrieve.config import FitOptions
from thinkrank.retrieve.encoder import read_last
from thinkrank.retrieve.model import R2ec
from thinkrank.stages import mask_seen, target_ranks
from thinkrank.training import (
    Progress,
    Run,
    latest_checkpoint,
    load_optimizer_tensors,
    no_progress,
    optimizer_tensors,
    warmup_factor,
    write_checkpoint,
)

_TABLE = "table"
_SHOWN_THOUGHTS = 20
"""Thoughts that a validation keeps in the log, always of the same samples."""

OptionsT = TypeVar("OptionsT", bound=FitOptions)

logger = logging.getLogger(__name__)


@dataclass
class Counters:
    """What a resumed run must remember beside its tensors.

    Attributes:
        step: steps made.
        examples: predictions trained on.
        tokens: tokens read with gradient.
        drawn: training samples drawn so far, where a step draws samples.
        seconds: of training, validations and refreshes included.
        best: highest validation NDCG@10.
        best_step: where it was.
        validations_since_best: for `patience`.
        stopped: why the run ended early; empty if it has not.
    """

    step: int = 0
    examples: int = 0
    tokens: int = 0
    drawn: int = 0
    seconds: float = 0.0
    best: float = -1.0
    best_step: int = 0
    validations_since_best: int = 0
    stopped: str = ""


class Fit(Generic[OptionsT]):
    """One training in progress. A method defines `step` and what precedes the first one (`prepare`).

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
        self.model, self.split, self.options, self.run = model, split, options, run
        self.counters = Counters()
        self.validation = split.valid.subset(options.validation_samples, options.seed)
        self.adapter = list(adapter_state(model.backbone).values())
        head_parameters = [p for p in model.head.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": self.adapter, "lr": options.learning_rate, "weight_decay": options.weight_decay}
        ]
        if head_parameters:
            groups.append({"params": head_parameters, "lr": options.head_learning_rate, "weight_decay": 0.0})
        self.rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        self.best: dict[str, Tensor] = {}
        self.encoded_at_I = torch.zeros(len(model.catalogue), dtype=torch.long)

    def prepare(self) -> None:
        """Decide what is decided before the first step."""

    def extra_tensors(self) -> dict[str, Tensor]:
        """What else a checkpoint must keep."""
        return {}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `extra_tensors` gave."""

    def step(self) -> str:
        """Make one step and return a short note on it for the progress bar."""
        raise NotImplementedError

    def start(self) -> None:
        """Continue from the newest checkpoint, or prepare a fresh run."""
        checkpoint = latest_checkpoint(self.run.checkpoints)
        if checkpoint is None:
            torch.manual_seed(self.options.seed)
            self.prepare()
            self.run.rewind(-1)
            self.validate()
            return
        set_weights(self.model, _under("now/", checkpoint.tensors))
        self.best = _under("best/", checkpoint.tensors)
        self.restore_extra(_under("extra/", checkpoint.tensors))
        self.encoded_at_I = checkpoint.tensors["encoded_at"]
        load_optimizer_tensors(self.optimizer, checkpoint.tensors)
        torch.set_rng_state(checkpoint.tensors["torch_rng"])
        self.counters = Counters(**checkpoint.state)
        self.run.rewind(checkpoint.step)

    def train(self, progress: Progress) -> None:
        """Step, refresh, validate and save as the options say, until the last step, the time limit or `patience`."""
        options, counters = self.options, self.counters
        with progress("training", options.steps) as advance:
            advance(counters.step)
            while counters.step < options.steps and not counters.stopped:
                note = self.step()
                over = options.max_minutes is not None and counters.seconds > 60 * options.max_minutes
                if over and counters.step < options.steps:
                    counters.stopped = f"{options.max_minutes:g} minutes are over"
                last = counters.step == options.steps or bool(counters.stopped)
                validate = last or counters.step % options.validate_every == 0
                if validate or counters.step % options.refresh_every == 0:
                    self.refresh()
                if validate:
                    self.validate()
                if last or counters.stopped or counters.step % options.checkpoint_every == 0:
                    self.save()
                advance(1, note=f"{note}, best NDCG@10 {counters.best:.4f}")
        if counters.stopped:
            logger.warning("training stopped after %d of %d steps: %s", counters.step, options.steps, counters.stopped)
        if self.best:
            set_weights(self.model, self.best)

    def learning_rate(self) -> float:
        """Set the rates of this step and return the adapter's."""
        options = self.options
        factor = warmup_factor(
            self.counters.step, warmup_steps=options.warmup_steps, total_steps=options.steps, decay=options.schedule
        )
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        return self.rates[0] * factor

    def update(self) -> float:
        """Clip the adapter's gradient, step the optimiser, and return the norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self.adapter, self.options.grad_clip).item()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def encode(self, items_N: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """Text states of items with gradient; the table takes over their values, so its rows are as fresh as can be."""
        states_ND = read_last(self.model.backbone, [self.model.prompts.item(row) for row in items_N.tolist()])
        self.model.table_ID = self.model.table_ID.index_copy(0, items_N, states_ND.detach())
        self.encoded_at_I[items_N.cpu()] = self.counters.step
        return states_ND

    def refresh(self) -> None:
        """Encode the whole item table under the present weights."""
        started = time.perf_counter()
        self.model.refresh_table()
        self.encoded_at_I.fill_(self.counters.step)
        self.counters.seconds += time.perf_counter() - started

    def validate(self) -> None:
        """Measure NDCG@10 and Hit@10 on the validation subset and keep the best weights."""
        if not len(self.validation):
            return
        started, counters, row = time.perf_counter(), self.counters, {}
        for think in self.ways:
            thoughts = self.model.think(self.validation.histories()) if think else None
            ranks = torch.from_numpy(sample_ranks(self.model, self.validation, thoughts))
            name = "valid_thinking" if think else "valid"
            row[f"{name}_ndcg@10"] = ndcg_reward(ranks, 10).mean().item()
            row[f"{name}_hit@10"] = (ranks <= 10).float().mean().item()
            if thoughts is not None:
                row["valid_thought_tokens"] = sum(len(thought.ids) for thought in thoughts) / len(thoughts)
                self._show(thoughts, ranks.tolist())
        ndcg = row["valid_thinking_ndcg@10" if self.ways[0] else "valid_ndcg@10"]
        if ndcg > counters.best:
            counters.best, counters.best_step, counters.validations_since_best = ndcg, counters.step, 0
            if self.options.keep == "best":
                self.best = {name: tensor.clone() for name, tensor in weights(self.model).items()}
        else:
            counters.validations_since_best += 1
        counters.seconds += time.perf_counter() - started
        self.log(**row)
        patience = self.options.patience
        waited = patience is not None and counters.validations_since_best >= patience
        if waited and counters.step < self.options.steps:
            counters.stopped = f"no better validation in {patience} tries"

    def _show(self, thoughts: Sequence[Continuation], ranks: Sequence[int]) -> None:
        """Keep some thoughts in the log, to be compared with those of other steps."""
        count = min(_SHOWN_THOUGHTS, len(thoughts))
        chosen = [i * len(thoughts) // count for i in range(count)]
        shown = [
            {
                "position": int(self.validation.positions[i]),
                "text": thoughts[i].text.strip(),
                "tokens": len(thoughts[i].ids),
                "finish_reason": thoughts[i].finish_reason,
                "rank": ranks[i],
            }
            for i in chosen
        ]
        self.run.log({"step": self.counters.step, "thoughts": shown})

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {
            **{f"now/{name}": tensor for name, tensor in weights(self.model).items()},
            **{f"best/{name}": tensor for name, tensor in self.best.items()},
            **{f"extra/{name}": tensor for name, tensor in self.extra_tensors().items()},
            **optimizer_tensors(self.optimizer),
            "torch_rng": torch.get_rng_state(),
            "encoded_at": self.encoded_at_I,
        }
        write_checkpoint(self.run.checkpoints, self.counters.step, tensors, vars(self.counters))

    def log(self, **values: float) -> None:
        """Append a row to the run's log."""
        counters = self.counters
        self.run.log(
            {
                "step": counters.step,
                "examples": counters.examples,
                "tokens": counters.tokens,
                "seconds": round(counters.seconds, 3),
                "temperature": self.model.head.log_temperature.exp().item(),
                **values,
            }
        )


def carry_out(fit: Fit[Any], progress: Progress = no_progress) -> Run:
    """Start or resume a training and bring it to its end."""
    fit.start()
    fit.train(progress)
    return fit.run


def sample_ranks(
    model: R2ec, samples: Samples, thoughts: Sequence[Continuation] | None = None, *, batch_size: int = 64
) -> Int64[np.ndarray, "S"]:
    """1-based rank of each sample's target over the whole catalogue, seen items left out.

    Args:
        model: what ranks.
        samples: what to predict.
        thoughts: what was written about each history; None to answer without.
        batch_size: samples scored at a time.
    """
    histories, ranks = samples.histories(), []
    for start in range(0, len(histories), batch_size):
        part = slice(start, start + batch_size)
        scores_BI = model.scores_after(histories[part], None if thoughts is None else thoughts[part])
        ranks.append(target_ranks(mask_seen(scores_BI, histories[part]), samples.targets[part]))
    return np.concatenate(ranks)


def prepare_head(model: R2ec, split: Split, states_ND: Float[Tensor, "N D"], is_line_N: Bool[Tensor, "N"]) -> None:
    """Fix what an untrained head decides before the first update: origins, first biases, who may have a residual.

    Args:
        model: untrained.
        split: of its train part the items are counted.
        states_ND: some user states.
        is_line_N: which of them stand at the end of a history line.
    """
    events = np.concatenate([history.items for history in split.train_histories()])
    device = model.backbone.device
    model.head.prepare(torch.from_numpy(np.bincount(events, minlength=len(model.catalogue))).to(device))
    if model.config.head.centred:
        model.head.center_on(states_ND, is_line_N.to(device), model.table_ID)


def weights(model: R2ec) -> dict[str, Tensor]:
    """Everything training changes, as live tensors."""
    adapter = {f"adapter/{name}": tensor.detach() for name, tensor in adapter_state(model.backbone).items()}
    head = {f"head/{name}": tensor.detach() for name, tensor in model.head.state_dict().items()}
    return {**adapter, **head, _TABLE: model.table_ID}


def set_weights(model: R2ec, tensors: dict[str, Tensor]) -> None:
    """Copy what `weights` returned back into the model."""
    with torch.no_grad():
        for name, tensor in weights(model).items():
            if name == _TABLE:
                model.table_ID = tensors[name].clone().to(tensor.device)
            else:
                tensor.copy_(tensors[name])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
